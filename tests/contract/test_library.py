"""What a ready-made space promises, whichever it is."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import permutations, product

import pytest
import torch

from hpo import search_spaces
from hpo.search_spaces import Choice, Fixed, Fragment, Parameter, SearchSpace, library
from hpo.trainers.config import FIELDS, TrainerConfig, check_value, unread
from hpo.trainers.loop import fit

NAMES = library.names()
OPTIMIZERS = ("sgd", "sgd_momentum", "nesterov", "adagrad", "rmsprop", "adam", "adamw")
SCHEDULES = {
    "constant_rate": "constant",
    "linear_decay": "linear",
    "inverse_time": "inverse_time",
    "step_decay": "step",
    "exponential_decay": "exponential",
    "polynomial_decay": "polynomial",
    "cosine_decay": "cosine",
    "cosine_restarts": "cosine_restarts",
    "one_cycle": "one_cycle",
}
MOMENTA = ("increasing_momentum", "cycled_momentum")
MODELS = ("mlp", "cnn", "resnet")
OTHERS = ("warmup", "regularisation", "batch_size", "augmentation", "initialisation")
PRESETS = ("classic", "schedules", "modern")
EPOCHS = 30
N_SAMPLES = 30


load = cache(library.load)


def parse(mapping: Mapping[str, object]) -> SearchSpace:
    """As the study file's, without reading each part's file hundreds of times."""
    return search_spaces.parse(mapping, library=load)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def fragment(name: str) -> Fragment:
    return library.load(name)


@pytest.fixture
def space(name: str) -> SearchSpace:
    return parse({"use": [name]})


def test_the_library_is_what_it_is_said_to_be() -> None:
    every = {*OPTIMIZERS, *SCHEDULES, *MOMENTA, *MODELS, *OTHERS, *PRESETS}
    assert set(NAMES) == every


def test_it_says_why_in_a_line_and_where_from(fragment: Fragment) -> None:
    assert fragment.why.endswith(".")
    assert "\n" not in fragment.why
    assert 20 <= len(fragment.why) <= 100
    assert len(fragment.source) > 40
    assert "\n" not in fragment.source


def test_a_parameters_own_reason_is_short_and_not_the_trainers(space: SearchSpace) -> None:
    for parameter in space.parameters:
        assert parameter.why != FIELDS[parameter.name].why
        assert len(parameter.why) <= 100


def test_it_parses_alone_and_comes_back_from_yaml(fragment: Fragment, space: SearchSpace) -> None:
    assert parse(fragment.space) == space
    assert parse(space.to_dict()) == space


def test_its_parameters_are_fields_of_the_trainer(space: SearchSpace) -> None:
    assert [p.name for p in space.parameters if p.name not in FIELDS] == []


def test_the_trainer_takes_every_value(space: SearchSpace) -> None:
    for parameter in space.parameters:
        for value in _values(parameter):
            assert check_value(parameter.name, value) is None


def test_vectors_count_what_the_trainer_counts(space: SearchSpace) -> None:
    for parameter in space.parameters:
        assert parameter.per in (None, FIELDS[parameter.name].per)


def test_what_is_searched_has_a_usual_value(space: SearchSpace) -> None:
    """So `baseline: {}` means something: the prior, or the trainer's default."""
    for parameter in space.parameters:
        default = FIELDS[parameter.name].default
        usual = parameter.domain.to_dict().get("prior", default)
        assert isinstance(parameter.domain, Fixed) or parameter.domain.contains(usual)


def test_the_trainer_takes_and_reads_every_sample(name: str, space: SearchSpace) -> None:
    rng = random.Random(f"{name} 0")
    for _ in range(N_SAMPLES):
        config = space.arranged(space.sample(rng))
        whole = TrainerConfig.from_mapping({**config, "epochs": EPOCHS})
        assert _unread(whole, config) == []


@pytest.fixture
def one_thread() -> Iterator[None]:
    """As trials have by default: with two, steps this small take 40 times as long."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("one_thread")
def test_a_sample_trains(name: str, space: SearchSpace) -> None:
    """On digits, 2 epochs; too high a learning rate could diverge, and with these seeds none is."""
    config = space.arranged(space.sample(random.Random(f"{name} 1")))
    short = {**config, "epochs": 2}
    if "warmup_epochs" in config:
        short["warmup_epochs"] = 1

    reports = list(fit(short, "digits", seed=0, device="cpu"))

    assert len(reports) == 2
    assert 0 <= reports[-1].metrics["val_error"] <= 1


@pytest.mark.parametrize("first", NAMES)
def test_any_two_merge(first: str) -> None:
    for second in NAMES:
        if second != first:
            space = parse({"use": [first, second]})
            assert _alone(second, space)
            _take(space, f"{first} {second}")


def test_an_optimizer_a_schedule_and_any_third_merge() -> None:
    thirds = (*MODELS, *OTHERS, *MOMENTA)
    for optimizer, schedule, third in product(OPTIMIZERS, SCHEDULES, thirds):
        space = parse({"use": [optimizer, schedule, third]})
        assert _alone(third, space)
        _take(space, third)


def test_a_part_gives_way_to_the_one_after_it() -> None:
    for first, second in permutations(OPTIMIZERS, 2):
        config = parse({"use": [first, second]}).sample(random.Random(0))
        alone = parse({"use": [second]}).sample(random.Random(0))
        assert config["optimizer"] == alone["optimizer"]
        assert config.get("momentum", None) is None or "momentum" in alone
    for first, second in permutations(SCHEDULES, 2):
        space, alone_ = parse({"use": [first, second]}), parse({"use": [second]})
        assert set(space.names) == set(alone_.names)


@pytest.mark.parametrize(
    "own",
    [
        {"optimizer": ["sgd", "adam"]},
        {"schedule": ["constant", "linear", "step"]},
        {"model": ["mlp", "cnn"]},
        {"depth": 1},
        {"depth": [2, 3]},
        {"width": 64},
        {"momentum": 0.9},
    ],
    ids=str,
)
def test_what_the_user_says_wins(space: SearchSpace, name: str, own: dict[str, object]) -> None:
    merged = parse({"use": [name], **own})
    config = merged.sample(random.Random(0))
    (key,) = own
    if key in config:
        assert config[key] == own[key] or config[key] in _listed(own[key])
    TrainerConfig.from_mapping({**merged.arranged(config), "epochs": EPOCHS})
    assert {p.name for p in merged.parameters} <= {p.name for p in space.parameters} | {key}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_an_optimizer_is_one(optimizer: str) -> None:
    config = parse({"use": [optimizer]}).sample(random.Random(0))
    kind = "sgd" if optimizer in ("sgd", "sgd_momentum", "nesterov") else optimizer
    assert config["optimizer"] == kind
    assert "learning_rate" in config
    assert ("momentum" in config) == (kind == "sgd")
    assert config.get("nesterov", False) == (optimizer == "nesterov")
    assert (config.get("momentum") == 0) == (optimizer == "sgd")


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_schedule_is_one(schedule: str) -> None:
    space = parse({"use": [schedule]})
    assert space.by_name["schedule"].domain == Fixed(SCHEDULES[schedule])


def test_all_schedules_are_known() -> None:
    assert set(SCHEDULES.values()) == set(FIELDS["schedule"].allowed or ())
    space = parse({"use": ["schedules"]})
    domain = space.by_name["schedule"].domain
    assert isinstance(domain, Choice)
    assert set(domain.options) == set(FIELDS["schedule"].allowed or ())


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_in_the_choice_a_schedule_has_its_own_settings(schedule: str) -> None:
    own = parse({"use": [schedule]})
    among = parse({"use": ["schedules"], "schedule": SCHEDULES[schedule]})
    # polynomial_decay searches its power; in the choice, where 1/t has that name, it keeps its 2.
    searched = set(own.names) - ({"decay_power"} if schedule == "polynomial_decay" else set())
    assert set(among.names) == searched


def test_the_classic_preset() -> None:
    space = parse({"use": ["classic"]})
    assert [p.name for p in space.free] == ["learning_rate", "momentum", "batch_size"]
    assert space.by_name["momentum"].domain.grid() == (0.5, 0.9, 0.99)
    assert space.by_name["batch_size"].domain.grid() == (32, 64, 128, 256)
    config = space.complete({"learning_rate": 0.1, "momentum": 0.9, "batch_size": 32})
    assert config["optimizer"] == "sgd"
    assert config["schedule"] == "linear"
    assert config["final_lr_fraction"] == 0.01
    assert config["nesterov"] is False


def test_the_modern_preset() -> None:
    space = parse({"use": ["modern"]})
    config = space.sample(random.Random(0))
    assert config["optimizer"] == "adamw"
    assert config["schedule"] == "cosine"
    assert {"warmup_epochs", "weight_decay", "dropout", "norm", "batch_size"} < config.keys()
    decay = parse({"use": ["adamw"]}).by_name["weight_decay"].domain
    assert space.by_name["weight_decay"].domain == decay
    assert len(space.free) <= 8


def _values(parameter: Parameter) -> Iterator[object]:
    """Values that are legal only if all values of the domain are."""
    domain = parameter.domain
    if isinstance(domain, Choice | Fixed):
        yield from domain.grid()
    else:
        yield from (domain.from_unit(u) for u in (0.0, 0.5, 1.0))
    prior = domain.to_dict().get("prior")
    if prior is not None:
        assert domain.contains(prior)
        yield prior


def _unread(config: TrainerConfig, given: Mapping[str, object]) -> list[str]:
    """What is given and has no effect, as the trainer describes its fields."""
    return [name for name in given if unread(name, vars(config))]


def _alone(name: str, merged: SearchSpace) -> bool:
    """Whether all parameters of a part, with their values, are in the space that it ends."""
    own = {p.name: p for p in parse({"use": [name]}).parameters}
    return own.items() <= {p.name: p for p in merged.parameters}.items()


def _take(space: SearchSpace, seed: str) -> None:
    """Lets the trainer check a configuration."""
    config = space.arranged(space.sample(random.Random(seed)))
    whole = TrainerConfig.from_mapping({**config, "epochs": EPOCHS})
    assert _unread(whole, config) == []


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list) else [value]
