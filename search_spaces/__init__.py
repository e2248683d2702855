"""What may be searched: domains, conditions between parameters, and ready-made spaces.

    flow, errors      how values and mistakes are told to people
    exact, checks     arithmetic without surprises; what can be wrong with a domain
    domains           the values one parameter may have, and their unit coordinates
    conditions        who depends on whom: checks, order, counting
    space             SearchSpace: walk, sample, grid, size, identity
    library           named fragments with their sources: library/*.yaml
    parse             the `space:` of a study file

Each may import those above it. Nothing here imports NumPy, Optuna or a YAML reader before it is
needed, so that reading a space costs nothing.
"""

from search_spaces import library
from search_spaces.domains import Choice, Domain, Fixed, Float, Int, Sampled, Scalar
from search_spaces.errors import GridError, Problem, SpaceError, did_you_mean
from search_spaces.library import Fragment
from search_spaces.parse import parse
from search_spaces.space import Parameter, SearchSpace

__all__ = [
    "Choice",
    "Domain",
    "Fixed",
    "Float",
    "Fragment",
    "GridError",
    "Int",
    "Parameter",
    "Problem",
    "Sampled",
    "Scalar",
    "SearchSpace",
    "SpaceError",
    "did_you_mean",
    "library",
    "parse",
]
