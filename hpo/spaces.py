"""Spaces from Python: `hpo.space(learning_rate=hpo.Float(1e-4, 1, log=True))`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo import search_spaces, studyfile
from hpo.errors import SpecError
from hpo.search_spaces import SearchSpace
from hpo.search_spaces.parse import FORMS

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution


@dataclass(frozen=True)
class SpaceFile:
    """A file with a space: a study file, or one with nothing else in it.

    Args:
        space: What may be searched.
        use: The ready-made spaces that it joins.
        objective: What a study file says of its objective, unchecked.
    """

    space: SearchSpace
    use: Sequence[str]
    objective: Mapping[str, Any]

    @property
    def epochs(self) -> int | None:
        """Length of a trial, where the file says it."""
        return _epochs(self.objective)


def read(path: Path) -> SpaceFile:
    """Reads the space of a file.

    Raises:
        HpoError: with every mistake in the space, and the line it is on.
    """
    file = studyfile.read(path)
    values, objective = file.values, file.values.get("objective")
    above: tuple[str, ...] = ()
    inner = values.get("space")
    if isinstance(inner, Mapping) and not inner.keys() & FORMS.keys():  # it is a study file
        values, above = inner, ("space",)
    objective = objective if above and isinstance(objective, Mapping) else {}
    epochs = _epochs(objective)
    try:
        space = search_spaces.parse(values, known={} if epochs is None else {"epochs": epochs})
    except search_spaces.SpaceError as error:
        mistakes = [file.mistake((*above, *p.path), p.message) for p in error.problems]
        raise SpecError(file.source, mistakes) from None
    use = values.get("use", [])
    return SpaceFile(space, [use] if isinstance(use, str) else list(use), objective)


def _epochs(objective: Mapping[str, Any]) -> int | None:
    epochs = objective.get("epochs")
    return epochs if isinstance(epochs, int) and epochs > 0 else None


class SpaceMaker:
    """Makes search spaces; there is one, `hpo.space`.

    >>> space = hpo.space(
    ...     optimizer=["sgd", "adam"],
    ...     learning_rate=hpo.Float(1e-4, 1, log=True, prior=1e-2),
    ...     momentum=hpo.Choice([0.5, 0.9, 0.99]).when(optimizer="sgd"),
    ...     depth=hpo.Int(1, 4),
    ...     width=hpo.Int(16, 256, powers_of=2).per("depth"),
    ...     require=["width_1 >= 32"],
    ... )
    >>> space.size, space.to_yaml()
    """

    def __call__(
        self,
        *,
        use: str | Sequence[str] = (),
        require: str | Sequence[str] = (),
        **parameters: object,
    ) -> SearchSpace:
        """Makes a space, as if it were written in YAML.

        Args:
            use: Names of ready-made spaces, merged from left to right; see ``hpo spaces list``.
            require: What must hold between parameters.
            **parameters: `hpo.Float`, `hpo.Int`, `hpo.Choice`, `hpo.boolean()`, with
                ``.when(...)`` and ``.per(...)``; or what YAML would have: lists, scalars, dicts.

        Raises:
            hpo.SpaceError: with every problem.
        """
        return search_spaces.build(use=use, require=require, **parameters)

    def load(self, path: str | Path) -> SearchSpace:
        """Reads a space from a YAML file: a file of its own, or a study file.

        Raises:
            hpo.HpoError: with every mistake, and the line it is on.
        """
        return read(Path(path)).space

    def save(self, space: SearchSpace, path: str | Path) -> None:
        """Writes a space as a YAML file that `load` reads."""
        Path(path).write_text(space.to_yaml(), encoding="utf-8")

    def from_optuna(self, distributions: Mapping[str, BaseDistribution]) -> SearchSpace:
        """The space of Optuna's distributions: ``hpo.space.from_optuna(trial.distributions)``."""
        return search_spaces.from_optuna(distributions)

    def to_configspace(self, space: SearchSpace) -> dict[str, Any]:
        """The dictionary that ConfigSpace's ``from_serialized_dict`` reads."""
        return search_spaces.to_configspace(space)


space = SpaceMaker()
