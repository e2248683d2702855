"""The data of a trainer's study."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from hpo.errors import ObjectiveError
from hpo.objectives import build
from hpo.objectives.trainer import TrainerObjective, folds_of
from hpo.places import CHECKPOINTS
from hpo.spec import load
from hpo.trainers import ConfigError, DataError
from hpo.trial import Failure, FailureKind, Job


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


def test_whatever_a_study_asks_of_a_trial_is_reported(tmp_path: Path) -> None:
    """By an objective, as one of several, by a constraint, a gate, or to be shown."""
    (tmp_path / "study.yaml").write_text(
        "objective: {trainer: classifier, data: iris, metric: [val_error, n_parameters],"
        " report: [val_f1], epochs: 1}\n"
        "space: {width: [1, 2]}\nrun: {device: cpu}\n"
        "constraints: {model_bytes: '<= 1000000'}\ngate: {val_accuracy: '>= 0.1'}\n"
    )
    objective = TrainerObjective(load(tmp_path / "study.yaml"))
    (report,) = objective(Job(trial=0, config={"epochs": 1}, seed=0, directory=tmp_path))
    asked = {"val_error", "n_parameters", "val_f1", "model_bytes", "val_accuracy"}
    assert asked <= report.metrics.keys()


@pytest.mark.parametrize(("every", "least"), [("0.001s", 1), ("10h", 0), ("2", 1)])
def test_checkpoints_come_as_often_as_a_study_says(tmp_path: Path, every: str, least: int) -> None:
    (tmp_path / "study.yaml").write_text(
        "objective: {trainer: classifier, data: iris, metric: val_error, epochs: 4}\n"
        f"space: {{width: [1, 2]}}\nrun: {{device: cpu, checkpoint_every: {every}}}\n"
    )
    objective = TrainerObjective(load(tmp_path / "study.yaml"))
    job = Job(trial=0, config={"epochs": 4}, seed=0, directory=tmp_path / "trial")
    steps = objective(job)
    for _ in range(3):  # before the third begins, what the second leaves is written
        next(steps)
    n_kept = len([*(tmp_path / "trial" / CHECKPOINTS).glob("*")])
    assert n_kept >= least
    assert (n_kept > 0) is (least > 0)
    steps.close()


def test_an_image_that_breaks_while_it_is_streamed_is_bad_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpo.trainers.data.images.room", lambda device: 0)  # noqa: ARG005
    for i in range(20):
        path = tmp_path / "pictures" / ("cat" if i < 10 else "dog") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((6, 6), 10 * i, np.uint8)).save(path)
    (tmp_path / "study.yaml").write_text(
        "objective: {trainer: classifier, data: pictures, metric: val_error, epochs: 2}\n"
        "space: {width: [1, 2]}\nrun: {device: cpu}\n"
    )
    objective = TrainerObjective(load(tmp_path / "study.yaml"))
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError) as caught:
        next(objective(Job(trial=0, config={"epochs": 2}, seed=0, directory=tmp_path)))
    failure = Failure.of(caught.value)
    assert failure.kind is FailureKind.BAD_DATA
    assert failure.message.startswith("the image ")
    assert "cannot be read" in failure.message
