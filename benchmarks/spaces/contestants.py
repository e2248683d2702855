"""What is timed: each a function that does its work so many times and returns what came of it."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeAlias

import ConfigSpace
import optuna

from benchmarks.spaces.examples import suggest, wide
from hpo import samplers
from hpo.search_spaces import SearchSpace, parse, to_configspace

Config: TypeAlias = Mapping[str, Any]
Made: TypeAlias = Sequence[Any]


@dataclass(frozen=True)
class Contestant:
    """One way to do something.

    Attributes:
        title: What the table calls it.
        ready: Called before each turn and not timed; returns what does the work so many times.
        own: Whether it is hpo's.
    """

    title: str
    ready: Callable[[int], Callable[[int], Made]]
    own: bool = False


def configspace(space: SearchSpace, seed: int = 0) -> Any:
    """The same space as ConfigSpace's."""
    made = ConfigSpace.ConfigurationSpace.from_serialized_dict(to_configspace(space))
    made.seed(seed)
    return made


# --- reading a space ---


def building() -> tuple[Contestant, ...]:
    """From a dictionary to a space."""
    forms, text = wide(), json.dumps(to_configspace(parse(wide())))

    def theirs() -> Any:  # it uses its dictionary up, so it takes a new one each time
        return ConfigSpace.ConfigurationSpace.from_serialized_dict(json.loads(text))

    return (
        Contestant("hpo", lambda _: partial(_times, lambda: parse(forms)), own=True),
        Contestant("ConfigSpace", lambda _: partial(_times, theirs)),
    )


# --- sampling from it ---


def sampling() -> tuple[Contestant, ...]:
    """A configuration with its values, again and again."""
    space, tilted = parse(wide()), parse(wide(priors=True))
    theirs = configspace(space)
    return (
        Contestant("hpo", partial(_hpo, space), own=True),
        Contestant("hpo, a prior on each number", partial(_hpo, tilted), own=True),
        Contestant("ConfigSpace, one at a time", partial(_configspace, theirs, 1)),
        Contestant("ConfigSpace, 100 at once", partial(_configspace, theirs, 100)),
        Contestant("Optuna, optimize", _optuna_optimize),
        Contestant("Optuna, ask and tell", partial(_optuna_asks, optuna.samplers.RandomSampler)),
        Contestant(
            "hpo's sampler in Optuna, the same",
            partial(_optuna_asks, lambda seed: samplers.build("random", space, seed=seed)),
            own=True,
        ),
    )


def _hpo(space: SearchSpace, seed: int) -> Callable[[int], Made]:
    rng = random.Random(seed)
    return partial(_times, lambda: space.sample(rng))


def _configspace(space: Any, at_once: int, seed: int) -> Callable[[int], Made]:
    space.seed(seed)

    def run(n: int) -> Made:
        if at_once == 1:
            return [dict(space.sample_configuration()) for _ in range(n)]
        drawn = [space.sample_configuration(at_once) for _ in range(max(n // at_once, 1))]
        return [dict(config) for some in drawn for config in some]

    return run


def _optuna_optimize(seed: int) -> Callable[[int], Made]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed))
    made: list[Config] = []

    def objective(trial: optuna.Trial) -> float:
        made.append(suggest(trial))
        return 0.0

    def run(n: int) -> Made:
        study.optimize(objective, n)
        return made

    return run


def _optuna_asks(
    sampler: Callable[[int], optuna.samplers.BaseSampler], seed: int
) -> Callable[[int], Made]:
    study = optuna.create_study(sampler=sampler(seed))

    def once() -> Config:
        trial = study.ask()
        config = suggest(trial)
        study.tell(trial, 0.0)
        return config

    return partial(_times, once)


# --- to the unit interval and back ---


def coding() -> tuple[Contestant, ...]:
    """The coordinates of a configuration, and a configuration from these."""
    space = parse(wide())
    theirs = configspace(space)

    def ours(seed: int) -> Callable[[int], Made]:
        config = space.sample(random.Random(seed))

        def once() -> tuple[Config, Config]:
            u = {name: space.by_name[name].domain.to_unit(v) for name, v in config.items()}
            return config, space.walk(lambda p: p.domain.from_unit(u[p.name]))

        return partial(_times, once)

    def configspaces(seed: int) -> Callable[[int], Made]:
        theirs.seed(seed)
        config = dict(theirs.sample_configuration())

        def once() -> tuple[Config, Config]:
            u = ConfigSpace.Configuration(theirs, values=config).get_array()
            return config, dict(ConfigSpace.Configuration(theirs, vector=u))

        return partial(_times, once)

    return (Contestant("hpo", ours, own=True), Contestant("ConfigSpace", configspaces))


def _times(once: Callable[[], Any], n: int) -> list[Any]:
    return [once() for _ in range(n)]
