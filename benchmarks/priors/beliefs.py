"""What a user may believe about a problem, written down as priors of its space."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from benchmarks.priors.problems import Problem
from hpo.search_spaces import Domain, Scalar, SearchSpace, parse
from hpo.search_spaces.priors import DEFAULT_SPREAD

NONE = "none"
BELIEFS: Mapping[str, str] = {
    NONE: "no priors",
    "good": "each prior within half a spread of the best value; the right optimizer",
    "so-so": "each 1.5 spreads off; no belief about the optimizer",
    "one wrong": "as good, but the learning rate's at the far end of its range",
    "wrong": "each at the far end of its range; the wrong optimizer",
}

_SO_SO = 1.5  # spreads


def believed(problem: Problem, belief: str, seed: int) -> SearchSpace:
    """The problem's space with a prior, of the default spread, on each parameter."""
    space = parse(problem.forms)
    if belief == NONE:
        return space
    rng = np.random.default_rng([seed, 1])
    forms = {name: dict(form) for name, form in problem.forms.items()}
    for parameter in space.free:
        name, kind = parameter.name, belief
        if belief == "one wrong":
            kind = "wrong" if name.startswith("learning_rate") else "good"
        prior = _prior(parameter.domain, problem.best[name], kind, rng)
        if prior is not None:
            forms[name]["prior"] = prior
    return parse(forms)


def _prior(domain: Domain, best: Scalar, kind: str, rng: np.random.Generator) -> Scalar:
    u, side, far = domain.to_unit(best), rng.choice([-1.0, 1.0]), rng.uniform(0.0, 0.5)
    if not domain.is_numeric():
        opposite = domain.from_unit(1 - u)  # of two options, the other one
        return {"good": best, "wrong": opposite}.get(kind)
    if kind == "wrong":
        return domain.from_unit(float(u < 0.5))
    offset = side * DEFAULT_SPREAD * (far if kind == "good" else _SO_SO)
    if not 0 <= u + offset <= 1:
        offset = -offset
    return domain.from_unit(u + offset)
