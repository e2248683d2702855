"""Data sets: scikit-learn's own, tables, arrays, folders of images, and the user's code.

PyTorch, pandas and scikit-learn are imported by `load` alone, so that asking for `names`, or what
`describe` knows, costs nothing.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from hpo.trainers.data.source import BUILT_IN, Description, Source, describe, mistakes_of, names
from hpo.trainers.errors import DataError

if TYPE_CHECKING:
    from hpo.trainers.data.parts import Data


_STREAMED = (
    "Folders of images, a Dataset of your own, pt files, and npz files that are not compressed are "
    "read while they are trained on; other data is held."
)


def load(source: Source, *, seed: int) -> tuple[Data, ...]:
    """Loads a data set, splits it by `seed`, and standardises its features.

    Returns:
        One data set on the CPU; or one for each fold, which all have the same test part.

    Raises:
        DataError: it cannot be had; the sentence says why and what to do.
        CodeError: the user's code cannot be imported, or fails.
    """
    problems = list(mistakes_of(source))
    if problems:
        raise DataError(" ".join(problem.message for problem in problems))
    match source.form:
        case "built-in":
            from hpo.trainers.data.built_in import load_built_in as load_form
        case "code":
            from hpo.trainers.data.own import load_own as load_form
        case "images":
            from hpo.trainers.data.images import load_images as load_form
        case "table":
            from hpo.trainers.data.tables import load_table as load_form
        case _:
            from hpo.trainers.data.arrays import load_arrays as load_form
    try:
        return load_form(source, seed)
    except MemoryError as error:
        raise DataError(f"{source.name!r} does not fit into memory. {_STREAMED}") from error


@lru_cache(maxsize=8)
def load_data(source: Source, seed: int) -> tuple[Data, ...]:
    """`load`, once per process for equal arguments: the trials of a study share one data set."""
    return load(source, seed=seed)


__all__ = [
    "BUILT_IN",
    "Description",
    "Source",
    "describe",
    "load",
    "load_data",
    "mistakes_of",
    "names",
]
