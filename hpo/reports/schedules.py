"""What the schedules of a space look like: charts of the learning rate and the momentum."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hpo.errors import HpoError
from hpo.reports.plots import Chart, Curve
from hpo.search_spaces import Choice, Domain, Fixed, Parameter, Scalar, SearchSpace
from hpo.search_spaces.conditions import Condition
from hpo.trainers import ConfigError, Schedule
from hpo.trainers.config import FIELDS
from hpo.trainers.schedules import READS

_POINTS = 600  # of a curve, at least
_CANDIDATES = 1000  # values of a parent that are tried, when one is to meet a condition


def charts(space: SearchSpace, epochs: int) -> list[Chart]:
    """The learning rate over the epochs, and the momentum, if the space says how they change.

    A curve for each schedule that the space has; what else shapes it is at its prior, or else in
    the middle of its range.

    Args:
        space: With the names of the trainer's fields.
        epochs: Length of the run.

    Raises:
        HpoError: the space has values that the trainer refuses.
    """
    found = []
    if {"schedule", "warmup_epochs"} & space.by_name.keys():
        found.append(_rates(space, epochs))
    if "momentum_schedule" in space.by_name:
        found.append(_momenta(space, epochs))
    return found


def _rates(space: SearchSpace, epochs: int) -> Chart:
    rate = space.by_name.get("learning_rate")
    known = rate is not None and isinstance(rate.domain, Fixed)
    curves, configs = [], []
    for name in _options(space, "schedule"):
        config = _typical(space, {"schedule": name})
        if not known:
            config["learning_rate"] = 1.0
        steps, per_epoch, schedule = _schedule(config, epochs)
        x, y = [k / per_epoch for k in steps], [schedule.learning_rate(k) for k in steps]
        curves.append(Curve(str(name), x, y))
        configs.append(config)
    label = "learning rate" if known else "learning rate, as a share of the highest"
    others = [name for name in READS if name not in _ON_THE_AXES]
    return Chart("epochs", label, curves, _note(space, configs, others))


def _momenta(space: SearchSpace, epochs: int) -> Chart:
    curves: dict[str, Curve] = {}
    configs = []
    for name in _options(space, "momentum_schedule"):
        for schedule_name in _options(space, "schedule"):
            config = _typical(space, {"momentum_schedule": name, "schedule": schedule_name})
            steps, per_epoch, schedule = _schedule(config, epochs)
            # Only a cycled momentum looks at the learning rate.
            title = f"{name} against {schedule_name}" if name == "cycled" else str(name)
            x, y = [k / per_epoch for k in steps], [schedule.momentum(k) for k in steps]
            curves[title] = Curve(title, x, y)
            configs.append(config)
    note = _note(space, configs, ["momentum", "low_momentum"])
    return Chart("epochs", "momentum", list(curves.values()), note)


_ON_THE_AXES = ("learning_rate", "schedule", "momentum", "momentum_schedule", "low_momentum")


def _schedule(config: Mapping[str, Scalar], epochs: int) -> tuple[range, int, Schedule]:
    """The schedule of a configuration, the steps to draw, and how many steps an epoch has."""
    per_epoch = max(4, -(-_POINTS // epochs))
    try:
        schedule = Schedule.of(config, steps_per_epoch=per_epoch, epochs=epochs)
    except ConfigError as error:
        raise HpoError(f"these schedules cannot be drawn: {error}") from None
    return range(0, schedule.n_steps, max(1, schedule.n_steps // _POINTS)), per_epoch, schedule


def _options(space: SearchSpace, name: str) -> Sequence[Scalar]:
    """The values of a choice, or the one that the trainer takes where there is none."""
    if name not in space.by_name:
        return [str(FIELDS[name].default)]
    domain = space.by_name[name].domain
    if not isinstance(domain, Choice | Fixed):
        raise HpoError(f"'{name}' is {domain}, and no schedule is called so.")
    return domain.grid()


def _note(space: SearchSpace, configs: Sequence[Mapping[str, Scalar]], names: Sequence[str]) -> str:
    """Which values were taken of parameters that have several."""
    free = {parameter.name for parameter in space.free}
    values = {n: c[n] for c in configs for n in names if n in c and n in free}
    return "with " + ", ".join(f"{n} {v}" for n, v in values.items()) if values else ""


def _typical(space: SearchSpace, wanted: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """A configuration with the wanted values, and all others as usual as they can be beside them.

    Values that stand in the way of a wanted one give way; what the space does not have is left out.
    """
    chosen = {name: value for name, value in wanted.items() if name in space.by_name}
    for name in list(chosen):
        chosen = {**_needed(space, name, chosen), **chosen}

    def choose(parameter: Parameter) -> Scalar:
        return chosen.get(parameter.name, _usual(parameter.name, parameter.domain))

    return space.walk(choose)


def _needed(space: SearchSpace, name: str, chosen: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """What the parents of a parameter have to be, so that it is active."""
    needed: dict[str, Scalar] = {}
    for parent, accepted in space.by_name[name].when:
        domain = space.by_name[parent].domain
        condition = Condition(domain, accepted)
        if parent not in chosen:
            meeting = (value for value in _candidates(parent, domain) if condition.met(value))
            needed[parent] = next(meeting, _usual(parent, domain))
        needed = {**_needed(space, parent, {**needed, **chosen}), **needed}
    return needed


def _candidates(name: str, domain: Domain) -> Iterator[Scalar]:
    yield _usual(name, domain)
    for place in range(_CANDIDATES):
        if domain.size is None:
            yield domain.from_unit(place / (_CANDIDATES - 1))
        elif place < domain.size:
            yield domain.nth(place)


def _usual(name: str, domain: Domain) -> Scalar:
    """The prior; else of a choice the trainer's default, and of a range the middle."""
    if domain.believed is not None:
        return domain.believed
    default = FIELDS[name].default if name in FIELDS else None
    if isinstance(domain, Choice) and domain.contains(default):
        return domain.snap(default)
    return domain.from_unit(0.5)
