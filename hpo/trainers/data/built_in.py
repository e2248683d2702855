"""The data sets that scikit-learn carries."""

from __future__ import annotations

from typing import Any

from sklearn import datasets

from hpo.trainers.data.examples import InMemory, assemble
from hpo.trainers.data.parts import Data
from hpo.trainers.data.source import Source, describe
from hpo.trainers.data.standardise import fit_array


def load_built_in(source: Source, seed: int) -> tuple[Data, ...]:
    """See `hpo.trainers.data.load`."""
    known = describe(source.name)
    # scikit-learn would scale diabetes by all rows, those of the test part included.
    raw: dict[str, Any] = {"scaled": False} if source.name == "diabetes" else {}
    bunch = getattr(datasets, f"load_{source.name}")(**raw)
    examples = InMemory(bunch.data, fit_array, known.image_shape)
    classes = tuple(map(str, bunch.get("target_names", ())))
    return assemble(source, examples, bunch.target, seed=seed, classes=classes)
