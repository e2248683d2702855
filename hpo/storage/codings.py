"""What stands in the rows of Optuna's tables: values, steps, attributes and distributions.

To be read, rows are those of a query; to be written, mappings of columns but for their owner's id.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from optuna.distributions import BaseDistribution, distribution_to_json, json_to_distribution
from optuna.storages._rdb.models import TrialIntermediateValueModel, TrialValueModel

_value = TrialValueModel.stored_repr_to_value
_stored_value = TrialValueModel.value_to_stored_repr
_step_value = TrialIntermediateValueModel.stored_repr_to_intermediate_value
_stored_step_value = TrialIntermediateValueModel.intermediate_value_to_stored_repr


def values_of(rows: Iterable[Any]) -> list[float]:
    """The objectives' values, in their order."""
    in_order = sorted(rows, key=lambda row: row.objective)
    return [_value(row.value, row.value_type) for row in in_order]


def value_rows(values: Iterable[float]) -> list[dict[str, Any]]:
    """The inverse of `values_of`."""
    stored = map(_stored_value, values)
    return [
        {"objective": objective, "value": value, "value_type": kind.name}
        for objective, (value, kind) in enumerate(stored)
    ]


def steps_of(rows: Iterable[Any]) -> dict[int, float]:
    """What was reported in each step."""
    return {
        row.step: _step_value(row.intermediate_value, row.intermediate_value_type) for row in rows
    }


def step_rows(steps: Iterable[tuple[int, float]]) -> list[dict[str, Any]]:
    """The inverse of `steps_of`."""
    stored = ((step, *_stored_step_value(number)) for step, number in steps)
    return [
        {"step": step, "intermediate_value": value, "intermediate_value_type": kind.name}
        for step, value, kind in stored
    ]


def attrs_of(rows: Iterable[Any]) -> dict[str, Any]:
    """Attributes, of a trial or of a study."""
    return {row.key: json.loads(row.value_json) for row in rows}


def attr_rows(attrs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The inverse of `attrs_of`."""
    return [{"key": key, "value_json": json.dumps(value)} for key, value in attrs.items()]


@lru_cache(maxsize=10_000)
def distribution_of(text: str) -> BaseDistribution:
    """A distribution, which nobody changes; a study has few of them."""
    return json_to_distribution(text)


@lru_cache(maxsize=10_000)
def distribution_text(distribution: BaseDistribution) -> str:
    """The inverse of `distribution_of`."""
    text: str = distribution_to_json(distribution)
    return text
