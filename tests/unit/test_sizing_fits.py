"""The file of fits."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo.errors import RunDirectoryError
from hpo.sizing.fits import Fit, FitsLog, failed
from hpo.trial import FailureKind

FIT = Fit(100, 1, {"val_error": 0.25}, 1.5)


def _reopened(path: Path) -> list[Fit]:
    log = FitsLog(path, "val_error")
    log.close()
    return log.fits


def test_what_was_appended_is_there_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "fits.jsonl"
    log = FitsLog(path, "val_error")
    log.append(FIT)
    assert _reopened(path) == [FIT]  # before anybody closed it
    log.append(Fit(200, 0, {"val_error": 0.2}, 2.0))
    log.close()
    assert [fit.size for fit in _reopened(path)] == [100, 200]


def test_half_a_line_is_passed_over_and_ends_no_other_line(tmp_path: Path) -> None:
    path = tmp_path / "fits.jsonl"
    path.write_bytes(b'{"size": 5, "see')
    log = FitsLog(path, "val_error")
    assert log.fits == []
    log.append(FIT)
    log.close()
    assert _reopened(path) == [FIT]


@pytest.mark.parametrize("line", [b"null", b"[]", b"{}", b"\xff\xfe", b'{"size": 1}', b""])
def test_what_is_no_fit_is_passed_over(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "fits.jsonl"
    path.write_bytes(line + b"\n")
    assert _reopened(path) == []


def test_a_failure_is_kept_in_the_file_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "fits.jsonl"
    log = FitsLog(path, "val_error")
    log.append(failed(10, 0, 1.0, FailureKind.DIVERGED, "it became nan"))
    log.close()
    assert "it became nan" in path.read_text()
    assert _reopened(path) == []


def test_of_equal_fits_the_first_counts(tmp_path: Path) -> None:
    path = tmp_path / "fits.jsonl"
    log = FitsLog(path, "val_error")
    log.append(FIT)
    log.append(Fit(100, 1, {"val_error": 0.9}, 1.0))
    log.close()
    assert _reopened(path) == [FIT]


def test_fits_that_measured_another_metric_do_not_count(tmp_path: Path) -> None:
    path = tmp_path / "fits.jsonl"
    log = FitsLog(path, "val_error")
    log.append(FIT)
    log.close()
    log = FitsLog(path, "val_loss")
    log.close()
    assert log.fits == []
    assert log.reported == ["val_error"]


def test_a_folder_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunDirectoryError, match="cannot write"):
        FitsLog(tmp_path / "file" / "fits.jsonl", "val_error")
