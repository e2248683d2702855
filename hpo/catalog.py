"""The studies of a storage: finding, making, reading and deleting them.

What Optuna has no column for stands in the study's system attributes, under names with
``hpo:`` in front.
"""

from __future__ import annotations

import logging
import math
import os
import platform
import shutil
import subprocess
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from importlib import metadata
from pathlib import Path
from typing import Any

from optuna.exceptions import DuplicatedStudyError
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.study.study import _SYSTEM_ATTR_METRIC_NAMES as METRIC_NAMES
from optuna.trial import FrozenTrial, TrialState

from hpo.aims import Aims
from hpo.drivers import is_dead, named
from hpo.errors import (
    ObjectiveError,
    RunDirectoryError,
    StudyChangedError,
    StudyNotFoundError,
    nearest,
)
from hpo.mlflow_server.uris import masked
from hpo.spec import Plan, RunSpec, from_stored
from hpo.storage import Driver, Lease, Storage
from hpo.trial import ITSELF, TrialRecord
from hpo.words import counted

SPEC = "hpo:spec"
UID = "hpo:uid"
STATE = "hpo:state"
DIRECTORY = "hpo:directory"
ORIGIN = "hpo:origin"
TRACKING = "hpo:tracking"
STOPS = "hpo:stops"

LOG_NAME = "mlflow.log"
_OWNER = ".study"  # file in a study's folder with its uid
CURVE = "precision_recall.svg"
"""The best classifier's precision over recall, in the study's folder."""

DATA_NEEDS = "data-needs"
"""Folder in a study's own, for fits on parts of the training data."""

_log = logging.getLogger(__name__)

_PACKAGES = ("hpo", "optuna", "torch", "numpy", "scikit-learn", "scikit-optimize", "mlflow")


@dataclass(frozen=True)
class StudyRecord:
    """A study as the storage knows it.

    Args:
        storage: Where it is.
        frozen: Optuna's view of it.
    """

    storage: Storage
    frozen: FrozenStudy

    @property
    def id(self) -> int:
        """The study's row in the database."""
        return self.frozen._study_id

    @property
    def name(self) -> str:
        """The study's name."""
        return self.frozen.study_name

    @property
    def attrs(self) -> dict[str, Any]:
        """What hpo has noted about the study."""
        return self.frozen.system_attrs

    @property
    def uid(self) -> str:
        """Tells apart studies that had the same name one after another."""
        return str(self.attrs.get(UID, f"optuna-{self.id}"))

    @property
    def maximize(self) -> bool:
        """Whether larger values are better, of the first metric."""
        return bool(self.frozen.directions[0] is StudyDirection.MAXIMIZE)

    @cached_property
    def directory(self) -> Path | None:
        """The folder of the trials' metrics; None for a study that plain Optuna made.

        It is looked for in the current folder first, which may have been moved with it.
        """
        if DIRECTORY not in self.attrs:
            return None
        noted = Path(self.attrs[DIRECTORY])
        parent = self.attrs.get(SPEC, {}).get("run", {}).get("directory", "")
        moved = Path(parent).resolve() / noted.name
        return moved if _owner(moved) == self.uid else noted

    def directory_of(self, trial: int) -> Path | None:
        """The folder of the trial of that number; None for a study that plain Optuna made."""
        return None if self.directory is None else self.directory / f"trial-{trial:05d}"

    @cached_property
    def plan(self) -> Plan:
        """The study file, as it was run last.

        Raises:
            ObjectiveError: the study was not made by hpo.
        """
        if SPEC not in self.attrs:
            raise ObjectiveError(
                f"study '{self.name}' was not made by hpo, so it cannot be run.",
                "It can be shown: hpo show, hpo trials, hpo best.",
            )
        return from_stored({**self.attrs[SPEC], "folder": str(self._folder)})

    @property
    def _folder(self) -> Path:
        """Where the study's code and data are: where they were, or moved as its own folder was."""
        folder, new = Path(self.attrs[SPEC]["folder"]), self.directory
        if new is None:
            return folder
        old = Path(self.attrs[DIRECTORY])
        while old.name and old.name == new.name:
            old, new = old.parent, new.parent
        return new / folder.relative_to(old) if folder.is_relative_to(old) else folder

    @property
    def tracking(self) -> str | None:
        """MLflow's URI in the last run, or `none`; None if it held a password."""
        return self.attrs.get(TRACKING)

    def note_tracking(self, uri: str | None) -> None:
        """Notes where MLflow is; a URI with a password is not kept."""
        kept = "none" if uri is None else uri if masked(uri) == uri else None
        self.storage.set_study_system_attr(self.id, TRACKING, kept)
        self.frozen.system_attrs[TRACKING] = kept

    @cached_property
    def aims(self) -> Aims:
        """What the study is after, and so which of its trials are better."""
        spec = self.attrs.get(SPEC, {})
        directions = tuple(direction.name.lower() for direction in self.frozen.directions)
        names = spec.get("objective", {}).get("metric") or self.attrs.get(METRIC_NAMES)
        if names is None:  # plain Optuna made it
            several = len(directions) > 1
            names = [f"value_{i}" for i in range(len(directions))] if several else "value"
        metrics = (names,) if isinstance(names, str) else tuple(names)
        return Aims(metrics, directions, spec.get("constraints", {}))

    @property
    def metric(self) -> str:
        """Name of what is optimised, or of the first of several."""
        return self.aims.metrics[0]

    def frozen_trials(self) -> list[FrozenTrial]:
        """Optuna's trials, by number."""
        return self.storage.get_all_trials(self.id, deepcopy=False)

    def trial(self, trial_id: int) -> TrialRecord:
        """The trial in that row of the database."""
        return self.aims.read(self.storage.get_trial(trial_id))

    def trials(self) -> list[TrialRecord]:
        """The study's trials, by number."""
        return [self.aims.read(trial) for trial in self.frozen_trials()]

    def counts(self) -> dict[str, int]:
        """Number of trials in each state, under the keys of ``--json``."""
        counted = self.storage.counts(self.id)
        order = ("COMPLETE", "PRUNED", "FAIL", "RUNNING", "WAITING")
        return {state.lower(): counted[TrialState[state]] for state in order}

    def ranked(self) -> list[TrialRecord]:
        """COMPLETE trials, the best first; equals in the order of asking (`Aims.ranked`)."""
        return self.aims.ranked(self.trials())

    def front(self) -> list[TrialRecord]:
        """The trials that no feasible one dominates; of a single metric, the best alone."""
        return [trial for trial in self.ranked() if trial.rank == 1]

    def best(self) -> TrialRecord | None:
        """The best COMPLETE trial, of several metrics in the first, if there is one."""
        return next(iter(self.front()), None)

    def why_no_best(self) -> str:
        """Why there is no best trial, as a sentence; empty where there is one."""
        closest = next(iter(self.ranked()), None)
        if closest is None:
            return self._why_none_is_complete()
        if closest.feasible:
            return ""
        found = "; ".join(check.sentence for check in closest.violations)
        return f"no trial keeps the constraints; the nearest is trial {closest.number}: {found}."

    @property
    def all_stopped(self) -> bool:
        """Whether trials were stopped, and none is complete or may still be."""
        counts = self.counts()
        may_be = counts["complete"] + counts["running"] + counts["waiting"]
        return bool(counts["pruned"]) and not may_be

    def _why_none_is_complete(self) -> str:
        if not self.all_stopped:
            return f"study '{self.name}' has no complete trial yet."
        trials = self.trials()
        stopped = [trial for trial in trials if trial.state == "PRUNED"]
        last = stopped[-1]
        return (
            f"none of {counted(len(trials), 'trial')} is complete, as the best has to be: "
            f"{len(stopped)} {'was' if len(stopped) == 1 else 'were'} stopped, trial {last.number} "
            f"by {last.stopped_by or ITSELF}."
        )

    def baseline(self) -> TrialRecord | None:
        """The trial of what would be run without a search: the last one, if it was changed."""
        return next((trial for trial in reversed(self.trials()) if trial.is_baseline), None)

    @property
    def lease_seconds(self) -> float:
        """Silence of a driver after which others take up its trials."""
        run = self.attrs.get(SPEC, {}).get("run", {})
        return float(run.get("lease", RunSpec.model_fields["lease"].default))

    def is_alive(self, driver: Driver) -> bool:
        """Whether a driver of this study is neither gone nor dead nor silent."""
        return not is_dead(driver, self.lease_seconds)

    def drivers(self) -> list[Driver]:
        """The drivers that are alive, in the order in which they came."""
        return [each for each in self.storage.leases.drivers(self.id) if self.is_alive(each)]

    @property
    def state(self) -> str:
        """running, finished, interrupted or failed."""
        if self.drivers():  # whatever was noted, by this driver or another
            return "running"
        noted = str(self.attrs.get(STATE, {}).get("state", "finished"))
        if self.lapsed():
            return "interrupted"
        if self.running():  # by something other than hpo
            return "running"
        return "interrupted" if noted == "running" else noted

    @property
    def state_reason(self) -> str:
        """Why the study is in that state; empty where there is nothing to say."""
        state, noted = self.state, self.attrs.get(STATE, {})
        if state == "running":
            drivers = self.drivers()
            where = ", ".join(named(driver.about) for driver in drivers)
            return f"{counted(len(drivers), 'driver')}: {where}" if drivers else ""
        if state == "interrupted" and noted.get("state") != "interrupted":
            died = [named(each.about) for each in self.storage.leases.drivers(self.id)
                    if each.ended is None]  # fmt: skip
            return f"{', '.join(died[-3:]) or 'its driver'} died"
        return str(noted.get("reason", ""))

    def running(self) -> list[FrozenTrial]:
        """Trials that run, whoever's they are."""
        states = (TrialState.RUNNING,)
        return self.storage.get_all_trials(self.id, deepcopy=False, states=states)

    def leased(self) -> list[tuple[FrozenTrial, Lease, Driver | None]]:
        """Trials that hpo's drivers run, or died of, each with its lease and driver."""
        running = {trial._trial_id: trial for trial in self.running()}
        leases = self.storage.leases.of(list(running))
        if not leases:
            return []
        drivers = {driver.id: driver for driver in self.storage.leases.drivers(self.id)}
        return [
            (running[trial_id], lease, drivers.get(lease.driver_id))
            for trial_id, lease in leases.items()
        ]

    def seconds_running(self) -> dict[int, float]:
        """For how long each leased trial has run, by its row and by the database's clock."""
        return {
            lease.trial_id: max(0.0, driver.beat + driver.silence - lease.given)
            for _, lease, driver in self.leased()
            if driver is not None
        }

    @property
    def is_gone(self) -> bool:
        """Whether the study was deleted, or the file of its database was."""
        return not self.storage.is_there or not self.storage.has_study(self.id)

    def lapsed(self) -> list[tuple[Lease, Driver | None]]:
        """The leases of trials whose driver is gone, dead or silent, and those drivers."""
        return [
            (lease, driver)
            for _, lease, driver in self.leased()
            if driver is None or not self.is_alive(driver)
        ]

    @property
    def seconds_driven(self) -> float:
        """How long any driver was at work on the study, by the database's clock."""
        total, until = 0.0, -math.inf
        for driver in self.storage.leases.drivers(self.id):
            end = driver.beat if driver.ended is None else driver.ended
            if self.is_alive(driver):
                end = driver.beat + driver.silence
            total += max(0.0, end - max(driver.began, until))
            until = max(until, end)
        return total

    @property
    def stops(self) -> int:
        """How often all drivers were asked to stop."""
        return int(self.storage.get_study_system_attrs(self.id).get(STOPS, 0))

    def ask_to_stop(self) -> None:
        """Asks all drivers to end after the next reports of their trials."""
        self.storage.set_study_system_attr(self.id, STOPS, self.stops + 1)

    def note_state(self, state: str, reason: str = "") -> None:
        """Notes what the study is doing."""
        noted = {"state": state, "reason": reason}
        self.storage.set_study_system_attr(self.id, STATE, noted)
        self.frozen.system_attrs[STATE] = noted


def every(storage: Storage) -> list[StudyRecord]:
    """All studies, in the order they were made."""
    return [StudyRecord(storage, frozen) for frozen in storage.get_all_studies()]


def find(storage: Storage, name: str) -> StudyRecord:
    """The study of that name.

    Raises:
        StudyNotFoundError: there is none.
    """
    studies = {record.name: record for record in every(storage)}
    if name not in studies:
        if not studies:
            message = f"no study '{name}': {storage.url} holds no studies yet."
            raise StudyNotFoundError(message, "Run one: hpo run FILE, or name a --storage.")
        message = f"no study '{name}' in {storage.url}. {nearest(name, studies)}"
        raise StudyNotFoundError(message, "List them: hpo studies")
    return studies[name]


def find_or_create(storage: Storage, plan: Plan) -> StudyRecord:
    """The study that a plan describes: a new one, or the one of that name to go on with.

    Raises:
        StudyChangedError: a study of that name has another space or objective.
        RunDirectoryError: its folder cannot be made.
    """
    existing = {record.name: record for record in every(storage)}.get(plan.spec.name)
    if existing is None:
        objective = plan.spec.objective
        directions = [StudyDirection[direction.upper()] for direction in objective.directions]
        uid = uuid.uuid4().hex
        directory = _new_directory(plan, uid)
        attrs = {
            UID: uid,
            DIRECTORY: str(directory),
            ORIGIN: {**_origin(plan.folder), "fingerprint": plan.fingerprint},
            SPEC: plan.as_stored(),
        }
        if len(directions) > 1:  # so that Optuna's own tools name them, too
            attrs[METRIC_NAMES] = list(objective.metrics)
        try:
            storage.create_new_study(directions, plan.spec.name, attrs)
            _own(directory, uid)
        except DuplicatedStudyError:  # another process was faster
            found = find_or_create(storage, plan)
            if found.directory != directory:
                with suppress(OSError):
                    directory.rmdir()
            return found
    else:
        plan = _directed_as(existing, plan)
        _refuse_change(existing, plan)
        if existing.directory is not None:
            make_directory(existing.directory)
            _own(existing.directory, existing.uid)
        storage.set_study_system_attr(existing.id, SPEC, plan.as_stored())
    return find(storage, plan.spec.name)


def join(storage: Storage, plan: Plan) -> StudyRecord:
    """The study that a plan names, to be driven by that plan without changing what is stored.

    Raises:
        StudyNotFoundError: there is none.
        RunDirectoryError: its folder cannot be written from here.
    """
    record = find(storage, plan.spec.name)
    if record.directory is not None:
        make_directory(record.directory)
    record.frozen.system_attrs[SPEC] = plan.as_stored()
    return record


def beside(storage: Storage, plan: Plan) -> StudyRecord:
    """The study that a plan describes, for something beside its trials.

    It is made where there is none; one that exists is not changed.

    Raises:
        StudyChangedError: a study of that name has another space or objective.
        RunDirectoryError: its folder cannot be made or written.
    """
    existing = {record.name: record for record in every(storage)}.get(plan.spec.name)
    if existing is None:
        return find_or_create(storage, plan)
    plan = _directed_as(existing, plan)
    _refuse_change(existing, plan)
    return join(storage, plan)


def delete(record: StudyRecord) -> None:
    """Deletes a study and what it wrote into its run directory; MLflow keeps its copy."""
    record.storage.delete_study(record.id)
    directory = record.directory
    if directory is None or _owner(directory) not in (None, record.uid):
        return
    for ours in [*directory.glob("trial-*"), directory / DATA_NEEDS]:
        shutil.rmtree(ours, ignore_errors=True)
    for name in (LOG_NAME, CURVE, _OWNER):
        (directory / name).unlink(missing_ok=True)
    with suppress(OSError):  # whatever else is in there is not ours
        directory.rmdir()


def _new_directory(plan: Plan, uid: str) -> Path:
    """A folder of its own for a new study: named like it, unless that one is in use."""
    directory = Path(plan.spec.run.directory).resolve() / plan.spec.name
    if directory.is_dir() and any(directory.iterdir()):
        directory = directory.with_name(f"{plan.spec.name}-{uid[:8]}")
    make_directory(directory)
    return directory


def _own(directory: Path, uid: str) -> None:
    """Notes whose folder it is, by which it is found when it was moved."""
    if _owner(directory) is None:
        with suppress(OSError):  # the first trial will tell
            (directory / _OWNER).write_text(uid, encoding="utf-8")


def _owner(directory: Path) -> str | None:
    """The uid of the study whose folder it is, if it says so."""
    try:
        return (directory / _OWNER).read_text(encoding="utf-8").strip()
    except OSError:
        return None


def make_directory(directory: Path) -> None:
    """Makes a folder.

    Raises:
        RunDirectoryError: it cannot be made or written to.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        probe = directory / f".probe-{os.getpid()}"
        probe.touch()
        probe.unlink(missing_ok=True)  # another container may have a process of that number
    except OSError as error:
        raise RunDirectoryError(
            f"cannot write to the run directory {directory}: {error.strerror}.",
            "Name another one: --set run.directory=/some/folder",
        ) from error


def _directed_as(existing: StudyRecord, plan: Plan) -> Plan:
    """The plan with the directions of its study, where its file states none.

    Which names tell which way is better may change between versions; a study keeps its own.
    """
    was, said = existing.aims, plan.spec.objective
    if plan.states_direction or was.metrics != said.metrics or was.directions == said.directions:
        return plan
    goes_on = ", ".join(f"{way} {m}" for m, way in zip(was.metrics, was.directions, strict=True))
    _log.warning(
        "study '%s' was made to %s, and goes on so; to turn it round, state objective.direction "
        "and give it a name of its own",
        existing.name,
        goes_on,
    )
    return plan.directed(was.directions)


def _refuse_change(existing: StudyRecord, plan: Plan) -> None:
    if plan.identity == existing.plan.identity:
        return
    before, after = existing.plan.identity["objective"], plan.identity["objective"]
    changes = [
        f"objective.{key}: {before.get(key)} -> {after.get(key)}"
        for key in sorted({*before, *after})
        if before.get(key) != after.get(key)
    ]
    changes += [f"space: {line}" for line in existing.plan.space.diff(plan.space)]
    lines = "\n  ".join(changes)
    raise StudyChangedError(
        f"study '{plan.spec.name}' exists with another space or objective:\n  {lines}",
        f"Give this one a name of its own: --set name={plan.spec.name}-2, "
        f"or delete the other: hpo delete {plan.spec.name}",
    )


def _origin(folder: Path) -> dict[str, Any]:
    """What the results depend on besides the file: versions and the git commit."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "python": platform.python_version(),
        "packages": versions,
        "git_commit": _git_commit(folder),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git_commit(folder: Path) -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    command: Sequence[str] = (git, "-C", str(folder), "rev-parse", "HEAD")
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    return done.stdout.strip() if done.returncode == 0 else None
