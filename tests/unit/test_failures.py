"""Where a trial failed: the line of the user's own code, in everything that tells of it."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from rich.console import Console

import hpo
from hpo.executors import InlineExecutor
from hpo.objectives.function import FunctionObjective, find_function
from hpo.reports.why import why, why_table
from hpo.trainers import CodeError, ConfigError, DataError, Diverged, Problem
from hpo.trial import Config, Ended, Failure, FailureKind, Job

CODE = """\
import json

import numpy as np


def deep_in_a_library(trial):
    return np.linalg.inv(np.zeros((2, 3)))


def deep_in_python(trial):
    return json.loads("{")


def misspells(trial):
    return trial.lerning_rate


def lacks(trial):
    return trial.hidden


def reports_text(trial):
    trial.report(0, loss="low")


def raises_what_cannot_be_said(trial):
    class Mute(Exception):
        def __str__(self):
            raise RuntimeError("no")

    raise Mute


def raises_at_length(trial):
    raise ValueError("x" * 100_000)


def returns_nothing(trial):
    return None


def returns_text(trial):
    return {"loss": "low"}
"""


@pytest.fixture
def failed(tmp_path: Path) -> Callable[[str], Failure]:
    """Runs one of the functions, and gives its failure."""
    (tmp_path / "failing.py").write_text(CODE, encoding="utf-8")

    def run(name: str) -> Failure:
        function = find_function(f"failing:{name}", tmp_path)
        executor = InlineExecutor(FunctionObjective(function, "loss", "cpu"))
        executor.start(Job(0, {"learning_rate": 0.1}, 0, tmp_path))
        (ended,) = executor.events()
        assert isinstance(ended, Ended)
        assert isinstance(ended.result, Failure)
        return ended.result

    return run


@pytest.mark.parametrize(
    ("name", "line"),
    [("deep_in_a_library", 7), ("deep_in_python", 11), ("misspells", 15), ("reports_text", 23)],
)
def test_the_place_of_a_failure_is_the_users_line(
    failed: Callable[[str], Failure], tmp_path: Path, name: str, line: int
) -> None:
    assert failed(name).place == f'File "{tmp_path}/failing.py", line {line}, in {name}'


def test_what_is_no_line_of_the_users_has_no_place(failed: Callable[[str], Failure]) -> None:
    failure = failed("returns_text")
    assert "Traceback" in failure.traceback
    assert failure.place == ""


def test_an_exception_that_cannot_say_what_it_is_fails_its_trial_alone(
    failed: Callable[[str], Failure],
) -> None:
    failure = failed("raises_what_cannot_be_said")
    assert failure.kind is FailureKind.CRASHED
    assert failure.message == "Mute: its __str__ raises RuntimeError"
    assert "in raises_what_cannot_be_said" in failure.place


def test_a_long_message_is_shortened_and_whole_in_the_traceback(
    failed: Callable[[str], Failure],
) -> None:
    failure = failed("raises_at_length")
    assert failure.message.startswith("ValueError: xxx")
    assert len(failure.summary) < 1_100
    assert "x" * 100_000 in failure.traceback


def test_nothing_returned_has_neither_line_nor_traceback(failed: Callable[[str], Failure]) -> None:
    failure = failed("returns_nothing")
    assert failure.kind is FailureKind.NO_METRIC
    assert failure.place == failure.traceback == ""


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (MemoryError(), "OUT_OF_MEMORY"),
        (torch.OutOfMemoryError("CUDA out of memory"), "OUT_OF_MEMORY"),
        (Diverged(3, "val_loss", float("nan")), "DIVERGED"),
        (OverflowError("too large"), "DIVERGED"),
        (FloatingPointError("invalid value"), "DIVERGED"),
        (ConfigError([Problem(("batch_size",), "512 is more than there are.")]), "BAD_CONFIG"),
        (DataError("the image cat.png cannot be read."), "BAD_DATA"),
        (CodeError("no module 'nets'."), "CRASHED"),
        (ValueError("no"), "CRASHED"),
        (SystemExit(2), "CRASHED"),
    ],
)
def test_an_exception_means_a_kind_of_failure(error: BaseException, kind: str) -> None:
    assert Failure.of(error).kind == kind


def test_a_failure_outside_of_the_users_code_is_placed_in_its_library() -> None:
    text = 'Traceback ...\n  File "/x/lib/python3.12/site-packages/torch/nn.py", line 3, in f\n'
    assert Failure(FailureKind.CRASHED, "", text).place.startswith(
        'File "/x/lib/python3.12/site-packages'
    )


@pytest.mark.parametrize(
    ("layer", "features", "hint"),
    [
        (torch.nn.Embedding(3, 2), torch.ones(2), "give ids as int64"),
        (torch.nn.Linear(3, 2), torch.ones(2, 3).long(), "give floats, or take `x.float()`"),
        (torch.nn.Conv1d(3, 2, 1), torch.ones(2, 3, 1).long(), "give floats, or take `x.float()`"),
    ],
)
def test_a_network_is_told_of_features_of_the_other_kind(
    layer: torch.nn.Module, features: torch.Tensor, hint: str
) -> None:
    with pytest.raises(RuntimeError) as caught:
        layer(features)

    assert Failure.of(caught.value).message.endswith(hint)


def test_what_a_dataclass_generates_is_nobodys_line() -> None:
    lines = ('"train.py", line 3, in f', '"<string>", line 57, in __init__')
    text = "Traceback ...\n" + "".join(f"  File {line}\n" for line in lines)
    assert Failure(FailureKind.CRASHED, "", text).place == f"File {lines[0]}"


def test_what_was_typed_into_python_is_the_users() -> None:
    lines = ('"<stdin>", line 3, in f', '"<frozen runpy>", line 88, in g', '"/lib/python3/x.py"')
    text = "Traceback ...\n" + "".join(f"  File {line}\n" for line in lines)
    assert Failure(FailureKind.CRASHED, "", text).place == f"File {lines[0]}"


def test_an_unknown_parameter_is_to_be_added_or_was_misspelt(
    failed: Callable[[str], Failure],
) -> None:
    assert "'lerning_rate' in this configuration: learning_rate; did" in failed("misspells").message
    assert failed("lacks").message.endswith("configuration: learning_rate; add it to `space`")
    assert not hasattr(Config({}), "x")


def shown(result: hpo.Result) -> str:
    """What `hpo why STUDY 0` prints."""
    console = Console(file=io.StringIO(), width=200)
    console.print(why_table(result.study, why(result.study, 0)))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_hpo_why_names_the_users_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "failing_too.py").write_text(CODE, encoding="utf-8")
    objective = {"function": "failing_too:deep_in_a_library", "metric": "loss"}
    values = {"objective": objective, "space": {"x": 1}, "tracking": "none"}

    text = shown(hpo.run(values))

    assert f'at         File "{tmp_path}/failing_too.py", line 7, in deep_in_a_library' in text
    assert "LinAlgError" in text


def test_hpo_why_is_short_about_a_long_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "failing_at_length.py").write_text(CODE, encoding="utf-8")
    objective = {"function": "failing_at_length:raises_at_length", "metric": "loss"}
    values = {"objective": objective, "space": {"x": 1}, "tracking": "none"}

    text = shown(hpo.run(values))

    assert "CRASHED: ValueError:" in text
    assert text.count("x") < 3_000


def test_hpo_why_shows_the_last_20_lines_of_a_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    script = "i=0; while [ $i -lt 30 ]; do echo line $i >&2; i=$((i+1)); done; exit 3"
    objective = {"command": ["sh", "-c", script, "{x}"], "metric": "loss"}
    values = {"objective": objective, "space": {"x": 1}, "tracking": "none"}

    text = shown(hpo.run(values))

    said = [line.split("line ")[-1].strip() for line in text.splitlines() if "line " in line]
    assert said[-20:] == [str(i) for i in range(10, 30)]
    assert "last lines  line 10" in text
    assert "9" not in said
    assert "\nat " not in text


def test_a_sentence_has_one_mark_at_its_end() -> None:
    asks = Failure(FailureKind.BAD_CONFIG, "2.5 is not a whole number. Did you mean 3?")
    tells = Failure(FailureKind.CRASHED, "ValueError: no")

    assert asks.sentence == "2.5 is not a whole number. Did you mean 3?"
    assert tells.sentence == "ValueError: no."
