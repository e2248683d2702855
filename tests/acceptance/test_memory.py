"""Trials that do not fit into memory."""

from __future__ import annotations

import pytest

from hpo import samplers
from hpo.spec import SamplerName
from hpo.trial import FAILURE
from tests.acceptance.harness import Folder, Study
from tests.cgroups import GROWS, memory_group

NETS = """
import math

import torch
from torch import nn


class Small(nn.Module):
    \"\"\"A network for which at most 16 examples fit into memory.\"\"\"

    def __init__(self, n_in, n_out):
        super().__init__()
        self.layer = nn.Linear(n_in, n_out)

    def forward(self, x):
        with open("sizes.txt", "a") as sizes:
            sizes.write(f"{len(x)}\\n")
        if len(x) > 16:
            raise MemoryError("no room")  # not PyTorch's own error, which the trainer handles
        return self.layer(x.flatten(1))


def make(config):
    return Small(math.prod(config.shape), config.n_outputs)


def never(config):
    net = make(config)
    net.register_forward_pre_hook(lambda *_: (_ for _ in ()).throw(MemoryError("no room at all")))
    return net
"""


def study(model: str, executor: str, batch_size: int = 64) -> Study:
    return {
        "name": "s",
        "objective": {
            "trainer": "classifier",
            "data": "digits",
            "metric": "val_error",
            "epochs": 2,
        },
        "space": {"model": f"nets:{model}", "batch_size": batch_size, "learning_rate": [0.01]},
        "search": {"sampler": "random", "trials": 1},
        "run": {"executor": executor},
    }


@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_a_trainer_that_ran_out_of_memory_is_tried_again_in_smaller_parts(
    folder: Folder, executor: str
) -> None:
    folder.write("nets.py", NETS)

    done = folder.hpo("run", folder.study(study("make", executor)))

    assert done.code == 0
    (trial,) = folder.trials("s")
    assert (trial["state"], trial["attempts"], trial["n_steps"]) == ("COMPLETE", 2, 2)
    sizes = list(map(int, (folder.path / "sizes.txt").read_text().split()))
    whole = sizes.index(64)
    assert set(sizes[:whole]) == {2}  # it is tried out first; on a GPU operations are counted, too
    assert set(sizes[whole + 1 :]) <= set(range(1, 17))
    why = folder.hpo("why", "s", "0").out
    assert "OUT_OF_MEMORY" in why
    assert "trained 16 examples at once" in why


def test_one_that_never_fits_fails_after_the_second_attempt(folder: Folder) -> None:
    folder.write("nets.py", NETS)

    done = folder.hpo("run", folder.study(study("never", "inline")))

    assert done.code == 4
    (trial,) = folder.trials("s")
    assert (trial["state"], trial["attempts"]) == ("FAIL", 2)
    assert trial["failure"]["kind"] == "OUT_OF_MEMORY"


@pytest.mark.parametrize(
    ("name", "kind"), [("tpe", "OUT_OF_MEMORY"), ("gp", "OUT_OF_MEMORY"), ("tpe", "BAD_CONFIG")]
)
def test_models_learn_what_does_not_fit_and_still_search_close_to_it(
    name: SamplerName, kind: str
) -> None:
    """The best value that fits is at 0.6; beyond, nothing fits, or can be trained.

    Ten of forty trials are random, and four in ten of these do not fit. A model that ignored
    failures would go to 1.0 with each of its thirty: far more than the eighteen allowed here.
    """
    import optuna

    study = optuna.create_study(
        sampler=samplers.build(name, {"x": {"float": [0, 1]}}, seed=1, trials=40)
    )
    for _ in range(40):
        trial = study.ask()
        x = trial.suggest_float("x", 0, 1)
        if x > 0.6:
            failure = {"kind": kind, "message": "no room", "traceback": ""}
            study._storage.set_trial_system_attr(trial._trial_id, FAILURE, failure)
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, 1 - x)
    failed = [t for t in study.trials if t.state is optuna.trial.TrialState.FAIL]
    assert len(failed) <= 18
    assert (
        max(t.params["x"] for t in study.get_trials(states=[optuna.trial.TrialState.COMPLETE]))
        > 0.57
    )


def test_a_trial_whose_process_the_kernel_ends_is_out_of_memory_and_the_study_goes_on(
    folder: Folder,
) -> None:
    train = """
def train(trial):
    if trial.x == 2:
        grow()
    return float(trial.x)
"""
    with memory_group(128 * 2**20) as group:
        folder.write("objectives.py", f"{group.joins}\n{GROWS}\n{train}")
        values: Study = {
            "name": "s",
            "objective": {"function": "objectives:train", "metric": "loss"},
            "space": {"x": {"int": [0, 4]}},
            "search": {"sampler": "grid"},
            "run": {"workers": 1, "max_retries": 1},
        }
        done = folder.hpo("run", folder.study(values))
        assert group.n_ended == 2

    assert done.code == 0, done.err
    trials = {trial["params"]["x"]: trial for trial in folder.trials("s")}
    assert {x: trial["state"] for x, trial in trials.items()} == {
        x: "FAIL" if x == 2 else "COMPLETE" for x in range(5)
    }
    failure = trials[2]["failure"]
    assert failure["kind"] == "OUT_OF_MEMORY"
    assert "memory ran out; it was tried 2 times" in failure["message"]
    why = folder.hpo("why", "s", str(trials[2]["trial"])).out
    assert "OUT_OF_MEMORY" in why
