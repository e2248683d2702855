"""What trials trained: the networks' weights, their export, and the test of the best.

Weights are kept of a study's best trial (`DiscardWeights` deletes the others). Where there are
none, the trial is trained again: equal configurations and seeds give equal networks.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from math import isclose, isfinite
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from hpo.catalog import CURVE, StudyRecord
from hpo.errors import HpoError
from hpo.jobs import job_of
from hpo.listeners import Listener, Outcome
from hpo.places import CHECKPOINTS
from hpo.spec import source_of
from hpo.trainers.fields import is_code
from hpo.trainers.fit_files import delete_all, weights_files
from hpo.trial import TrialRecord

if TYPE_CHECKING:
    from torch import nn

    from hpo.objectives import Steps
    from hpo.reports.plots import Chart
    from hpo.trainers.data import Source

_log = logging.getLogger(__name__)

TESTED = "hpo:tested"
_TAKES_TIME = "latency_ms"  # which no two fits share
_ALIKE = 1e-6  # relative difference of what sums in another order differ by
_LOSS = "val_loss"
_ROUNDED = 0.05  # relative difference of a loss in half precision, which may be a GPU's default
_NOTHING = 1e-4  # of a loss
_OF_THE_CURVE = ("precision", "recall", "pr_auc", "f")


class Winner:
    """A trial of a built-in trainer.

    Args:
        study: Its study.
        trial: The trial.
        say: Called with a sentence before something that takes long.

    Raises:
        HpoError: it was not a built-in trainer's.
    """

    def __init__(self, study: StudyRecord, trial: TrialRecord, say: Callable[[str], None]) -> None:
        self._study, self._trial, self._say = study, trial, say
        self._plan = study.plan
        objective = self._plan.spec.objective
        if objective.trainer is None:
            raise HpoError(
                f"study '{study.name}' has a model that hpo did not train: {objective.what}.",
                f"What it wrote is in {self._directory}.",
            )
        from hpo.objectives.trainer import TrainerObjective
        from hpo.trainers.config import TrainerConfig

        run = self._plan.spec.run.model_copy(update={"keep_weights": "all"})
        spec = self._plan.spec.model_copy(update={"run": run})
        self._trainer = TrainerObjective(replace(self._plan, spec=spec))
        config = self._trainer.configured(self._plan.config(trial.params))
        self._config = TrainerConfig.from_mapping(config)
        self._folds = self._trainer.folds_for(self._config.model)

    def test(self) -> dict[str, float]:
        """The trial's metrics on the test part, means over folds; the part is looked at once."""
        import torch

        from hpo.trainers.exports import judge

        networks, _ = self._networks()
        judged = [
            judge(network, data.to(torch.device("cpu")), self._trainer.goals)
            for network, data in zip(networks, self._folds, strict=True)
        ]
        return {name: fmean(each[name] for each in judged) for name in judged[0]}

    def precision_over_recall(self) -> Chart:
        """Precision over recall on the validation part, all folds together.

        Raises:
            HpoError: it is not a classifier.
        """
        import torch

        from hpo.reports.plots import precision_over_recall
        from hpo.trainers.exports import predict
        from hpo.trainers.metrics import precision_recall

        if self._plan.spec.objective.task != "classification":
            raise HpoError("precision and recall are of classifiers.")
        cpu = torch.device("cpu")
        folds = [data.to(cpu) for data in self._folds]
        networks, _ = self._networks()
        predicted = [
            predict(network, data.val) for network, data in zip(networks, folds, strict=True)
        ]
        outputs, targets = map(torch.cat, zip(*predicted, strict=True))
        precision, recall, _ = precision_recall(outputs, targets, folds[0], self._trainer.goals)
        classes = folds[0].classes
        positive = self._trainer.goals.positive or classes[-1]
        about = f"class {positive}" if len(classes) == 2 else f"all {len(classes)} classes"
        note = f"trial {self._trial.number}, validation part, {about}"
        return precision_over_recall(precision, recall, note=note)

    def export(self, to: Path, *, onnx: bool) -> float | None:
        """Writes its network, the first fold's, to a folder.

        Returns:
            How far the ONNX file's outputs are from PyTorch's, as a share; None without ONNX.

        Raises:
            HpoError: the folder cannot be written, or has files of somebody else's; ONNX is asked
                for and not installed.
        """
        from hpo.trainers import DataError
        from hpo.trainers.exports import export, export_onnx

        _make_room(to, self._study)  # before a network is trained for it
        _say_which(self._say, len(self._folds), "network")
        (network, *_), reached = self._networks()
        data = self._folds[0]
        seed = job_of(self._study, self._trial).seed
        about = {"study": self._study.name, "trial": self._trial.number, "seed": seed}
        source = _source(self._study)
        with _told(to, self._study):
            export(to, self._config, network, data, self._trainer.goals, reached, about, source)
        if not onnx:
            return None
        try:
            return export_onnx(to, network, data)
        except ImportError as error:
            raise HpoError(
                f"ONNX needs a package that is not installed: {error.name}.",
                "Install it: pip install 'hpo[onnx]'",
            ) from error
        except DataError as error:
            raise HpoError(str(error)) from error

    @property
    def _directory(self) -> Path:
        return job_of(self._study, self._trial).directory

    @property
    def has_weights(self) -> bool:
        """Whether the trial's weights were kept."""
        return all(file.exists() for file in self._files(self._directory))

    def _networks(self) -> tuple[list[nn.Module], dict[str, float]]:
        """One network for each fold, and what they reached in the mean.

        They are trained again where their weights were not kept.
        """
        number, recorded = self._trial.number, self._trial.metrics
        if self.has_weights:
            return self._as_recorded(self._restored(self._directory), recorded), dict(recorded)
        self._say(f"the weights of trial {number} were not kept; it is trained again.")
        with tempfile.TemporaryDirectory() as folder:
            job = replace(job_of(self._study, self._trial), directory=Path(folder))
            reached = _ended(self._trainer(job))
            networks = self._as_recorded(self._restored(job.directory), reached)
        if self._trial.state == "COMPLETE" and not _is_alike(reached, recorded):
            self._say(
                f"trained again, trial {number} has {_LOSS} {reached[_LOSS]:.6g} and not "
                f"{recorded[_LOSS]:.6g}: another device, or code that has changed."
            )
        return networks, reached

    def _as_recorded(
        self, networks: list[nn.Module], recorded: Mapping[str, float]
    ) -> list[nn.Module]:
        """Networks, if they are as good as was recorded: with a user's code, weights are not all.

        Raises:
            HpoError: they are other networks by now.
        """
        if not is_code(self._config.model):
            return networks
        now = self._judged_again(networks)
        if _is_alike(now, recorded):
            return networks
        # What answers otherwise each time, as some models do on purpose, cannot be held to it.
        again = self._judged_again(networks)
        if isfinite(now[_LOSS]) and not _is_alike(now, again, _ALIKE):
            return networks
        raise HpoError(
            f"with its weights, the model of trial {self._trial.number} has {_LOSS} "
            f"{now[_LOSS]:.6g} and not {recorded[_LOSS]:.6g} as in training: the code of "
            f"{self._config.model!r} has changed since, or the model draws something that is not "
            "among its weights.",
            "Put the code back as it was; or put what it draws into a buffer (register_buffer), "
            "and run the study anew under another name.",
        )

    def _judged_again(self, networks: list[nn.Module]) -> dict[str, float]:
        """The loss on the validation part, the mean over folds."""
        import torch

        from hpo.trainers.exports import predict
        from hpo.trainers.metrics import evaluate

        judged = []
        for network, fold in zip(networks, self._folds, strict=True):
            data = fold.to(torch.device("cpu"))
            predicted = predict(network, data.val)
            judged.append(evaluate([_LOSS], *predicted, data, self._trainer.goals)[_LOSS])
        return {_LOSS: fmean(judged)}

    def _files(self, directory: Path) -> list[Path]:
        """Where a trial in `directory` leaves its weights, one file for each fold."""
        return weights_files(directory / CHECKPOINTS, len(self._folds))

    def _restored(self, directory: Path) -> list[nn.Module]:
        from hpo.trainers import DataError
        from hpo.trainers.exports import restore, trained_on

        found, seed = [], job_of(self._study, self._trial).seed
        for file, data in zip(self._files(directory), self._folds, strict=True):
            if trained_on(file) != data.digest:
                raise HpoError(
                    f"{self._plan.spec.objective.data!r} has changed since trial "
                    f"{self._trial.number} was trained on it.",
                    "Put it back as it was, or run the study anew under another name.",
                )
            try:
                parts = data.shape, data.n_outputs, file, self._plan.folder
                found.append(restore(self._config, *parts, seed=seed))
            except DataError as error:
                raise HpoError(f"{error}") from error
        return found


class EstimatorWinner:
    """A trial of a scikit-learn estimator, which is fitted again: it is not kept.

    Args:
        study: Its study.
        trial: The trial.
        say: Called with a sentence before something that takes long.

    Raises:
        ObjectiveError: the estimator or its data cannot be had any more.
    """

    def __init__(self, study: StudyRecord, trial: TrialRecord, say: Callable[[str], None]) -> None:
        from hpo.objectives.estimator import EstimatorObjective

        self._study, self._trial, self._say = study, trial, say
        self._objective = EstimatorObjective(study.plan)

    def test(self) -> dict[str, float]:
        """The trial's metrics on the test part, means over folds; the part is looked at once."""
        self._say(f"the estimator of trial {self._trial.number} is fitted again.")
        found = self._objective.test(job_of(self._study, self._trial))
        _demand_same(self._study, self._trial, found)
        return {name: value for name, value in found.items() if name.startswith("test_")}

    def export(self, to: Path, *, onnx: bool) -> None:
        """Writes the estimator, the first fold's, to a folder.

        Raises:
            HpoError: the folder cannot be written, or has files of somebody else's; ONNX is asked
                for; the data has changed.
        """
        from hpo.objectives.estimator import means_of
        from hpo.trainers.exports import export_estimator

        study, trial, objective = self._study, self._trial, self._study.plan.spec.objective
        if onnx:
            raise HpoError(
                f"--onnx is of networks, and '{study.name}' has an estimator.",
                f"Leave it out: hpo export {study.name}",
            )
        _make_room(to, study)
        self._say(f"the estimator of trial {trial.number} is fitted again.")
        job = job_of(study, trial)
        folds = self._objective.refitted(job)
        estimator, data, judged = next(folds)
        all_judged = [judged, *(each for _, _, each in folds)]
        _say_which(self._say, len(all_judged), "estimator")
        again = means_of(all_judged)
        _demand_same(study, trial, again)
        about = {"study": study.name, "trial": trial.number, "estimator": objective.estimator}
        reached, source = {**trial.metrics, **again}, _source(study)
        made_by = str(objective.estimator)
        with _told(to, study):
            export_estimator(
                to,
                estimator,
                job.config,
                data,
                reached,
                about,
                source,
                made_by,
                self._objective.threshold(estimator, data),
            )


def _ended(steps: Steps) -> dict[str, float]:
    """The metrics that a trial returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return dict(end.value)


def _is_alike(a: Mapping[str, float], b: Mapping[str, float], rel: float = _ROUNDED) -> bool:
    """Whether two losses are one but for rounding; where there are none, they may be."""
    if _LOSS not in a or _LOSS not in b:
        return True
    return isclose(a[_LOSS], b[_LOSS], rel_tol=rel, abs_tol=min(rel, _NOTHING))


def winner(
    study: StudyRecord, trial: TrialRecord, say: Callable[[str], None]
) -> Winner | EstimatorWinner:
    """What a trial trained, to be tested or exported.

    Args:
        study: Its study.
        trial: The trial.
        say: Called with a sentence before something that takes long.

    Raises:
        HpoError: it was neither a built-in trainer's nor an estimator's.
    """
    if study.plan.spec.objective.estimator is None:
        return Winner(study, trial, say)
    return EstimatorWinner(study, trial, say)


def example_for(study: StudyRecord) -> str:
    """The name of a file that an export of a study might answer for."""
    from hpo.trainers.exports import example

    source = _source(study)
    assert source.form is not None  # noqa: S101 - it was loaded
    return example(source.form, source.path.suffix)


def _say_which(say: Callable[[str], None], n_folds: int, what: str) -> None:
    """Says what an export is of, where a trial has trained several."""
    if n_folds > 1:
        say(f"of {n_folds} folds, the first one's {what} is exported; its metrics are their means.")


def _source(study: StudyRecord) -> Source:
    return source_of(study.plan.spec.objective, study.plan.folder)


def _make_room(to: Path, study: StudyRecord) -> None:
    """Makes a folder for an export, if there is none."""
    from hpo.trainers.exports import check_free

    with _told(to, study):
        check_free(to)
        to.mkdir(parents=True, exist_ok=True)


@contextmanager
def _told(to: Path, study: StudyRecord) -> Iterator[None]:
    """Explains why a folder takes no export."""
    from hpo.trainers import DataError
    from hpo.trainers.exports import OccupiedError

    elsewhere = f"Name another folder: hpo export {study.name} --to FOLDER"
    try:
        yield
    except OccupiedError as error:
        raise HpoError(str(error), elsewhere) from error
    except DataError as error:
        raise HpoError(str(error)) from error
    except OSError as error:
        why = error.strerror or str(error)
        raise HpoError(f"{to} cannot be written: {why}.", elsewhere) from error


def tested(study: StudyRecord, trial: TrialRecord, say: Callable[[str], None]) -> dict[str, float]:
    """A trial's metrics on the test part, which is looked at once.

    What was found is kept with the study, and told again when asked again.

    Args:
        study: Its study.
        trial: The trial, most often the best.
        say: Called with a sentence before something that takes long, or makes little sense.

    Raises:
        HpoError: it was neither a built-in trainer's nor an estimator's.
    """
    noted: dict[str, dict[str, float]] = study.attrs.get(TESTED, {})
    if str(trial.number) in noted:
        return noted[str(trial.number)]
    if noted:
        say(
            f"the test part was looked at already, for trial {', '.join(noted)}; choosing by it "
            "would take another one to judge by."
        )
    found = winner(study, trial, say).test()
    study.storage.set_study_system_attr(study.id, TESTED, {**noted, str(trial.number): found})
    return found


def _demand_same(study: StudyRecord, trial: TrialRecord, again: Mapping[str, float]) -> None:
    """Refuses an estimator that is not what it was: its test part may not be what it was, either.

    Raises:
        HpoError: with what to do.
    """
    for metric, before in trial.values.items():
        now = again.get(metric, before)
        if metric == _TAKES_TIME or isclose(now, before, rel_tol=_ALIKE):
            continue
        data = study.plan.spec.objective.data
        raise HpoError(
            f"fitted again, trial {trial.number} has {metric} {now:.6g} and not {before:.6g}.",
            f"Put {data!r} back as it was, if it has changed. If the estimator is random in "
            "another way than by `random_state`, nothing can be told.",
        )


class DiscardWeights(Listener):
    """Deletes weights that nobody will ask for: all but the best trials'.

    Args:
        keep: best, all or none.
    """

    def __init__(self, keep: str) -> None:
        self._keep = keep
        self._kept: set[int] = set()

    def opened(self, study: StudyRecord) -> None:
        """Notes whose weights there are."""
        self._study = study
        self._kept = self._best(study.best())

    def ended(self, trial: TrialRecord, best: TrialRecord | None) -> None:
        """Deletes the trial's, or those of trials that it beats."""
        if trial.state == "WAITING":  # its checkpoint is what it will go on from
            return
        if self._keep == "all":
            kept = self._kept | ({trial.number} if trial.state == "COMPLETE" else set())
        else:
            kept = self._best(best) if self._keep == "best" else set()
        for number in (self._kept | {trial.number}) - kept:
            self._delete(number)
        self._kept = kept

    def _best(self, best: TrialRecord | None) -> set[int]:
        if self._study.aims.several:
            return {trial.number for trial in self._study.front()}
        return set() if best is None else {best.number}

    def _delete(self, number: int) -> None:
        """Deletes what the trainer has written for a trial, and nothing of anybody else's."""
        folder = self._study.directory_of(number)
        if folder is not None:
            delete_all(folder / CHECKPOINTS)


class DrawWinner(Listener):
    """Draws the best classifier's precision over recall, where a study is about either."""

    def closed(self, study: StudyRecord, outcome: Outcome) -> None:
        """Writes the curve into the study's folder, from where it goes to MLflow."""
        spec, best = study.plan.spec, study.best()
        named = (*spec.objective.metrics, *spec.objective.report, *spec.constraints, *spec.gate)
        about = any(name.startswith(f"val_{base}") for name in named for base in _OF_THE_CURVE)
        if best is None or study.directory is None or not about or outcome.state != "finished":
            return
        from hpo.reports.plots import write_image

        winner = Winner(study, best, lambda _: None)
        if not winner.has_weights:
            return
        try:
            chart = winner.precision_over_recall()
        except HpoError as error:  # the study has ended well all the same
            _log.warning("%s was not drawn: %s", CURVE, error.message)
            return
        write_image([chart], study.directory / CURVE)
