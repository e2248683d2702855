"""The data of a trainer's study."""

from pathlib import Path

import numpy as np
import pytest

from hpo.errors import ObjectiveError
from hpo.objectives import build
from hpo.objectives.trainer import TrainerObjective, folds_of
from hpo.spec import load
from hpo.trainers import ConfigError
from hpo.trial import Job


def test_what_is_wrong_with_data_is_a_sentence_with_one_end(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        "objective: {trainer: classifier, data: breast_cancer, metric: val_f1, positive: begnin}\n"
        "space: {width: [1, 2]}\n"
    )
    with pytest.raises(ObjectiveError) as caught:
        folds_of(load(tmp_path / "study.yaml"))
    assert str(caught.value) == (
        "cannot load 'breast_cancer': positive: there is no class 'begnin'. Did you mean 'benign'?"
    )


def test_a_default_batch_size_is_no_reason_to_refuse_a_small_set(tmp_path: Path) -> None:
    rows = "\n".join(f"{x},{'yes' if x > 9 else 'no'}" for x in range(20))
    (tmp_path / "small.csv").write_text(f"x,y\n{rows}\n")
    text = (
        "objective: {trainer: classifier, data: small.csv, target: y, metric: val_loss}\n"
        "run: {device: cpu}\n"
    )
    for space, fits in (("{width: [1, 2]}", True), ("{batch_size: [64]}", False)):
        (tmp_path / "study.yaml").write_text(f"{text}space: {space}\n")
        trial = TrainerObjective(load(tmp_path / "study.yaml"))
        config = {"batch_size": 64} if not fits else {"width": 1}
        job = Job(trial=0, config={**config, "epochs": 2}, seed=0, directory=tmp_path)
        if fits:
            assert [report.step for report in trial(job)] == [1, 2]
        else:
            with pytest.raises(ConfigError, match="64 is more than the 12 training examples"):
                next(trial(job))


def test_a_model_that_cannot_be_imported_is_told_before_any_trial(tmp_path: Path) -> None:
    (tmp_path / "no_nets.py").write_text("import nothing_of_that_name\n")
    text = (
        "objective: {trainer: classifier, data: iris, metric: val_loss}\n"
        "space: {model: [mlp, 'no_nets:make'], width: [1, 2]}\n"
    )
    (tmp_path / "study.yaml").write_text(text)
    with pytest.raises(ObjectiveError, match=r"cannot import 'no_nets' .*nothing_of_that_name"):
        TrainerObjective(load(tmp_path / "study.yaml"))


@pytest.mark.parametrize(
    "objective",
    [
        "{function: 'code_:train', metric: loss}",
        "{command: 'python code_.py {device}', metric: loss}",
        "{estimator: sklearn.svm.SVC, data: iris, metric: val_error}",
    ],
)
def test_a_device_that_is_not_there_is_told_whatever_the_objective(
    tmp_path: Path, objective: str
) -> None:
    (tmp_path / "code_.py").write_text("def train(trial):\n    return 1.0\n")
    file = tmp_path / "study.yaml"
    file.write_text(f"objective: {objective}\nspace: {{C: [1, 2]}}\nrun: {{device: 'cuda:99'}}\n")
    with pytest.raises(ObjectiveError, match=r"^run\.device: there is no device 'cuda:99' on this"):
        build(load(file), "none")


NETS = """
from torch import nn

def make(config):
    (n,) = config.shape
    return nn.Sequential(nn.Embedding(9, 2), nn.Flatten(), nn.Linear(2 * n, config.n_outputs))
"""


def test_each_network_has_integers_as_it_takes_them(tmp_path: Path) -> None:
    (tmp_path / "two_nets.py").write_text(NETS)
    x = np.arange(120).reshape(60, 2) % 9
    np.savez(tmp_path / "ids.npz", x=x, y=x[:, 0] % 2)
    text = (
        "objective: {trainer: classifier, data: ids.npz, metric: val_loss, epochs: 2}\n"
        "run: {device: cpu}\n"
    )

    def objective(models: str) -> TrainerObjective:
        (tmp_path / "study.yaml").write_text(f"{text}space: {{model: {models}, width: [2, 4]}}\n")
        return TrainerObjective(load(tmp_path / "study.yaml"))

    def losses(objective: TrainerObjective, model: str) -> list[float]:
        job = Job(trial=0, config={"model": model, "epochs": 2}, seed=0, directory=tmp_path)
        return [report.metrics["val_loss"] for report in objective(job)]

    both, own = objective("[mlp, 'two_nets:make']"), objective("two_nets:make")
    assert losses(both, "two_nets:make") == losses(own, "two_nets:make")
    assert losses(both, "mlp") == losses(objective("mlp"), "mlp")
