"""What may be searched: domains, conditions between parameters, and ready-made spaces.

    flow, errors      how values and mistakes are told to people
    exact, checks     arithmetic without surprises; what can be wrong with a domain
    priors            beliefs about where good values lie, as changes of coordinate
    domains           the values one parameter may have, and their unit coordinates
    conditions        when a parameter is active
    requirements      what must hold between parameters
    vectors           parameters with one value for each layer
    links             who depends on whom: checks, order, vectors in their elements
    counting          how many configurations there are, without making them
    space             SearchSpace: walk, sample, grid, size, identity
    library           named fragments with their sources: library/*.yaml
    parse             the `space:` of a study file
    convert           spaces in Python, and in the forms of Optuna and ConfigSpace

Each may import those above it. Nothing here imports NumPy, Optuna or a YAML reader before it is
needed, so that reading a space costs nothing.
"""

from hpo.search_spaces import library
from hpo.search_spaces.convert import build, from_optuna, to_configspace
from hpo.search_spaces.domains import (
    Choice,
    Domain,
    Fixed,
    Float,
    Form,
    Int,
    Sampled,
    Scalar,
    boolean,
)
from hpo.search_spaces.errors import GridError, Problem, SpaceError, did_you_mean
from hpo.search_spaces.library import Fragment
from hpo.search_spaces.links import Parameter
from hpo.search_spaces.parse import parse
from hpo.search_spaces.requirements import Requirement
from hpo.search_spaces.space import Arranged, SearchSpace

__all__ = [
    "Arranged",
    "Choice",
    "Domain",
    "Fixed",
    "Float",
    "Form",
    "Fragment",
    "GridError",
    "Int",
    "Parameter",
    "Problem",
    "Requirement",
    "Sampled",
    "Scalar",
    "SearchSpace",
    "SpaceError",
    "boolean",
    "build",
    "did_you_mean",
    "from_optuna",
    "library",
    "parse",
    "to_configspace",
]
