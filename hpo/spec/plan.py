"""What follows from a study file: the `Plan`, which is trusted wherever it goes."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpo import studyfile
from hpo.places import TRAIN_FRACTION
from hpo.search_spaces import Fixed, Scalar, SearchSpace
from hpo.spec import checks
from hpo.spec.model import OF_PROCESSES, RULE_OPTIONS, StudySpec
from hpo.studyfile import StudyFile

DEFAULT_TRIALS = 50

_BESIDE_THE_POINT = {"bounds", "report", "train_fraction"}  # trials are comparable with or without


@dataclass(frozen=True)
class Plan:
    """A study file that has been checked: nothing below has to be checked again.

    Args:
        spec: The file as written.
        space: Its search space, ready-made parts merged in.
        folder: Where its function is looked for.
        baseline: The params of the baseline, if there is one.
        states_direction: Whether the file says which way is better; else the metric's name does.
    """

    spec: StudySpec
    space: SearchSpace
    folder: Path
    baseline: Mapping[str, Scalar] | None = None
    states_direction: bool = True

    @property
    def trials(self) -> int | None:
        """How many trials the study is to have; None when only its timeout ends it."""
        search, size = self.spec.search, self.space.size
        if search.sampler == "grid":
            size = self.space.grid_size
            if self.baseline is not None and not self.space.on_grid(self.baseline):
                size += 1
        if search.trials is None and search.timeout is None:
            wanted = size if search.sampler == "grid" else DEFAULT_TRIALS
        else:
            wanted = search.trials
        return min((n for n in (wanted, size) if n is not None), default=None)

    def epochs(self, params: Mapping[str, Any]) -> int | None:
        """How many epochs the trial of some params takes; None where nothing says it."""
        if self.spec.objective.epochs is not None:
            return self.spec.objective.epochs
        said = params.get("epochs")
        if said is None and "epochs" in self.space.by_name:
            domain = self.space.by_name["epochs"].domain
            said = domain.value if isinstance(domain, Fixed) else None
        return said if isinstance(said, int) else self.spec.objective.usual_epochs

    @property
    def longest(self) -> int | None:
        """How many epochs a trial takes at the most; None where nothing says it."""
        return self.spec.objective.longest(self.space)

    def config(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration that runs for sampled `params`."""
        return {**self.space.arranged(self.space.complete(params)), **self._given}

    def flat_config(self, params: Mapping[str, Any]) -> dict[str, Scalar]:
        """The configuration with a name for each element of a vector, as is searched and shown."""
        return {**self.space.complete(params), **self._given}

    def sample_params(self, n: int) -> list[dict[str, Scalar]]:
        """The params of n configurations as they may be drawn; each time the same ones."""
        rng = random.Random(0)
        return [self.space.sample_params(rng) for _ in range(n)]

    @property
    def _given(self) -> dict[str, Scalar]:
        objective = self.spec.objective
        given: dict[str, Scalar] = {} if objective.epochs is None else {"epochs": objective.epochs}
        if objective.says_fraction and TRAIN_FRACTION not in self.space.by_name:
            given[TRAIN_FRACTION] = 1.0
        return given

    @property
    def takes_fraction(self) -> bool:
        """Whether a trial trains on the share `train_fraction` of its training examples."""
        objective = self.spec.objective
        ours = objective.kind in ("trainer", "estimator")
        return ours or objective.says_fraction or TRAIN_FRACTION in self.space.by_name

    @property
    def identity(self) -> dict[str, Any]:
        """What must stay the same for trials to belong to one study."""
        said = self.spec.objective
        objective = said.model_dump(mode="json", exclude_defaults=True, exclude=_BESIDE_THE_POINT)
        objective["direction"] = said.direction if len(said.metrics) == 1 else said.directions
        return {"objective": objective, "space": self.space.to_dict(hints=False)}

    @property
    def fingerprint(self) -> str:
        """A short hash of `identity`."""
        text = json.dumps(self.identity, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def as_stored(self) -> dict[str, Any]:
        """The resolved file, without anything that could hold a password."""
        stored = self.spec.model_dump(mode="json", exclude={"storage", "tracking"})
        if self.baseline is None:
            del stored["baseline"]  # an empty one in a file is a mistake
        return {**stored, "space": self.space.to_dict(), "folder": str(self.folder)}

    def directed(self, directions: Sequence[str]) -> Plan:
        """The same plan with these directions, metric by metric."""
        given = list(directions) if len(directions) > 1 else directions[0]
        objective = self.spec.objective.model_copy(update={"direction": given})
        return replace(self, spec=self.spec.model_copy(update={"objective": objective}))

    def overridden(self, overrides: Sequence[str]) -> Plan:
        """The same plan, but for ``a.b=value`` overrides.

        Raises:
            SpecError: the result cannot be run.
        """
        values = {key: value for key, value in self.as_stored().items() if key != "folder"}
        rule: str = self.spec.stopping.rule
        for override in overrides:  # another rule begins with its own defaults
            key, _, value = override.partition("=")
            rule = value.strip() if key == "stopping.rule" else rule
        values["stopping"] = _of_rule(values["stopping"], rule)
        of_processes = {f"run.{key}" for key in OF_PROCESSES}
        if any(override.partition("=")[0].strip() in of_processes for override in overrides):
            values["run"].pop("executor", None)  # it follows from them, where it is not overridden
        name = f"study {self.spec.name}"
        file = studyfile.from_values(values, name, self.folder, overrides)
        return check(file, with_data=False)


def check(file: StudyFile, *, with_data: bool = True) -> Plan:
    """Checks a study file, whole.

    Args:
        file: The file.
        with_data: Whether its data is looked for. Of a study that exists it is not: what there is
            of it can be read when the data has gone.

    Raises:
        SpecError: with every mistake in it.
    """
    spec, space, baseline = checks.parts(file, with_data=with_data)
    return Plan(spec, space, file.folder, baseline, "direction" in file.values["objective"])


def load(path: Path, overrides: Sequence[str] = ()) -> Plan:
    """Reads and checks a study file.

    Args:
        path: The YAML file.
        overrides: ``search.trials=200`` strings that win over the file.

    Raises:
        SpecError: with every mistake in it.
    """
    return check(studyfile.read(path, overrides))


def from_stored(stored: Mapping[str, Any]) -> Plan:
    """The plan of a study in the storage; the inverse of `Plan.as_stored`.

    Where its folder is gone, having been moved or being another machine's, the current one takes
    its place.
    """
    values = {key: value for key, value in stored.items() if key != "folder"}
    stopping = values.get("stopping", {})
    values["stopping"] = _of_rule(stopping, stopping.get("rule", "none"))
    folder = Path(stored["folder"])
    here = folder if folder.is_dir() else Path.cwd()
    return check(StudyFile("the stored study", here, values), with_data=False)


def _of_rule(stopping: Mapping[str, Any], rule: str) -> dict[str, Any]:
    """What stands under ``stopping:``, but for what is said of other rules than this one."""
    wrapped = RULE_OPTIONS.get(stopping.get("wrapped", "none"), ()) if rule == "patience" else ()
    options = {"rule", *RULE_OPTIONS.get(rule, ()), *wrapped}
    return {key: value for key, value in stopping.items() if key in options}
