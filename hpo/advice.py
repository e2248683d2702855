"""What is legal in a study file and still not what its author wants.

Each rule is a function of the plan that yields advice; nothing here stops a study. A *warning*
says that trials will fail or be wasted, a *note* what should be known when reading results.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeAlias

from hpo.search_spaces import Choice, Domain, Fixed, Float, Int, Scalar, SearchSpace
from hpo.search_spaces.checks import MAX_GRID, is_number
from hpo.search_spaces.flow import flow
from hpo.spec import RULE_OPTIONS, Plan, StoppingSpec
from hpo.templates import ARGS, CONFIG_FILE, FLAGS, placeholders, shell_words
from hpo.trainers import ConfigError, Goals, TrainerConfig
from hpo.trainers.config import FIELDS, of_another_task, unread
from hpo.trainers.data import BUILT_IN
from hpo.trainers.schedules import robbins_monro
from hpo.words import counted

_SAMPLES = 200  # what one configuration in fifty has is seen with a probability of 98 %
_DECADES = 100.0  # a ratio of bounds beyond which a linear scale is an oversight
_RATES = ("learning_rate", "lr", "weight_decay", "l2")
_MUCH_DROPOUT = 0.8
_FEW_ALLOWED = 0.05
_LENGTHS = {
    "step_epochs": "the rate never drops",
    "cycle_epochs": "there is never a restart",
}


@dataclass(frozen=True)
class Advice:
    """One thing worth saying about a study file.

    Args:
        level: warning or note.
        path: The key it is about.
        message: A sentence with the value at fault and the next right thing.
    """

    level: Literal["warning", "note"]
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


@dataclass(frozen=True)
class _Look:
    """What the rules look at.

    Args:
        plan: The plan.
    """

    plan: Plan

    @cached_property
    def configs(self) -> list[dict[str, Scalar]]:
        """Some configurations, as they may be drawn."""
        return [self.plan.flat_config(params) for params in self.plan.sample_params(_SAMPLES)]

    def domain_of(self, name: str) -> Domain | None:
        """The domain of a parameter; None where the space does not have it."""
        parameter = self.plan.space.by_name.get(name)
        return parameter.domain if parameter else None


def advise(plan: Plan) -> list[Advice]:
    """All advice on a plan, warnings first."""
    look = _Look(plan)
    rules = _RULES if plan.spec.objective.trainer is None else (*_RULES, *_RULES_OF_THE_TRAINER)
    found = [each for rule in rules for each in rule(look)]
    return sorted(found, key=lambda each: each.level == "note")


def unsaid(plan: Plan) -> list[Advice]:
    """What hpo takes a plan to mean that does not say it."""
    return [each for rule in _RULES_OF_WHAT_IS_UNSAID for each in rule(_Look(plan))]


def instead_of_patience(plan: Plan) -> str:
    """What to write in place of a rule that ends every trial of a trainer; empty without one."""
    if plan.spec.objective.trainer is None or plan.spec.stopping.rules != ("patience", "none"):
        return ""
    return (
        "Early stopping is the trainer's own field, `space: {patience: 5}`: a trial ends with its "
        "best weights, and is complete. Leave the rule out, or give it `wrapped: median`."
    )


def _assumed_direction(look: _Look) -> Iterator[Advice]:
    plan = look.plan
    for metric in () if plan.states_direction else plan.spec.objective.unguessed:
        yield Advice(
            "warning",
            "objective.direction",
            f"it is not stated, so '{metric}' is minimised; say maximize if more is better, "
            "or minimize.",
        )


def _turned_direction(look: _Look) -> Iterator[Advice]:
    """A direction against what a metric of hpo's or of scikit-learn's means."""
    objective = look.plan.spec.objective
    if objective.kind not in ("trainer", "estimator"):
        return
    means = zip(objective.metrics, objective.directions, objective.natural_directions, strict=True)
    for metric, said, natural in means:
        if said != natural:
            better = "less" if natural == "minimize" else "more"
            yield Advice(
                "warning",
                "objective.direction",
                f"it is {said}, and of '{metric}' {better} is better, so the worst trial wins; "
                f"say {natural}, or leave it out.",
            )


def _two_numbers(look: _Look) -> Iterator[Advice]:
    """A list of two numbers, which is a choice and may have been meant as a range."""
    if look.plan.spec.search.sampler == "grid":
        return
    for name, given in look.plan.spec.space.items():
        if isinstance(given, list) and len(given) == 2 and all(map(is_number, given)):
            low, high = given
            kind = "int" if isinstance(low, int) and isinstance(high, int) else "float"
            # 32 and 64 are a choice, 16 and 512 look like ends.
            if low < high and (kind == "float" or (high >= 4 * low and high - low >= 4)):
                yield Advice(
                    "note",
                    f"space.{name}",
                    f"two values are tried, and none between; a range is {{{kind}: {flow(given)}}}"
                    f" (where just these are meant, {{choice: {flow(given)}}} says so).",
                )


def _not_handed_on(look: _Look) -> Iterator[Advice]:
    """Parameters that a command line does not have, so that the command may not know them."""
    command = look.plan.spec.objective.command
    named = () if command is None else placeholders(command)
    if command is None or {ARGS, FLAGS, CONFIG_FILE} & set(named):
        return
    space = look.plan.space
    searched = dict.fromkeys(space.vector_of.get(p.name, p.name) for p in space.free)
    if look.plan.spec.objective.epochs is not None:
        searched["epochs"] = None
    missing = [name for name in searched if name not in named]
    if missing:
        braces = " ".join(f"{{{name}}}" for name in missing)
        yield Advice(
            "note",
            "objective.command",
            f"it has no {braces} and no {{{ARGS}}}, so it knows {', '.join(missing)} only if it "
            "reads $HPO_TRIAL_CONFIG.",
        )


def _without_a_shell(look: _Look) -> Iterator[Advice]:
    objective = look.plan.spec.objective
    words = [] if objective.command is None or objective.shell else shell_words(objective.command)
    filled = [word for word in words if word.startswith("$") and placeholders(word)]
    texts = " ".join(word for word in words if word not in filled)
    said = [f"{texts} reaches the program as text"] if texts else []
    said += [f"{word} is a $ and then the value: write {word[1:]} for that" for word in filled]
    if said:
        yield Advice(
            "note",
            "objective.command",
            f"no shell reads it, so {'; '.join(said)}; give `shell: true` where a shell is meant.",
        )


def _linear_over_decades(look: _Look) -> Iterator[Advice]:
    if look.plan.spec.search.sampler == "grid":
        return
    for parameter in look.plan.space.parameters:
        match parameter.domain:
            case Float(low=low, high=high, log=False, step=step) if high > 0 and low >= 0:
                is_rate = parameter.name in _RATES
                ratio = high / low if low else float("inf")
                if ratio >= _DECADES and (low > 0 or is_rate):
                    share = 0.9 * high / (high - low)
                    start = "" if low else " (and start above 0, such as at 1e-5)"
                    instead = "add `log: true`" if step is None else "give `log: true`, not `step`"
                    yield Advice(
                        "warning",
                        f"space.{parameter.name}",
                        f"{flow([low, high])} is searched on a linear scale, so {share:.0%} of the "
                        f"draws are above {flow(high / 10)}; {instead}{start}.",
                    )


def _batches_beyond_the_data(look: _Look) -> Iterator[Advice]:
    domain, data = look.domain_of("batch_size"), look.plan.spec.objective.data
    known = BUILT_IN.get(data or "")
    if domain is None or known is None or known.n_train is None:
        return
    n_train, largest = known.n_train, _largest(domain)
    if largest is not None and largest > n_train:
        yield Advice(
            "warning",
            "space.batch_size",
            f"it may be {largest:g}, and {data!r} has {n_train:,} training examples, so such "
            f"trials fail; keep it to at most {_at_most(domain, n_train)}.",
        )


def _heavy_dropout(look: _Look) -> Iterator[Advice]:
    for parameter in look.plan.space.parameters:
        largest = _largest(parameter.domain)
        named = parameter.name.endswith("dropout") and not isinstance(parameter.domain, Int)
        if named and largest is not None and _MUCH_DROPOUT < largest <= 1:
            left = "no unit is" if largest >= 1 else f"only {1 - largest:.0%} of the units are"
            yield Advice(
                "warning",
                f"space.{parameter.name}",
                f"it goes up to {largest:g}, where {left} left; 0.5 is a customary end.",
            )


def _grid_beyond_the_trials(look: _Look) -> Iterator[Advice]:
    search, space = look.plan.spec.search, look.plan.space
    if search.sampler != "grid":
        return
    if search.trials is not None and search.trials < space.grid_size:
        share = search.trials / space.grid_size
        yield Advice(
            "warning",
            "search.trials",
            f"the grid has {counted(space.grid_size, 'point')} and the study "
            f"{counted(search.trials, 'trial')}: it "
            f"sees {share:.1%} of the grid, in an order shuffled by the seed; give fewer `points`, "
            "more trials, or another sampler.",
        )
    if any(parameter.domain.prior is not None for parameter in space.parameters):
        yield Advice("note", "search.sampler", "a grid visits every point and ignores any `prior`.")


def _few_trials(look: _Look) -> Iterator[Advice]:
    trials, free = look.plan.trials, len(look.plan.space.free)
    model = look.plan.spec.search.sampler not in ("grid", "random", "sobol")
    if model and trials is not None and trials <= free:
        yield Advice(
            "note",
            "search.trials",
            f"{counted(trials, 'trial')} of {counted(free, 'free parameter')} give a model little "
            "to learn from; fix some, or give priors.",
        )


def _rarely_allowed(look: _Look) -> Iterator[Advice]:
    space, rng = look.plan.space, random.Random(0)
    if not space.require:
        return
    drawn = (space.walk(lambda p: p.domain.sample(rng)) for _ in range(_SAMPLES))
    share = sum(map(space.allows, drawn)) / _SAMPLES
    if share < _FEW_ALLOWED:
        yield Advice(
            "warning",
            "space.require",
            f"about {share:.1%} of all draws meet it, so most are made in vain; narrow the ranges.",
        )


def _parameters_that_nothing_reads(look: _Look) -> Iterator[Advice]:
    """Parameters that change nothing in some configurations, and yet count as different."""
    space = look.plan.space
    seen: set[tuple[str, str]] = set()
    for config in look.configs:
        for parameter in space.plain:
            name = space.vector_of.get(parameter.name, parameter.name)
            if parameter.name not in config or name not in FIELDS:
                continue
            other = unread(name, config)
            if other is not None and (name, other) not in seen:
                seen.add((name, other))
                value = config.get(other, FIELDS[other].default)
                yield _unread(space, name, other, value, FIELDS[name].used_when[other])


def _unread(
    space: SearchSpace, name: str, other: str, value: object, values: tuple[object, ...]
) -> Advice:
    said = f"{name!r} changes nothing where {other} is {flow(value)}"
    if other not in space.by_name:
        return Advice("warning", f"space.{name}", f"{said}, its default; search {other}, too.")
    has = [each for each in values if space.by_name[other].domain.contains(each)]
    if not has:
        never = f"{name!r} changes nothing: {other} is never {' or '.join(map(flow, values))}"
        return Advice("warning", f"space.{name}", f"{never}; drop {name!r}, or search that, too.")
    condition = flow({other: has[0] if len(has) == 1 else has})
    return Advice("warning", f"space.{name}", f"{said}; add `when: {condition}`.")


def _refused_by_the_trainer(look: _Look) -> Iterator[Advice]:
    """Values that are legal one by one and not together."""
    refused: dict[str, list[str]] = {}
    for config in look.configs:
        try:
            made = TrainerConfig.from_mapping(look.plan.space.arranged(config))
            problems = tuple(of_another_task(made, look.plan.spec.objective.task))
        except ConfigError as error:
            problems = error.problems
        for problem in problems:
            path = ".".join(map(str, problem.path))
            refused.setdefault(path, []).append(problem.message)
    for path, messages in refused.items():
        share = len(messages) / _SAMPLES
        remedy = " A `require:` keeps such configurations out."
        if path == "warmup_epochs":
            remedy = " Add `require: [warmup_epochs < epochs]`."
        how_many = f"about {share:.0%} of the trials"
        if share == 1:
            how_many, remedy = "every trial", ""
        yield Advice("warning", f"space.{path}", f"{how_many} will fail: {messages[0]}{remedy}")


def _longer_than_the_run(look: _Look) -> Iterator[Advice]:
    """Lengths of schedules that a trial never reaches."""
    epochs = look.plan.spec.objective.epochs
    if epochs is None:
        return
    for name, then in _LENGTHS.items():
        lengths = [c[name] for c in look.configs if isinstance(c.get(name), int | float)]
        beyond = [length for length in lengths if float(length or 0) >= epochs]
        if beyond:
            share = len(beyond) / len(lengths)
            yield Advice(
                "warning",
                f"space.{name}",
                f"{share:.0%} of its values are {epochs} or more, and a trial has {epochs} epochs: "
                f"{then}; lower it.",
            )


def _momentum_that_does_not_change(look: _Look) -> Iterator[Advice]:
    def idle(config: Mapping[str, Scalar]) -> bool:
        low = config.get("low_momentum")
        high = config.get("momentum", FIELDS["momentum"].default)
        changes = config.get("momentum_schedule", "constant") != "constant"
        numbers = isinstance(low, int | float) and isinstance(high, int | float)
        return changes and numbers and low >= high  # type: ignore[operator]  # numbers

    def cycles_with_nothing(config: Mapping[str, Scalar]) -> bool:
        cycled = config.get("momentum_schedule") == "cycled"
        return cycled and config.get("schedule", "constant") == "constant"

    if any(map(cycles_with_nothing, look.configs)):
        yield Advice(
            "warning",
            "space.momentum_schedule",
            "cycled goes against the learning rate, and where schedule is constant it stays at "
            "low_momentum; give it a schedule, such as one_cycle.",
        )
    if any(map(idle, look.configs)):
        yield Advice(
            "warning",
            "space.low_momentum",
            "it is not always below momentum, and there momentum_schedule changes nothing; add "
            "`require: [low_momentum < momentum]`.",
        )


def _images_wanted(look: _Look) -> Iterator[Advice]:
    data = look.plan.spec.objective.data
    known = BUILT_IN.get(data or "")
    if known is None or known.image_shape is not None:
        return
    for model in ("cnn", "resnet"):
        share = sum(config.get("model") == model for config in look.configs) / _SAMPLES
        if share:
            yield Advice(
                "warning",
                "space.model",
                f"a {model} needs images, and {data!r} is a table, so about {share:.0%} of the "
                "trials will fail; take the mlp.",
            )


def _schedules_that_never_end(look: _Look) -> Iterator[Advice]:
    """The Robbins-Monro conditions, of schedules that go on for ever."""
    schedule = look.domain_of("schedule")
    if schedule is None:
        return
    read = any(c.get("schedule") == "inverse_time" and "decay_power" in c for c in look.configs)
    if read:
        power = look.domain_of("decay_power")
        for p in _ends(power) if power else ():
            if sentence := robbins_monro("inverse_time", p):
                yield Advice(
                    "warning",
                    "space.decay_power",
                    f"inverse_time with {p:g} breaks a Robbins-Monro condition. {sentence} "
                    "Keep it above 0.5 and at most 1.",
                )
    if isinstance(schedule, Fixed) and schedule.value in ("constant", "step"):
        sentence = robbins_monro(str(schedule.value))
        yield Advice("note", "space.schedule", f"{schedule.value}: {sentence}")


def _stopping_that_never_comes(look: _Look) -> Iterator[Advice]:
    """Options by which a stopping rule waits for longer than there is."""
    plan, stopping = look.plan, look.plan.spec.stopping
    # The steps of own code may be anything, whatever it calls `epochs`.
    epochs = plan.longest if plan.spec.objective.trainer else plan.spec.objective.epochs
    trials = plan.trials
    for rule in stopping.rules:
        for option, first in _first_steps(rule, stopping).items():
            if epochs is not None and first >= epochs:
                yield Advice(
                    "note",
                    f"stopping.{option}",
                    f"{getattr(stopping, option)}, and a trial has {counted(epochs, 'epoch')}: "
                    f"{rule} stops none before its end; lower it.",
                )
        for option in ("startup_trials", "min_trials"):
            awaited = getattr(stopping, option) if option in RULE_OPTIONS[rule] else None
            if trials is not None and awaited is not None and awaited >= trials:
                yield Advice(
                    "note",
                    f"stopping.{option}",
                    f"{rule} waits for {counted(awaited, 'finished trial')}, and the study has "
                    f"{counted(trials, 'trial')}: it stops none; lower it.",
                )


def _first_steps(rule: str, stopping: StoppingSpec) -> dict[str, float]:
    """The first step at which a rule may stop a trial, by each option that it follows from."""
    match rule:
        case "forecast":  # which judges none in the last tenth
            return {"min_steps": stopping.min_steps / 0.9 - 1e-9}
        case "median" | "percentile":
            return {"warmup_steps": stopping.warmup_steps}
        case "asha":
            left_out = stopping.min_early_stopping_rate
            rung = stopping.min_steps * stopping.reduction**left_out
            return {"min_early_stopping_rate" if left_out else "min_steps": rung}
        case "patience":  # after a step to be worse than, and one more than its patience
            return {"patience": stopping.patience + 2}
        case "wilcoxon":
            return {"startup_steps": stopping.startup_steps}
        case _:
            return {}


def _stopped_before_the_schedule_ends(look: _Look) -> Iterator[Advice]:
    rule, epochs = look.plan.spec.stopping.rule, look.plan.spec.objective.epochs
    schedule = look.domain_of("schedule")
    falling = schedule is not None and schedule != Fixed("constant")
    if rule in ("none", "forecast") or not falling:  # a forecast looks at the end
        return
    length = f"all {epochs} epochs" if epochs else "all epochs of a trial"
    mixed = schedule is not None and schedule.size != 1
    yield Advice(
        "note",
        "stopping.rule",
        f"schedules run over {length}, whether {rule} lets the trial get there or not. A stopped "
        "trial never saw its low learning rates, so its last value is not a fair match for "
        "a finished one's"
        + (
            "; and at one epoch, schedules that fall late look worse than they end. "
            if mixed
            else ". "
        )
        + "Take `rule: forecast`, which looks at a trial's end, or give them time: warmup_steps "
        "(median, percentile) or min_steps (asha, hyperband).",
    )


def _early_stopping_by_a_rule(look: _Look) -> Iterator[Advice]:
    """A rule that stops each trial when it gets no better, so that few or none are complete."""
    if instead := instead_of_patience(look.plan):
        yield Advice(
            "warning",
            "stopping.rule",
            "patience stops good trials, too, when they get no better, and a stopped trial is "
            f"never the best. {instead}",
        )


def _told_too_late_to_stop(look: _Look) -> Iterator[Advice]:
    """A rule that judges steps by a metric that no step has."""
    rule, metrics = look.plan.spec.stopping.rule, look.plan.spec.objective.metrics
    if rule == "none" or not (late := Goals(names=metrics).at_end):
        return
    of_val = late[0].replace("train_", "val_", 1)
    yield Advice(
        "warning",
        "stopping.rule",
        f"'{late[0]}' is told at the end of a trial alone, so {rule} can never stop one before; "
        f"search for '{of_val}', or for 'train_loss', which each epoch tells.",
    )


def _at_most(domain: Domain, n: int) -> float:
    """The greatest value of a domain up to n, or n where it has none or too many."""
    listed = domain.grid() if domain.size is not None and domain.size <= MAX_GRID else ()
    return max((v for v in listed if isinstance(v, int | float) and v <= n), default=n)


def _largest(domain: Domain) -> float | None:
    ends = _ends(domain)
    return max(ends) if ends else None


def _ends(domain: Domain) -> list[float]:
    """The least and the greatest number that a domain has; all those of a choice."""
    values: tuple[Any, ...] = (domain.from_unit(0.0), domain.from_unit(1.0))
    if isinstance(domain, Choice | Fixed):
        values = domain.grid()
    return sorted({v for v in values if is_number(v)})


_Rule: TypeAlias = Callable[[_Look], Iterator[Advice]]

_RULES_OF_WHAT_IS_UNSAID: tuple[_Rule, ...] = (_assumed_direction, _two_numbers)
_RULES: tuple[_Rule, ...] = (
    *_RULES_OF_WHAT_IS_UNSAID,
    _turned_direction,
    _not_handed_on,
    _without_a_shell,
    _linear_over_decades,
    _heavy_dropout,
    _grid_beyond_the_trials,
    _rarely_allowed,
    _few_trials,
    _stopping_that_never_comes,
)
_RULES_OF_THE_TRAINER: tuple[_Rule, ...] = (
    _batches_beyond_the_data,
    _parameters_that_nothing_reads,
    _refused_by_the_trainer,
    _longer_than_the_run,
    _momentum_that_does_not_change,
    _images_wanted,
    _schedules_that_never_end,
    _stopped_before_the_schedule_ends,
    _told_too_late_to_stop,
    _early_stopping_by_a_rule,
)
