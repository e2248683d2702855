"""What can be wrong with a search space, told all at once.

ValueError
└── SpaceError       every problem of a space or a domain, each with its path
    └── GridError    the space is sound but has no grid
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_LISTED = 30  # known names in a message


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong, and what to do about it.

    Args:
        path: Where, from the root of the space: `("learning_rate", "float")`.
        message: A whole sentence with the value at fault and the next right thing.
    """

    path: tuple[str | int, ...]
    message: str

    def within(self, *path: str | int) -> Problem:
        """The same problem, seen from further out."""
        return Problem((*path, *self.path), self.message)

    def __str__(self) -> str:
        where = ".".join(map(str, self.path))
        return f"{where}: {self.message}" if where else self.message


class SpaceError(ValueError):
    """A search space that cannot be; `problems` lists every reason."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


class GridError(SpaceError):
    """A space that has no grid; `problems` names every parameter without one."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, or all of them.

    Returns:
        `" Did you mean 'x'?"` or `" Known: a, b, c."` (the first of many), or nothing where
        nothing is known.
    """
    import difflib  # only a message needs it

    known = [str(each) for each in known]  # YAML's keys may be numbers
    if near := difflib.get_close_matches(str(name), known, n=1):
        return f" Did you mean {near[0]!r}?"
    more = f" and {len(known) - _LISTED} more" if len(known) > _LISTED else ""
    return f" Known: {', '.join(known[:_LISTED])}{more}." if known else ""
