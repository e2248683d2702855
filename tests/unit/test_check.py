"""`hpo check`: what one tried trial tells of a study."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hpo.cli.files import check
from hpo.errors import HpoError

PER_STEP = (
    "def train(trial):\n    for i in range(9):\n        trial.report(i, loss=1.0, val_acc=0.5)\n"
)
AT_END = "def train(trial):\n    return {'loss': 1.0, 'n_parameters': 17920.0}\n"
SAYS_NOTHING = "def train(trial):\n    return {}\n"
BATCHES_FIRST = (
    "import json\nfor batch in range(6):\n    print(json.dumps({'step': batch, 'loss': 1.0}))\n"
    "print(json.dumps({'epoch': 1, 'val_loss': 0.5}))\n"
)
STOPS = "import optuna\n\n\ndef train(trial):\n    raise optuna.TrialPruned\n"

Checked = Callable[..., dict[str, Any]]


@pytest.fixture
def checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Checked:
    """Checks a study of own code; gives what is printed with --json."""
    monkeypatch.chdir(tmp_path)

    def run(code: str, metric: str = "loss", command: str = "", **rest: Any) -> dict[str, Any]:
        module = f"mine_{zlib.crc32(code.encode())}"  # Python imports one of a name once
        (tmp_path / f"{module}.py").write_text(code, encoding="utf-8")
        what = {"function": f"{module}:train"}
        if command:
            what = {"command": command.replace("mine", module)}
        objective = {**what, "metric": metric, "direction": "minimize"}
        values = {"objective": objective, "space": {"x": {"float": [0, 1]}}, **rest}
        (tmp_path / "s.yaml").write_text(json.dumps({"tracking": "none", **values}))
        check(Path("s.yaml"), as_json=True)
        return dict(json.loads(capsys.readouterr().out))

    return run


def test_a_metric_that_no_step_has_is_warned_of(
    checked: Checked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpo.cli.tried._METRIC_SECONDS", 0.0)
    (found,) = checked(PER_STEP, metric="val_accuracy")["advice"]

    assert (found["level"], found["path"]) == ("warning", "objective.metric")
    assert "reported loss, val_acc, and no 'val_accuracy'" in found["message"]
    assert found["message"].endswith("; did you mean 'val_acc'?")


@pytest.mark.parametrize("key", ["gate", "constraints"])
def test_so_is_one_of_the_gate_or_a_constraint(checked: Checked, key: str) -> None:
    (found,) = checked(PER_STEP, **{key: {"accuracy": ">= 0.9"}})["advice"]

    assert found["path"] == key
    assert "no 'accuracy'" in found["message"]


def test_one_of_a_command_is_too(checked: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo.cli.tried._METRIC_SECONDS", 0.0)
    script = 'import json\nfor i in range(3):\n    print(json.dumps({"step": i, "val_acc": 1}))\n'

    (found,) = checked(script, metric="acc", command="python mine.py {x}")["advice"]

    assert found["path"] == "objective.metric"
    assert found["message"].endswith("'val_acc'?")


def test_a_metric_that_comes_after_many_reports_is_waited_for(checked: Checked) -> None:
    told = checked(BATCHES_FIRST, metric="val_loss", command="python mine.py {x}")

    assert told["advice"] == []


def test_one_that_never_comes_is_an_error_and_no_loss_of_training_is_meant(
    checked: Checked,
) -> None:
    script = BATCHES_FIRST.replace("val_loss", "test_acc")
    with pytest.raises(HpoError, match="no metric 'val_loss' was reported") as raised:
        checked(script, metric="val_loss", command="python mine.py {x}")

    assert raised.value.next_step == "Name one of them as objective.metric, or report it."


def test_metrics_that_are_there_need_no_word(checked: Checked) -> None:
    assert checked(PER_STEP, metric="val_acc", gate={"loss": "< 2"})["advice"] == []


def test_a_rule_for_trials_without_steps_is_noted(checked: Checked) -> None:
    (found,) = checked(AT_END, stopping={"rule": "median"})["advice"]

    assert (found["level"], found["path"]) == ("note", "stopping.rule")
    assert "a trial reports no steps, so median can never stop one" in found["message"]
    assert checked(PER_STEP, stopping={"rule": "median"})["advice"] == []


def test_who_reports_nothing_is_not_told_to_choose_of_it(checked: Checked) -> None:
    with pytest.raises(HpoError) as raised:
        checked(SAYS_NOTHING)

    assert raised.value.message == "no metric 'loss' was reported; reported was: nothing."
    assert raised.value.next_step == 'Return it, {"loss": 0.1}, or report it.'


def test_a_misspelt_metric_has_its_nearest_name(checked: Checked) -> None:
    with pytest.raises(HpoError, match="Did you mean 'loss'\\? Name one of them as objective"):
        checked(AT_END, metric="los")


def test_what_keeps_it_waiting_is_told(checked: Checked, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpo.cli.tried._PATIENCE_SECONDS", 0.2)
    said: list[str] = []
    monkeypatch.setattr(Console, "print", lambda _, text, **__: said.append(text))

    waits = "[t.join() for t in threading.enumerate() if isinstance(t, threading.Timer)]"
    checked(f"import threading\n\n\ndef train(trial):\n    {waits}\n    return {{'loss': 1.0}}\n")

    assert said == [
        "Waiting for a trial's second report or its metric; Ctrl-C ends it, and --dry tries none."
    ]


def test_a_count_is_shown_as_one(checked: Checked) -> None:
    assert checked(AT_END)["tried"].endswith(": loss 1, n_parameters 17920")


def test_a_trial_that_stops_itself_gives_no_reason_twice(checked: Checked) -> None:
    assert checked(STOPS)["tried"] == "tried      one trial, which stopped itself"


@pytest.fixture
def trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Checked:
    """Checks a study of a trainer on a table of 15 examples; gives what is printed with --json."""
    monkeypatch.chdir(tmp_path)
    rows = [f"{i % 7},{i % 5},{'ab'[i % 2]}" for i in range(25)]
    (tmp_path / "table.csv").write_text("\n".join(["u,v,target", *rows]), encoding="utf-8")

    def run(space: dict[str, Any], **rest: Any) -> dict[str, Any]:
        objective: dict[str, Any] = {"trainer": "classifier", "metric": "val_error", "epochs": 9}
        objective |= {"data": "table.csv", "target": "target"}
        values = {"objective": objective, "space": space, "tracking": "none", **rest}
        (tmp_path / "s.yaml").write_text(json.dumps(values), encoding="utf-8")
        check(Path("s.yaml"), as_json=True)
        return dict(json.loads(capsys.readouterr().out))

    return run


def test_what_a_trainer_tells_at_its_end_is_not_asked_for_before(trained: Checked) -> None:
    rate = {"learning_rate": {"float": [0.01, 0.02]}}

    assert trained(rate, gate={"train_error": "<= 0.5"})["advice"] == []


def test_how_many_configurations_cannot_be_trained_is_told_and_another_is_tried(
    trained: Checked,
) -> None:
    for optimizer, name, large in (("sgd", "batch_size", 512), ("newton", "width", 30_000)):
        told = trained({name: [4, large], "optimizer": optimizer, "depth": 1})

        assert told["tried"].startswith("tried      one step")
        (warning,) = (each for each in told["advice"] if "were drawn" in each["message"])
        assert (warning["level"], warning["path"]) == ("warning", "space")
        assert f"and such trials fail, as {{{name}: {large}}} does:" in warning["message"]


def test_what_a_model_of_ones_own_cannot_be_made_of_is_told_as_well(
    trained: Checked, tmp_path: Path
) -> None:
    code = (
        "import torch\n\n\ndef make(config):\n    if config.width % 8:\n"
        "        raise ValueError(f'{config.width} is not divisible by 8 heads')\n"
        "    return torch.nn.Linear(config.shape[0], config.n_outputs)\n"
    )
    (tmp_path / "nets_of_heads.py").write_text(code, encoding="utf-8")
    space = {"model": "nets_of_heads:make", "width": [16, 24, 30]}

    told = trained(space)
    assert told["tried"].startswith("tried      one step")
    assert any("ValueError: 30 is not divisible" in each["message"] for each in told["advice"])

    with pytest.raises(HpoError, match="a trial cannot begin: ValueError: 31 is not") as caught:
        trained({**space, "width": 31})
    assert 'nets_of_heads.py", line 6' in caught.value.next_step


def test_where_none_can_be_trained_it_is_an_error(trained: Checked) -> None:
    with pytest.raises(HpoError, match="512 is more than the 15 training examples of"):
        trained({"batch_size": 512, "learning_rate": {"float": [0.01, 0.02]}})


def test_so_it_is_where_the_baseline_cannot(trained: Checked) -> None:
    with pytest.raises(HpoError, match="64 is more than the 15 training examples of"):
        trained({"batch_size": [8, 64]}, baseline={"batch_size": 64})


def test_what_data_a_trainer_reads_is_told(trained: Checked) -> None:
    assert trained({"batch_size": [4, 8]})["data"] == (
        "25 examples, 2 features (2 of numbers), classes a (13), b (12, positive)"
    )


def test_what_data_own_code_reads_is_not_known(checked: Checked) -> None:
    assert checked(AT_END)["data"] is None


def test_what_data_was_read_is_told_though_no_trial_can_begin(
    trained: Checked, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {"batch_size": 512, "learning_rate": {"float": [0.01, 0.02]}}
    with pytest.raises(HpoError):
        trained(space)
    capsys.readouterr()

    with pytest.raises(HpoError, match="a trial cannot begin"):
        check(Path("s.yaml"))
    assert "data       25 examples, 2 features" in capsys.readouterr().out
