"""Where a command's metrics are."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from hpo.objectives import readings
from hpo.objectives.readings import CsvRows, JsonLines, Patterns, Reading, in_file


@pytest.mark.parametrize("step", ["1.5", "-1", "99999999999", "NaN"])
def test_a_step_that_is_none_is_no_metric_either(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    readings._say_that_steps_are_whole.cache_clear()
    (tmp_path / "out").write_text(f'{{"step": {step}, "loss": 1}}\n' * 2, encoding="utf-8")

    with caplog.at_level(logging.WARNING):
        found = list(JsonLines(tmp_path / "out").read(last=True))

    assert found == [Reading(None, {"loss": 1.0})] * 2
    assert caplog.text.count("a 'step' that is not a whole number from 0 to 2147483647") == 1


def test_an_epoch_may_be_a_fraction_beside_a_step(tmp_path: Path) -> None:
    (tmp_path / "out").write_text('{"step": 3, "epoch": 0.5, "loss": 1}\n', encoding="utf-8")

    assert list(JsonLines(tmp_path / "out").read(last=False)) == [
        Reading(3, {"epoch": 0.5, "loss": 1.0})
    ]


@pytest.mark.parametrize(
    ("line", "value"),
    [
        ("val_loss: 3e-05", 3e-05),
        ("val_loss: 1.5E+3, lr 1", 1500.0),
        ("val_loss: 0.25", 0.25),
        ("val_loss: 12 epochs", 12.0),
        ("val_loss: 3 elephants", 3.0),
        ("val_loss: 1.2.3", None),
    ],
)
def test_a_pattern_finds_a_number_to_its_end(
    tmp_path: Path, line: str, value: float | None
) -> None:
    (tmp_path / "out").write_text(f"{line}\n", encoding="utf-8")

    found = list(Patterns({"loss": "val_loss: ([0-9.]+)"}, [tmp_path / "out"]).read(last=True))

    assert [reading.metrics["loss"] for reading in found] == ([] if value is None else [value])


def test_a_step_may_be_the_whole_part_of_a_number(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("epoch 3.25 loss 1e-2\n", encoding="utf-8")
    patterns = {"step": r"epoch (\d+)", "loss": r"loss (\d+)"}

    assert [*Patterns(patterns, [tmp_path / "out"]).read(last=True)] == [Reading(3, {"loss": 0.01})]


def test_what_a_stream_without_steps_says_counts_by_itself(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("epoch 0\nepoch 1\nepoch 2\n", encoding="utf-8")
    (tmp_path / "err").write_text("loss 0.5\nloss 0.25\nloss 0.125\n", encoding="utf-8")
    patterns = {"step": r"epoch (\d+)", "loss": r"loss ([\d.]+)"}

    found = list(Patterns(patterns, [tmp_path / "out", tmp_path / "err"]).read(last=True))

    assert found == [Reading(n, {"loss": 0.5**n}) for n in (1, 2, 3)]


def test_of_two_streams_with_one_metric_each_counts_its_own(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("epoch 1 loss 0.5\nepoch 2 loss 0.25\n", encoding="utf-8")
    (tmp_path / "err").write_text("loss 0.75\nloss 0.625\n", encoding="utf-8")
    patterns = {"step": r"epoch (\d+)", "loss": r"loss ([\d.]+)"}

    found = list(Patterns(patterns, [tmp_path / "out", tmp_path / "err"]).read(last=True))

    assert [reading.step for reading in found] == [1, 2, 1, 2]


@pytest.mark.parametrize("metric", ["val_loss", "val.loss", "val/loss"])
def test_numbers_in_an_object_are_metrics_in_the_spelling_that_is_wanted(
    tmp_path: Path, metric: str
) -> None:
    (tmp_path / "out").write_text(
        '{"epoch": 0, "train": {"loss": 2, "of": {"batch": [1], "n": 3}}, "val": {"loss": 1.0}}\n',
        encoding="utf-8",
    )

    assert list(JsonLines(tmp_path / "out", [metric]).read(last=True)) == [
        Reading(0, {"train/loss": 2.0, "train/of/n": 3.0, metric: 1.0})
    ]


@pytest.mark.parametrize(
    "line",
    ['{"val_loss": 3.0, "val": {"loss": 1.0}}', '{"val": {"loss": 1.0}, "val.loss": 3.0}'],
)
def test_a_metric_of_which_there_are_two_spellings_is_as_it_is_written(
    tmp_path: Path, line: str
) -> None:
    (tmp_path / "out").write_text(line, encoding="utf-8")

    (found,) = JsonLines(tmp_path / "out", ["val_loss"]).read(last=True)
    assert found.metrics["val/loss"] == 1.0
    assert found.metrics.get("val_loss", 3.0) == 3.0


def test_what_a_script_says_of_its_configuration_is_no_metric(tmp_path: Path) -> None:
    (tmp_path / "out").write_text(
        '{"config": {"lr": 0.1, "layers": 3}}\n{"val_loss": 0.5}\n{"val": {"loss": 0.4}}\n'
    )
    found = [*JsonLines(tmp_path / "out", {"val_loss"}).read(last=True)]
    assert [reading.metrics for reading in found] == [{"val_loss": 0.5}, {"val_loss": 0.4}]


def test_csv_may_have_spaces_empty_lines_and_cells_beyond_all_measure(tmp_path: Path) -> None:
    rows = ["", "epoch, val_loss ,note", "1, 0.5,a\u2028b", f"2,0.4,{'x' * 200_000}", "", "3,0.3,"]
    (tmp_path / "a.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    found = [*CsvRows(tmp_path / "a.csv").read(last=True)]
    assert [(r.step, r.metrics["val_loss"]) for r in found] == [(1, 0.5), (3, 0.3)]


def test_rows_of_a_csv_file_are_read_as_they_come_under_any_columns(tmp_path: Path) -> None:
    file = tmp_path / "metrics.csv"
    source = CsvRows(file, ["val_loss"])
    assert list(source.read(last=False)) == []

    file.write_text("epoch,step,train_loss\n0,9,0.5\n0,19,0.", encoding="utf-8")
    assert list(source.read(last=False)) == [Reading(9, {"epoch": 0.0, "train_loss": 0.5})]
    assert list(source.read(last=False)) == []

    # A column is new, so that all is written again.
    rows = "epoch,step,val/loss,train_loss\n0,9,,0.5\n0,19,,0.25\n0,19,nan,\n1,,1,\n,29,,\n"
    file.write_text(rows, encoding="utf-8")
    first, second, third = source.read(last=True)
    assert first == Reading(19, {"epoch": 0.0, "train_loss": 0.25})
    assert (second.step, *map(str, second.metrics.values())) == (19, "0.0", "nan")
    assert third == Reading(1, {"val_loss": 1.0})

    file.write_text("epoch,step\n", encoding="utf-8")  # is about to be written again
    assert list(source.read(last=False)) == []


def test_a_csv_file_that_r_writes_has_quotes_and_numbered_rows(tmp_path: Path) -> None:
    (tmp_path / "m.CSV").write_bytes(
        b'"","epoch","loss","by"\r\n"1",1,0.5,"sgd"\r\n"2",2,NA,"sgd"\r\n"3",3,Inf,"sgd"'
    )

    found = in_file(tmp_path / "m.CSV", ["loss"]).read(last=True)

    assert list(found) == [Reading(1, {"loss": 0.5}), Reading(3, {"loss": float("inf")})]
