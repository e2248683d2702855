"""What editors are told of ``space:``, as a JSON Schema.

Only a sketch: what a space may be is for `hpo.search_spaces.parse` to say, which checks it.
"""

from __future__ import annotations

from typing import Any

from hpo import search_spaces
from hpo.search_spaces.parse import BESIDE, FORMS
from hpo.search_spaces.vectors import TAPERS

_SCALAR = {"type": ["string", "number", "boolean", "null"]}
_BOUNDS = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
_BESIDE: dict[str, dict[str, Any]] = {
    "log": {"type": "boolean", "description": "Search on a logarithmic scale."},
    "step": {"type": "number", "exclusiveMinimum": 0},
    "powers_of": {"type": "integer", "minimum": 2, "description": "Only powers of this base."},
    "points": {"type": "integer", "minimum": 2, "description": "Points of this range in a grid."},
    "ordered": {"type": "boolean", "description": "The options stand in an order."},
    "prior": {**_SCALAR, "description": "Where good values are believed to lie."},
    "spread": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "How far from the prior: a distance, on a log scale a factor, of a choice "
        "the share of the other options.",
    },
    "when": {
        "type": "object",
        "description": "Active only when others have these values: {optimizer: sgd}, "
        "{schedule: [step, linear]}, {depth: '>= 3'}.",
    },
    "per": {"type": "string", "description": "A value for each: per: depth is one a layer."},
    "taper": {
        "anyOf": [
            {"enum": list(TAPERS)},
            {"type": "array", "items": {"enum": list(TAPERS)}, "minItems": 1},
        ],
        "description": "With per: how all values follow from the first; a list is a choice.",
    },
    "why": {"type": "string", "description": "A word to people."},
}


def _form(kind: str, value: dict[str, Any]) -> dict[str, Any]:
    keys = {key: _BESIDE[key] for key in (*FORMS[kind], *BESIDE)}
    return {
        "type": "object",
        "properties": {kind: value, **keys},
        "required": [kind],
        "additionalProperties": False,
    }


def _one_or_more(item: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [item, {"type": "array", "items": item}]}


SPACE_SCHEMA = {
    "type": "object",
    "minProperties": 1,
    "properties": {
        "use": {
            **_one_or_more({"type": "string", "enum": list(search_spaces.library.names())}),
            "description": "Ready-made spaces, merged left to right.",
        },
        "require": {
            **_one_or_more({"type": "string"}),
            "description": "What must hold between parameters: [warmup_epochs < epochs].",
        },
    },
    "additionalProperties": {
        "anyOf": [
            _form("float", _BOUNDS),
            _form("int", _BOUNDS),
            _form("choice", {"type": "array", "items": _SCALAR, "minItems": 1}),
            _form("fixed", _SCALAR),
            {"type": "array", "items": _SCALAR, "minItems": 1, "description": "A choice."},
            {**_SCALAR, "description": "A fixed value."},
        ]
    },
}
