"""What a built-in trainer leaves: checkpoints, weights, a test, a curve, an export."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_iris

from hpo.trainers.data import Source, load_data
from hpo.trainers.exports import load as load_export
from tests.acceptance.harness import Folder, Study

NETS = """
import time
from pathlib import Path
from torch import nn


class Slow(nn.Sequential):
    def forward(self, x):
        # Until somebody makes a file named go, the 40th step of training takes for ever.
        if self.training and not Path("go").exists():
            self.steps = getattr(self, "steps", 0) + 1
            if self.steps == 40:
                Path("waiting").touch()
                while not Path("go").exists():
                    time.sleep(0.01)
        return super().forward(x)


def make(config):
    units = config.units
    (n,) = config.shape
    return Slow(nn.Linear(n, units), nn.Dropout(0.2), nn.Linear(units, config.n_outputs))
"""


def predicted(folder: Folder, file: str) -> list[str]:
    """The answers of an exported model, a line for each example in a file."""
    return folder.script("net-model/predict.py", file)


def study(**changes: Any) -> Study:
    """Trial 1, with 24 units, is the best of these by far; each differs by its width alone."""
    base = {
        "name": "net",
        "objective": {
            "trainer": "classifier",
            "data": "iris",
            "metric": "val_loss",
            "epochs": 4,
            "report": ["val_f1"],
        },
        "space": {"width": {"choice": [1, 24, 2]}, "depth": 1, "optimizer": "adam"},
        "search": {"sampler": "grid"},
        "run": {},
    }
    for path, value in changes.items():
        section, _, key = path.partition("__")
        base[section] = {**base[section], key: value} if key else value  # type: ignore[dict-item]
    return base


def weights(folder: Folder) -> list[str]:
    """The trials whose weights are kept."""
    found = (folder.path / "hpo-runs").glob("**/*.safetensors")
    return sorted(str(path.relative_to(folder.path / "hpo-runs" / "net")) for path in found)


@pytest.mark.parametrize(("keep", "n"), [("best", 1), ("all", 3), ("none", 0)])
def test_the_weights_of_the_best_trial_are_kept_or_all_or_none(
    folder: Folder, keep: str, n: int
) -> None:
    done = folder.hpo("run", folder.study(study(run__keep_weights=keep)))
    assert done.code == 0, done.err
    best = folder.hpo("best", "net", "--json").json["best"]
    kept = weights(folder)
    assert len(kept) == n
    assert folder.hpo("best", "net", "--test").code == 0  # of weights that are trained again, too
    if keep == "best":
        assert kept == [f"trial-{best['trial']:05d}/checkpoints/model.safetensors"]


def test_the_test_part_is_looked_at_once(folder: Folder) -> None:
    assert folder.hpo("run", folder.study(study())).code == 0
    first = folder.hpo("best", "net", "--test", "--json").json
    assert set(first["test"]) == {"test_loss", "test_error", "test_accuracy", "test_f1"}
    assert 0 <= first["test"]["test_error"] < 0.5
    (kept,) = (folder.path / "hpo-runs").glob("**/model.safetensors")
    kept.write_bytes(b"nothing that could be looked at again")
    again = folder.hpo("best", "net", "--test")
    assert f"test_loss {first['test']['test_loss']:.4g}" in again.out
    assert "already" not in again.err
    assert "test" not in folder.hpo("best", "net", "--json").json


def test_an_export_names_the_batch_that_was_trained_with(folder: Folder) -> None:
    rows = "\n".join(f"{x},{'yes' if x > 9 else 'no'}" for x in range(20))
    folder.write("small.csv", f"x,y\n{rows}\n")
    objective = {"trainer": "classifier", "data": "small.csv", "target": "y", "epochs": 1}
    values = {"name": "small", "objective": {**objective, "metric": "val_error"}}
    file = folder.study({**values, "space": {"width": [4]}, "search": {"sampler": "grid"}})
    assert folder.hpo("run", file).code == 0

    assert folder.hpo("export", "small").code == 0

    config = json.loads((folder.path / "small-model" / "config.json").read_text())
    assert config["config"]["batch_size"] == 12


def test_without_weights_the_trial_is_trained_again_to_the_same_network(folder: Folder) -> None:
    folder.hpo("run", folder.study(study()))
    assert folder.hpo("export", "net", "--to", "kept").code == 0
    (kept,) = (folder.path / "hpo-runs").glob("**/model.safetensors")
    content = kept.read_bytes()
    kept.unlink()
    (folder.path / "mine").mkdir()
    folder.write("mine/config.json", "{}")
    for to, message in (
        ("study.yaml", "study.yaml cannot be written: File exists."),
        ("study.yaml/x", "study.yaml/x cannot be written: Not a directory."),
        ("mine", "mine/config.json is there already, and not of an export of hpo;"),
    ):
        refused = folder.hpo("export", "net", "--to", to)  # before anything is trained for it
        assert refused.code == 1
        assert message in refused.err
        assert "Name another folder: hpo export net --to FOLDER" in refused.err
        assert "trained again" not in refused.err
    done = folder.hpo("export", "net", "--to", "again")
    assert done.code == 0
    assert "is trained again" in done.err
    assert (folder.path / "again" / "model.safetensors").read_bytes() == content


def test_an_export_answers_for_raw_examples_as_the_trial_did(folder: Folder) -> None:
    folder.hpo("run", folder.study(study()))
    done = folder.hpo("export", "net", "--onnx", "--json")
    assert done.code == 0, done.err
    assert done.json["files"] == [
        "config.json",
        "model.onnx",
        "model.safetensors",
        "predict.py",
        "transformer.joblib",
    ]
    assert 0 <= done.json["onnx_difference"] < 1e-4
    exported = folder.path / "net-model"
    said = json.loads((exported / "config.json").read_text())
    assert said["classes"] == ["setosa", "versicolor", "virginica"]
    assert said["metrics"]["val_loss"] == folder.hpo("best", "net", "--json").json["best"]["value"]

    from sklearn.datasets import load_iris

    iris = load_iris()
    np.save(folder.path / "x.npy", iris.data)
    answers = subprocess.run(
        [sys.executable, "net-model/predict.py", "x.npy"],
        cwd=folder.path,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    right = [a == iris.target_names[y] for a, y in zip(answers, iris.target, strict=True)]
    assert sum(right) > 0.6 * len(right)
    np.save(folder.path / "many.npy", np.tile(iris.data, (200, 1)))
    piped = subprocess.run(
        ["sh", "-c", f"'{sys.executable}' net-model/predict.py many.npy | head -1"],
        cwd=folder.path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (piped.stdout, piped.stderr) == (f"{answers[0]}\n", "")
    assert len((exported / "predict.py").read_text().splitlines()) <= 20


def test_a_table_is_exported_with_what_makes_features_of_it(folder: Folder) -> None:
    rng = np.random.default_rng(0)
    lines = ["town,rooms,price"]
    for _ in range(300):
        town, rooms = ["Aa", "Bb", ""][rng.integers(3)], rng.integers(1, 9)
        price = 1000 * rooms + 5000 * (town == "Aa") + rng.normal(0, 100)
        lines.append(f"{town},{rooms if rooms < 8 else ''},{price:.2f}")
    folder.write("houses.csv", "\n".join(lines))
    values = study(
        objective={
            "trainer": "regressor",
            "data": "houses.csv",
            "target": "price",
            "metric": "val_r2",
            "epochs": 30,
            "folds": 3,
        }
    )
    values["space"] = {"width": [8, 32], "optimizer": "adam", "batch_size": 16}
    done = folder.hpo("run", folder.study(values))
    assert done.code == 0, done.err
    best = folder.hpo("best", "net", "--test", "--json").json
    assert best["best"]["value"] > 0.5
    assert best["test"]["test_r2"] > 0.5
    done = folder.hpo("export", "net")
    assert done.code == 0
    assert "Try it: python net-model/predict.py examples.csv" in done.err
    assert "of 3 folds, the first one's network is exported; its metrics are their" in done.err
    folder.write("new.csv", "town,rooms\nAa,3\nCc,\n")
    answers = predicted(folder, "new.csv")
    assert len(answers) == 2
    assert 2_000 < float(answers[0]) < 14_000  # in the price's own unit


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_trial_goes_on_from_its_checkpoint_and_ends_as_if_never_stopped(
    folder: Folder, how: signal.Signals
) -> None:
    folder.write("nets.py", NETS)
    values = study(objective__epochs=12, run__checkpoint_every=2)
    values["space"] = {"model": "nets:make", "units": [8], "batch_size": 16, "learning_rate": 0.05}
    file = folder.study(values)
    running = folder.start("run", file)
    running.wait_for("", folder.path / "waiting")  # in its 7th epoch of 6 steps
    running.signal(how)
    running.done()
    (trial,) = (folder.path / "hpo-runs").glob("*/trial-*")
    assert sorted(p.name for p in (trial / "checkpoints").iterdir()) == [
        "checkpoint-000004.pt",
        "checkpoint-000006.pt",
    ]
    folder.write("go", "")
    steps_before = (trial / "metrics.jsonl").read_text().splitlines()
    assert len(steps_before) == 6
    resumed = folder.hpo("run", file)
    assert resumed.code == 0, resumed.err
    assert "other code" not in resumed.err
    (done,) = folder.trials("net")
    assert (done["state"], done["attempts"], done["n_steps"]) == ("COMPLETE", 2, 12)

    lines = [json.loads(line) for line in (trial / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert [json.loads(line)["metrics"] for line in steps_before] == [
        line["metrics"] for line in lines[:6]
    ]
    other = {**values, "name": "whole"}
    assert folder.hpo("run", folder.study(other, "whole.yaml")).code == 0
    (whole,) = folder.trials("whole")
    assert whole["metrics"] == done["metrics"]
    kept = [
        (folder.path / "hpo-runs" / name / trial.name / "checkpoints" / "model.safetensors")
        for name in ("net", "whole")
    ]
    assert kept[0].read_bytes() == kept[1].read_bytes()


def test_a_trial_that_goes_on_with_other_code_says_so(folder: Folder) -> None:
    folder.write("nets.py", NETS)
    folder.write("unasked.py", "")
    values = study(objective__epochs=12, run__checkpoint_every=2)
    values["space"] = {"model": "nets:make", "units": [8], "batch_size": 16, "learning_rate": 0.05}
    file = folder.study(values)
    running = folder.start("run", file)
    running.wait_for("", folder.path / "waiting")  # in its 7th epoch
    running.signal(signal.SIGKILL)
    running.done()
    folder.write("nets.py", NETS.replace("0.2", "0.3"))
    folder.write("unasked.py", "# changed\n")
    folder.write("go", "")
    resumed = folder.hpo("run", file)
    assert resumed.code == 0
    told = " ".join(resumed.err.split())
    assert "a checkpoint is of other code: nets.py has changed since. The trial goes on" in told
    (done,) = folder.trials("net")
    assert (done["state"], done["attempts"], done["n_steps"]) == ("COMPLETE", 2, 12)


def test_precision_over_recall_is_drawn_and_goes_to_mlflow(folder: Folder) -> None:
    values = study(objective__report=["val_pr_auc"], objective__data="breast_cancer")
    values["space"] = {"width": [4], "optimizer": "adam"}
    done = folder.hpo("run", folder.study(values), "--tracking", "sqlite:///mlflow.db")
    assert done.code == 0, done.err
    (drawn,) = (folder.path / "hpo-runs").glob("*/precision_recall.svg")
    (logged,) = (folder.path / "mlruns").glob("**/precision_recall.svg")
    assert drawn.read_text() == logged.read_text()
    assert "<svg" in drawn.read_text()
    assert "recall" in folder.hpo("best", "net", "--plot").out
    assert folder.hpo("best", "net", "--png", "curve.png").code == 0
    assert (folder.path / "curve.png").read_bytes()[1:4] == b"PNG"


def test_what_cannot_be_exported_or_tested_is_told(folder: Folder) -> None:
    folder.hpo("run", folder.study(study(objective__epochs=1)))
    folder.write("own.py", "def train(trial):\n    return trial.x\n")
    values = {
        "name": "fn",
        "objective": {"function": "own:train", "metric": "loss"},
        "space": {"x": [1, 2]},
        "search": {"sampler": "grid"},
    }
    folder.hpo("run", folder.study(values, "fn.yaml"))
    for arguments, message in (
        (["export", "net", "--trial", "7"], "trial 7 of 'net' cannot be exported: there is none."),
        (["export", "none"], "no study 'none'"),
        (["best", "fn", "--test"], "study 'fn' has a model that hpo did not train: own:train."),
        (["export", "fn"], "study 'fn' has a model that hpo did not train: own:train."),
    ):
        done = folder.hpo(*arguments)
        assert done.code == 1
        assert message in done.err


CUSTOMERS = "x;z;leaves\n" + "".join(
    f"{i % 7};{'?' if i % 9 == 0 else i};{i % 7 > 3}\n" for i in range(200)
)


def test_an_export_answers_by_what_mistakes_cost_and_reads_what_was_trained_on(
    folder: Folder,
) -> None:
    folder.write("customers.csv", CUSTOMERS)
    values = study()
    values["objective"] = {
        "trainer": "classifier",
        "data": "customers.csv",
        "target": "leaves",
        "positive": True,
        "metric": "val_cost",
        "costs": [[0, 1], [1000, 0]],
        "epochs": 1,
    }
    assert folder.hpo("run", folder.study(values)).code == 0
    assert folder.hpo("export", "net").code == 0
    answers = predicted(folder, "customers.csv")
    # To miss one who leaves costs so much that a network of one epoch says so of all.
    assert answers == ["True"] * 200


def test_a_threshold_of_validation_decides_what_a_network_answers(folder: Folder) -> None:
    values = study(objective__data="breast_cancer", objective__metric="val_coverage")
    values["objective"] |= {"required_accuracy": 0.995, "epochs": 10}
    values["objective"]["report"] = ["train_coverage"]
    values["space"] = {"width": [24], "learning_rate": [0.003]}
    assert folder.hpo("run", folder.study(values)).code == 0
    assert folder.hpo("export", "net").code == 0
    best = folder.hpo("best", "net", "--test", "--json").json

    model = load_export(folder.path / "net-model")
    (data,) = load_data(Source("breast_cancer"), seed=0)
    shares = {}
    for name in ("train", "val", "test"):
        part = getattr(data, name)
        ((x, y),) = part.batches([len(part)])
        with torch.inference_mode():
            p, answers = model.network(x).double().softmax(dim=1).max(dim=1)
        answered = p >= model.threshold
        shares[name] = answered.double().mean().item()
        accuracy = (answers == y)[answered].double().mean().item()
    assert best["best"]["metrics"]["val_coverage"] == pytest.approx(shares["val"])
    assert best["best"]["metrics"]["train_coverage"] == pytest.approx(shares["train"])
    assert best["test"]["test_coverage"] == pytest.approx(shares["test"])
    assert best["test"]["test_accuracy_answered"] == pytest.approx(accuracy)
    assert 0 < shares["test"] < 1

    raw, _ = load_breast_cancer(return_X_y=True)
    np.save(folder.path / "x.npy", raw)
    said = predicted(folder, "x.npy")
    assert {*said} == {"malignant", "benign", ""}
    sizes = {name: len(getattr(data, name)) for name in shares}
    expected = sum(shares[name] * sizes[name] for name in shares)
    assert sum(map(bool, said)) == pytest.approx(expected)


def test_data_that_has_changed_is_refused(folder: Folder) -> None:
    folder.write("customers.csv", CUSTOMERS)
    values = study()
    values["objective"] |= {"data": "customers.csv", "target": "leaves"}
    assert folder.hpo("run", folder.study(values)).code == 0
    folder.write("customers.csv", CUSTOMERS.replace("6;", "5;"))
    for command in (["export", "net"], ["best", "net", "--test"]):
        done = folder.hpo(*command)
        assert done.code == 1
        assert "'customers.csv' has changed since trial" in done.err


DRAWN = """
import numpy as np
import torch
from torch import nn


class Make(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.register_buffer("waves", DRAW, persistent=False)
        self.last = nn.Linear(128, config.n_outputs)

    def forward(self, x):
        z = x @ self.waves
        return self.last(torch.cat([z.sin(), z.cos()], 1))
"""
ENTROPY = "np.random.default_rng().standard_normal((4, 64))"
OF_DRAWN = {"space": {"model": "drawn:Make", "learning_rate": 0.3}, "search__trials": 1}


def test_what_a_users_own_model_draws_by_torch_is_drawn_again(folder: Folder) -> None:
    folder.write("drawn.py", DRAWN.replace("DRAW", "torch.randn(*config.shape, 64)"))
    assert folder.hpo("run", folder.study(study(**OF_DRAWN))).code == 0
    recorded = folder.trials("net")[0]["metrics"]["val_accuracy"]
    tested = folder.hpo("best", "net", "--test", "--json").json["test"]["test_accuracy"]
    assert tested > recorded - 0.2  # with other waves it is as good as a guess
    assert folder.hpo("export", "net").code == 0
    data = load_iris()
    np.save(folder.path / "x.npy", data.data)
    answers = predicted(folder, "x.npy")
    assert np.mean(np.array(answers) == data.target_names[data.target]) > recorded - 0.2


@pytest.mark.parametrize(
    ("before", "after", "keep"),
    [
        (ENTROPY, ENTROPY, "best"),
        (ENTROPY, ENTROPY, "none"),
        ("torch.arange(256).reshape(4, 64)", "torch.arange(256).reshape(64, 4).T", "best"),
    ],
)
def test_a_model_that_is_another_by_now_is_refused(
    folder: Folder, before: str, after: str, keep: str
) -> None:
    def write(draw: str) -> None:
        folder.write("drawn.py", DRAWN.replace("DRAW", f"torch.as_tensor({draw}).float()"))

    write(before)
    assert folder.hpo("run", folder.study(study(**OF_DRAWN, run__keep_weights=keep))).code == 0
    write(after)
    for command in (["export", "net"], ["best", "net", "--test"]):
        done = folder.hpo(*command)
        assert done.code == 1
        assert "with its weights, the model of trial 0 has val_loss" in done.err
        assert "the code of 'drawn:Make' has changed since, or" in done.err
        assert "register_buffer" in done.err


def test_a_model_that_answers_otherwise_each_time_is_exported(folder: Folder) -> None:
    draw = "torch.randn(*config.shape, 64)"
    noisy = DRAWN.replace("DRAW", draw).replace(
        "z = x", "x = x + torch.randn_like(x)\n        z = x"
    )
    folder.write("drawn.py", noisy)
    assert folder.hpo("run", folder.study(study(**OF_DRAWN))).code == 0
    assert folder.hpo("export", "net").code == 0


def test_code_that_has_changed_before_a_trial_is_trained_again_is_told(folder: Folder) -> None:
    folder.write("drawn.py", DRAWN.replace("DRAW", "torch.randn(*config.shape, 64)"))
    file = folder.study(study(**OF_DRAWN, run__keep_weights="none"))
    assert folder.hpo("run", file).code == 0
    folder.write("drawn.py", DRAWN.replace("DRAW", "9 * torch.randn(*config.shape, 64)"))
    done = folder.hpo("export", "net")
    assert "trained again, trial 0 has val_loss" in done.err
    assert "or code that has changed" in done.err
    said = json.loads((folder.path / "net-model" / "config.json").read_text())["metrics"]
    assert f"has val_loss {said['val_loss']:.6g} and not" in " ".join(done.err.split())


def test_the_code_of_a_users_own_model_comes_along(folder: Folder, tmp_path: Path) -> None:
    (folder.path / "pkg").mkdir()
    folder.write("pkg/nets.py", NETS.replace("class Slow", "import sizes\n\n\nclass Slow"))
    folder.write("sizes.py", "")
    folder.write("go", "")
    values = study()
    values["space"] = {"model": "pkg.nets:make", "units": [4]}
    assert folder.hpo("run", folder.study(values)).code == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert folder.hpo("export", "net", "--to", str(elsewhere / "model")).code == 0
    np.save(elsewhere / "x.npy", np.ones((2, 4)))
    answers = Folder(elsewhere, folder.starter).script("model/predict.py", "x.npy")
    assert len(answers) == 2


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ("{'lss': 1.0}", "no metric 'loss' was reported; reported was: lss."),
        ("{'loss': float('nan')}", "the metric 'loss' is nan, and such trials fail as DIVERGED."),
        ("{'loss': 1.0}", "no metric 'size' was reported; reported was: loss."),
    ],
)
def test_check_refuses_what_a_study_could_not_judge(
    folder: Folder, returned: str, message: str
) -> None:
    folder.write("own.py", f"def train(trial):\n    return {returned}\n")
    values = {
        "name": "fn",
        "objective": {"function": "own:train", "metric": "loss"},
        "space": {"x": [1, 2]},
        "constraints": {"size": "<= 1"},
    }
    done = folder.hpo("check", folder.study(values))
    assert done.code == 1
    assert message in done.err


OF_IDS = """
import numpy as np
from torch import nn


class Net(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embedding = nn.Embedding(30, config.units)
        self.logits = nn.Linear(config.units * config.shape[0], config.n_outputs)

    def forward(self, x):
        return self.logits(self.embedding(x).flatten(1))


def make():
    with np.load("ids.npz") as arrays:
        return [*zip(arrays["x"], arrays["y"])]
"""


@pytest.mark.parametrize(("data", "extra"), [("ids.npz", ["--onnx"]), ("ids:make", [])])
def test_a_network_of_ids_is_trained_judged_and_exported(
    folder: Folder, data: str, extra: list[str]
) -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(30, size=(400, 2))
    y = rng.permutation(30)[x[:, 0]] % 2
    np.savez(folder.path / "ids.npz", x=x, y=y)
    folder.write("ids.py", OF_IDS)
    values = study(objective__data=data, objective__epochs=8, objective__report=["latency_ms"])
    space = {"model": "ids:Net", "units": [4, 8], "optimizer": "adam", "learning_rate": 0.05}
    file = folder.study({**values, "space": space})
    refused = folder.hpo("check", file, "--set", "space.mixup=0.5")
    assert refused.code == 1
    assert "mixup changes features, and the data's are integers" in refused.out + refused.err
    done = folder.hpo("run", file)
    assert done.code == 0, done.err
    assert folder.hpo("best", "net", "--test", "--json").json["test"]["test_error"] <= 0.05

    exported = folder.hpo("export", "net", *extra, "--json")
    assert exported.code == 0, exported.err
    np.save(folder.path / "x.npy", x)
    answers = predicted(folder, "x.npy")
    assert np.mean([int(a) == b for a, b in zip(answers, y, strict=True)]) >= 0.95
