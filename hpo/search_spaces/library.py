"""Ready-made spaces: fragments that a study file merges with `use: [sgd, linear_decay]`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.search_spaces.errors import Problem, SpaceError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

_FOLDER = Path(__file__).parent / "library"


@dataclass(frozen=True)
class Fragment:
    """A named part of a space.

    Args:
        name: What `use` calls it.
        why: One line on what it is good for.
        source: Where its ranges come from.
        space: What it adds to the `space:` of a study file.
    """

    name: str
    why: str
    source: str
    space: Mapping[str, object]


def names() -> tuple[str, ...]:
    """The names of all fragments, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


@cache
def load(name: str) -> Fragment:
    """Finds a fragment.

    Raises:
        SpaceError: there is none of this name.
    """
    if name not in names():
        sentence = f"there is no ready-made space {name!r}.{did_you_mean(name, names())}"
        raise SpaceError([Problem((), sentence)])
    from ruamel.yaml import YAML

    text = (_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
    document = YAML(typ="safe", pure=True).load(text)
    return Fragment(name, **document)
