"""What is left of a fit whose machine fails while a file is written, and what is not loaded."""

import hashlib
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path

import pytest
import torch
from torch import nn

from hpo.trainers.checkpoints import Checkpoints, write
from hpo.trainers.fit_files import UNFINISHED, WEIGHTS, delete_all, state_file

on_posix = pytest.mark.skipif(os.name != "posix", reason="others cannot do so to files and folders")


@contextmanager
def no_file_over(n: int) -> Iterator[None]:
    """As if a disk were full after n bytes of each file."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@on_posix
def test_a_file_that_cannot_be_written_to_its_end_is_as_it_was_before(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "file"
    with no_file_over(1000), pytest.raises(OSError, match="too large"):
        write(file, b"1" * 2000)
    assert not file.exists()
    write(file, b"0" * 1500)
    with no_file_over(1000), pytest.raises(OSError, match="too large"):
        write(file, b"1" * 2000)
    assert file.read_bytes() == b"0" * 1500
    write(file, b"1" * 2000)  # over what the last one has left
    assert file.read_bytes() == b"1" * 2000
    assert [*file.parent.iterdir()] == [file]


@on_posix
def test_a_file_is_on_the_disk_before_it_has_its_name_and_then_so_is_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # That a disk really has what it was told to keep is only seen when the power fails.
    file, fsync = tmp_path / "file", os.fsync
    write(file, b"old")
    told: list[tuple[int, bytes]] = []

    def noted(descriptor: int) -> None:
        about = os.fstat(descriptor)
        told.append((about.st_ino, file.read_bytes()))
        assert stat.S_ISDIR(about.st_mode) or about.st_size == len(b"the new")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    write(file, b"the new")
    monkeypatch.undo()
    assert told == [(file.stat().st_ino, b"old"), (tmp_path.stat().st_ino, b"the new")]


@on_posix
def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    checkpoints = Checkpoints(tmp_path)
    for epoch in (1, 2):
        checkpoints.save(epoch, {"epoch": epoch})
    with no_file_over(1000), pytest.raises(OSError, match="too large"):
        checkpoints.save(3, {"epoch": 3, "weights": torch.zeros(1000)})
    assert checkpoints.load() == {"epoch": 2}
    assert not caplog.records  # nothing is damaged
    assert sorted(tmp_path.glob("*.pt")) == [state_file(tmp_path, epoch) for epoch in (1, 2)]


@on_posix
def test_weights_that_cannot_be_written_leave_those_before_and_the_checkpoints(
    tmp_path: Path,
) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.finish(nn.Linear(1, 1), "digest")
    before = (tmp_path / WEIGHTS).read_bytes()
    checkpoints.save(1, {"epoch": 1})
    with no_file_over(1000), pytest.raises(OSError, match="too large"):
        checkpoints.finish(nn.Linear(100, 100), "digest")
    assert (tmp_path / WEIGHTS).read_bytes() == before
    assert checkpoints.load() == {"epoch": 1}


class Call:
    """Pickled, it is a call that makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


def test_a_checkpoint_is_not_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoints, made = Checkpoints(tmp_path / "checkpoints"), tmp_path / "made"
    checkpoints.save(1, {"epoch": 1})
    buffer = BytesIO()
    torch.save({"epoch": Call(made)}, buffer)
    content = buffer.getvalue()
    newest = state_file(checkpoints.directory, 2)
    newest.write_bytes(content + hashlib.sha256(content).digest())  # its checksum is right
    assert checkpoints.load() == {"epoch": 1}
    assert not made.exists()
    (told,) = caplog.messages
    assert told.startswith(f"checkpoint {newest} is damaged (")
    torch.load(BytesIO(content), weights_only=False)
    assert made.exists()  # so it would have been


@pytest.mark.parametrize("how", ["finished", "deleted"])
def test_what_a_killed_process_left_half_written_is_cleared_away(tmp_path: Path, how: str) -> None:
    half = state_file(tmp_path, 3).with_suffix(UNFINISHED)
    half.write_bytes(b"half")
    (tmp_path / "mine.txt").write_text("mine")
    if how == "finished":
        Checkpoints(tmp_path).finish(nn.Linear(2, 1), "digest")
        assert (tmp_path / WEIGHTS).exists()
    else:
        delete_all(tmp_path)
    assert not half.exists()
    assert (tmp_path / "mine.txt").exists()
