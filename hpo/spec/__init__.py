"""What a study file says: parsed and validated once, here, and trusted afterwards.

Every mistake in a file is collected, each with its line, the path to it and the nearest known
name, and raised as one `SpecError`.

- `objective`, `model`: what may stand in a file, section by section; `durations`: its 1h30m;
  `space_schema`: what editors are told of its space.
- `checks`: every mistake in it; `wording`: those that Pydantic finds, in our words.
- `plan`: what follows from it, and the ways to one: `load`, `check`, `from_stored`.
"""

from __future__ import annotations

from hpo.spec.durations import Seconds, as_duration, seconds
from hpo.spec.model import (
    RULE_OPTIONS,
    RuleName,
    RunSpec,
    SamplerName,
    SearchSpec,
    StoppingSpec,
    StudySpec,
    json_schema,
)
from hpo.spec.objective import MetricsFrom, ObjectiveSpec, source_of
from hpo.spec.plan import DEFAULT_TRIALS, Plan, check, from_stored, load

__all__ = [
    "DEFAULT_TRIALS",
    "RULE_OPTIONS",
    "MetricsFrom",
    "ObjectiveSpec",
    "Plan",
    "RuleName",
    "RunSpec",
    "SamplerName",
    "SearchSpec",
    "Seconds",
    "StoppingSpec",
    "StudySpec",
    "as_duration",
    "check",
    "from_stored",
    "json_schema",
    "load",
    "seconds",
    "source_of",
]
