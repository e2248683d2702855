"""What optimizers must obey, whatever they minimise."""

import io
import math
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, pairwise

import pytest
import torch
from sklearn.datasets import load_iris
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from hpo.trainers.config import FIRST_ORDER, FULL_BATCH, TrainerConfig
from hpo.trainers.optimizers import (
    Objective,
    add_penalty_gradient,
    build,
    clip,
    penalty,
    plain_step,
    set_learning_rate,
    set_momentum,
)
from hpo.trainers.second_order import Newton, damped_direction, hessian_product


class Loss:
    """A loss as optimizers ask for it; it counts those that were not finite."""

    def __init__(self, parameters: list[nn.Parameter], function: Callable[[], Tensor]) -> None:
        self.parameters, self.function, self.n_not_finite = parameters, function, 0

    def __call__(self) -> Tensor:
        for p in self.parameters:
            p.grad = None
        loss = self.loss()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def loss(self) -> Tensor:
        loss = self.function()
        self.n_not_finite += not loss.isfinite()
        return loss


def parameter(*values: object) -> nn.Parameter:
    return nn.Parameter(torch.tensor(values, dtype=torch.float64))


def vector(parameters: list[nn.Parameter]) -> Tensor:
    return nn.utils.parameters_to_vector(parameters).detach().clone()


def step(optimizer: torch.optim.Optimizer, objective: Objective) -> float:
    return float(optimizer.step(objective))  # type: ignore[arg-type]


def built(name: str, parameters: list[nn.Parameter], **config: object) -> torch.optim.Optimizer:
    fields = {"optimizer": name, **config}
    return build(TrainerConfig.from_mapping(fields), parameters)


def quadratic(seed: int = 0, n: int = 10) -> tuple[list[nn.Parameter], Loss, Tensor, Tensor]:
    """w' A w / 2 - b' w of a w in two parts, its A and its minimum."""
    generator = torch.Generator().manual_seed(seed)
    m = torch.randn(2 * n, n, generator=generator, dtype=torch.float64)
    b = torch.randn(n, generator=generator, dtype=torch.float64)
    a = m.T @ m / n + 0.01 * torch.eye(n)
    parts = [nn.Parameter(torch.ones(2, 3, dtype=torch.float64)), parameter(*[1.0] * (n - 6))]

    def function() -> Tensor:
        w = torch.cat([p.flatten() for p in parts])
        return w.dot(a @ w) / 2 - b.dot(w)

    return parts, Loss(parts, function), a, torch.linalg.solve(a, b)


def iris() -> tuple[Tensor, Tensor]:
    x, y = (torch.from_numpy(part) for part in load_iris(return_X_y=True))
    return (x - x.mean(dim=0)) / x.std(dim=0), y


def regression(l2: float = 1e-3) -> tuple[list[nn.Parameter], Loss]:
    """Softmax regression of iris, from 0."""
    x, y = iris()
    w, b = parameter(*[[0.0] * 4] * 3), parameter(0.0, 0.0, 0.0)
    return [w, b], Loss([w, b], lambda: cross_entropy(x @ w.T + b, y) + penalty([w, b], l2))


# First order


def network() -> nn.Sequential:
    layers = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in layers.parameters():
            p.uniform_(-0.5, 0.5, generator=generator)
    return layers


def trained(
    optimizer: torch.optim.Optimizer, model: nn.Module, *, l2: float = 0, n_steps: int = 20
) -> Tensor:
    (x, y), generator = iris(), torch.Generator().manual_seed(1)
    for _ in range(n_steps):
        batch = torch.randperm(150, generator=generator)[:32]
        optimizer.zero_grad()
        cross_entropy(model(x[batch]), y[batch]).backward()  # type: ignore[no-untyped-call]
        add_penalty_gradient(model.parameters(), l2)
        optimizer.step()
    return vector(list(model.parameters()))


Gradient = Callable[[Tensor], Tensor]


def momentum(w: Tensor, gradient: Gradient, eps: float, mu: float) -> Iterator[Tensor]:
    """Goodfellow, Bengio & Courville (2016), Deep Learning, eqs. 8.15 and 8.16."""
    v = torch.zeros_like(w)
    while True:
        v = mu * v - eps * gradient(w)
        w = w + v
        yield w


def nesterov(w: Tensor, gradient: Gradient, eps: float, mu: float) -> Iterator[Tensor]:
    """The same, eqs. 8.21 and 8.22; PyTorch's weights are where the gradient is looked at."""
    v = torch.zeros_like(w)
    while True:
        v = mu * v - eps * gradient(w + mu * v)
        w = w + v
        yield w + mu * v


def adagrad(w: Tensor, gradient: Gradient, eps: float) -> Iterator[Tensor]:
    """The same, algorithm 8.4."""
    r = torch.zeros_like(w)
    while True:
        g = gradient(w)
        r = r + g * g
        w = w - eps * g / (1e-10 + r.sqrt())
        yield w


def rmsprop(w: Tensor, gradient: Gradient, eps: float, rho: float) -> Iterator[Tensor]:
    """The same, algorithm 8.5, its small constant outside the root."""
    r = torch.zeros_like(w)
    while True:
        g = gradient(w)
        r = rho * r + (1 - rho) * g * g
        w = w - eps * g / (1e-8 + r.sqrt())
        yield w


def adam(w: Tensor, gradient: Gradient, eps: float, rho_1: float, rho_2: float) -> Iterator[Tensor]:
    """The same, algorithm 8.7."""
    s, r, t = torch.zeros_like(w), torch.zeros_like(w), 0
    while True:
        t, g = t + 1, gradient(w)
        s = rho_1 * s + (1 - rho_1) * g
        r = rho_2 * r + (1 - rho_2) * g * g
        w = w - eps * (s / (1 - rho_1**t)) / (1e-8 + (r / (1 - rho_2**t)).sqrt())
        yield w


@pytest.mark.parametrize(
    ("config", "equation", "constants"),
    [
        ({"optimizer": "sgd", "momentum": 0}, momentum, (0.0,)),
        ({"optimizer": "sgd", "momentum": 0, "nesterov": True}, momentum, (0.0,)),
        ({"optimizer": "sgd", "momentum": 0.8}, momentum, (0.8,)),
        ({"optimizer": "sgd", "momentum": 0.8, "nesterov": True}, nesterov, (0.8,)),
        ({"optimizer": "adagrad"}, adagrad, ()),
        ({"optimizer": "rmsprop", "rho": 0.7}, rmsprop, (0.7,)),
        ({"optimizer": "adam", "beta1": 0.6, "beta2": 0.7}, adam, (0.6, 0.7)),
        ({"optimizer": "adamw"}, adam, (0.9, 0.999)),
    ],
)
def test_a_first_order_step_is_its_textbook_equation(
    config: Mapping[str, object],
    equation: Callable[..., Iterator[Tensor]],
    constants: tuple[float, ...],
) -> None:
    parts, loss, a, minimum = quadratic()
    fields = {"learning_rate": 0.05, **config}
    optimizer = build(TrainerConfig.from_mapping(fields), parts)
    by_hand = equation(vector(parts), lambda w: a @ (w - minimum), 0.05, *constants)
    for _ in range(12):
        loss()
        optimizer.step()
        torch.testing.assert_close(vector(parts), next(by_hand), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", FIRST_ORDER)
@pytest.mark.parametrize("config", [{}, {"momentum": 0}, {"nesterov": True, "weight_decay": 0.1}])
def test_a_short_step_is_pytorchs_bit_for_bit(name: str, config: Mapping[str, object]) -> None:
    networks = [network() for _ in range(2)]
    short, whole = (built(name, list(each.parameters()), **config) for each in networks)
    x, y = iris()
    for k in range(5):
        for each, optimizer in zip(networks, (short, whole), strict=True):
            optimizer.zero_grad()
            cross_entropy(each(x[k::5]), y[k::5]).backward()  # type: ignore[no-untyped-call]
        plain_step(short)()
        whole.step()
        saved = [short.state_dict(), whole.state_dict()]
        short.load_state_dict(saved[1])
        whole.load_state_dict(saved[0])
    ends = [vector(list(each.parameters())) for each in networks]
    assert torch.equal(*ends)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_may_change_at_every_step_and_come_to_0(*, nesterov: bool) -> None:
    w = parameter([1.0, -2.0])
    optimizer = built("sgd", [w], learning_rate=0.1, momentum=0.9, nesterov=nesterov)
    x, v = w.detach().clone(), torch.zeros_like(w)
    for mu in (0.0, 0.9, 0.5, 0.0, 0.8):
        g = 3 * x
        v = mu * v + g
        x = x - 0.1 * (g + mu * v if nesterov else v)
        w.grad = 3 * w.detach()
        set_momentum(optimizer, mu)
        optimizer.step()
    torch.testing.assert_close(w.detach(), x, rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", [name for name in FIRST_ORDER if name != "sgd"])
def test_momentum_plays_no_part_elsewhere(name: str) -> None:
    ours, other = network(), network()
    optimizer = built(name, list(ours.parameters()))
    set_momentum(optimizer, 0.5)
    peer = built(name, list(other.parameters()))
    assert torch.equal(trained(optimizer, ours), trained(peer, other))


# Decay and penalty


@pytest.mark.parametrize("name", FIRST_ORDER)
def test_without_gradient_weights_decay_geometrically_and_biases_stay(name: str) -> None:
    w, b = parameter([1.0, 1.0], [1.0, 1.0]), parameter(1.0, 1.0)
    optimizer = built(name, [w, b], weight_decay=0.5)
    w.grad, b.grad = torch.zeros_like(w), torch.zeros_like(b)
    expected = 1.0
    for eps_k in (0.1, 0.05, 0.2):
        set_learning_rate(optimizer, eps_k)
        optimizer.step()
        expected *= 1 - eps_k * 0.5
    assert w.flatten().tolist() == pytest.approx([expected] * 4, rel=1e-12)
    assert b.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_with_decay_is_adamw(name: str) -> None:
    ours, peer = network(), network()
    groups = [
        {"params": [p for p in peer.parameters() if p.ndim > 1], "weight_decay": 0.3},
        {"params": [p for p in peer.parameters() if p.ndim == 1], "weight_decay": 0.0},
    ]
    adamw = torch.optim.AdamW(groups, lr=0.01)
    optimizer = built(name, list(ours.parameters()), learning_rate=0.01, weight_decay=0.3)
    a, b = trained(optimizer, ours), trained(adamw, peer)
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    ("config", "same"),
    [
        ({"optimizer": "sgd", "momentum": 0}, True),
        ({"optimizer": "sgd", "momentum": 0.9}, False),
        ({"optimizer": "rmsprop"}, False),
        ({"optimizer": "adam"}, False),
    ],
)
def test_decay_is_the_penalty_in_plain_descent_alone(
    config: Mapping[str, object], *, same: bool
) -> None:
    decayed, penalised = network(), network()
    fields = {"learning_rate": 0.05, **config}
    decay = TrainerConfig.from_mapping({**fields, "weight_decay": 0.3})
    plain = TrainerConfig.from_mapping(fields)
    a = trained(build(decay, decayed.parameters()), decayed)
    b = trained(build(plain, penalised.parameters()), penalised, l2=0.3)
    apart = (a - b).abs().max()
    assert apart < 1e-12 if same else apart > 1e-3


def test_what_is_added_to_the_gradients_is_the_gradient_of_the_penalty() -> None:
    model, peer = network(), network()
    x, y = iris()
    cross_entropy(model(x), y).backward()  # type: ignore[no-untyped-call]
    add_penalty_gradient(model.parameters(), 0.3)
    loss = cross_entropy(peer(x), y)
    squares = vector([p for p in peer.parameters() if p.ndim > 1]).square().sum()
    more = penalty(peer.parameters(), 0.3)
    torch.testing.assert_close(more, 0.15 * squares, rtol=1e-12, atol=0)
    (loss + more).backward()  # type: ignore[no-untyped-call]
    for p, q in zip(model.parameters(), peer.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-12, atol=1e-15)


# Clipping


def clipped(*gradients: list[float], **config: object) -> list[list[float]]:
    parameters = [nn.Parameter(torch.zeros(len(g))) for g in gradients]
    for p, g in zip(parameters, gradients, strict=True):
        p.grad = torch.tensor(g)
    clip(TrainerConfig.from_mapping(config), parameters)
    return [p.grad.tolist() for p in parameters if p.grad is not None]


def test_clipping_by_norm_keeps_the_direction_of_all_gradients_together() -> None:
    shorter = chain(*clipped([3.0, 0.0], [-4.0], clip_norm=1))
    assert list(shorter) == pytest.approx([0.6, 0, -0.8])
    assert clipped([3.0, 0.0], [-4.0], clip_norm=5.1) == [[3, 0], [-4]]
    assert clipped([3.0, 0.0], [-4.0]) == [[3, 0], [-4]]


def test_clipping_by_value_caps_each_and_comes_before_the_norm() -> None:
    assert clipped([3.0, 0.5], [-4.0], clip_value=1) == [[1, 0.5], [-1]]
    both = chain(*clipped([3.0, 0.0], [-4.0], clip_value=1, clip_norm=1))
    assert list(both) == pytest.approx([math.sqrt(0.5), 0, -math.sqrt(0.5)])


# Full batch


@pytest.mark.parametrize("seed", range(10))
def test_conjugate_gradients_minimise_a_quadratic_of_n_parameters_in_n_steps(seed: int) -> None:
    parts, loss, _, minimum = quadratic(seed)
    optimizer = built("cg", parts)
    for _ in range(len(minimum)):
        step(optimizer, loss)
    torch.testing.assert_close(vector(parts), minimum, rtol=0, atol=1e-8)


def test_newton_with_hardly_any_damping_minimises_a_quadratic_in_one_step() -> None:
    parts, loss, _, minimum = quadratic()
    step(Newton(parts, damping=1e-10), loss)
    torch.testing.assert_close(vector(parts), minimum, rtol=0, atol=1e-7)


@pytest.fixture(scope="module")
def loss_of_sgd() -> float:
    """Of the same regression, after 100 epochs."""
    model, (x, y), generator = nn.Linear(4, 3).double(), iris(), torch.Generator().manual_seed(0)
    sgd = built("sgd", list(model.parameters()), learning_rate=0.1)
    for _ in range(100):
        for batch in torch.split(torch.randperm(150, generator=generator), 32):
            sgd.zero_grad()
            cross_entropy(model(x[batch]), y[batch]).backward()  # type: ignore[no-untyped-call]
            add_penalty_gradient(model.parameters(), 1e-3)
            sgd.step()
    return (cross_entropy(model(x), y) + penalty(model.parameters(), 1e-3)).item()


@pytest.mark.parametrize("name", FULL_BATCH)
def test_50_steps_over_all_examples_are_better_than_100_epochs_of_sgd(
    name: str, loss_of_sgd: float
) -> None:
    parameters, loss = regression()
    optimizer = built(name, parameters)
    before = [step(optimizer, loss) for _ in range(50)]
    assert before[0] == pytest.approx(math.log(3))
    assert all(after <= f for f, after in pairwise(before))
    assert float(loss()) < loss_of_sgd
    gradients = [p.grad for p in parameters if p.grad is not None]
    assert max(float(g.abs().max()) for g in gradients) < 1e-4


def rosenbrock() -> tuple[nn.Parameter, Loss]:
    """A bent valley with its lowest point at (1, 1), from (-1.2, 1)."""
    w = parameter([-1.2, 1.0])

    def function() -> Tensor:
        x, y = w[0, 0], w[0, 1]
        return (x - 1).square() + (y - x.square()).square() * 100

    return w, Loss([w], function)


@pytest.mark.parametrize("name", FULL_BATCH)
def test_rosenbrocks_valley_is_followed_to_its_end(name: str) -> None:
    w, loss = rosenbrock()
    optimizer = built(name, [w])
    for _ in range(100):
        step(optimizer, loss)
    assert w.flatten().tolist() == pytest.approx([1, 1], abs=1e-6)


def test_conjugate_gradients_go_where_polak_and_ribieres_beta_says_or_down_the_gradient() -> None:
    w, loss = rosenbrock()
    optimizer = built("cg", [w])
    betas: list[float] = []
    g_old, d_old = torch.ones(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    for _ in range(12):
        start = vector([w])
        loss()
        assert w.grad is not None
        g = w.grad.flatten().clone()
        betas.append(float(g.dot(g - g_old) / g_old.dot(g_old)))
        d = -g + max(betas[-1], 0.0) * d_old
        step(optimizer, loss)
        s = vector([w]) - start
        torch.testing.assert_close(s / s.norm(), d / d.norm(), rtol=0, atol=1e-9)
        g_old, d_old = g, d
    # Where beta would be negative there is another start, and the valley has both kinds.
    assert min(betas[1:]) < -0.1
    assert max(betas[1:]) > 1


@pytest.mark.parametrize(("name", "c_2"), [("lbfgs", 0.9), ("cg", 0.1)])
def test_every_step_meets_the_strong_wolfe_conditions(name: str, c_2: float) -> None:
    parameters, loss = regression(l2=1e-4)
    optimizer = built(name, parameters)
    for _ in range(25):
        w, f, g = (
            vector(parameters),
            float(loss()),
            nn.utils.parameters_to_vector([p.grad for p in parameters if p.grad is not None]),
        )
        assert step(optimizer, loss) == f
        s, f_new = vector(parameters) - w, float(loss())
        g_new = nn.utils.parameters_to_vector([p.grad for p in parameters if p.grad is not None])
        slope = float(g.dot(s))  # t times the slope: both conditions may be multiplied by t
        assert slope < 0
        assert f_new <= f + 1e-4 * slope
        assert abs(float(g_new.dot(s))) <= c_2 * abs(slope)


def hilly(w: Tensor) -> Tensor:
    """A loss without a constant Hessian, nor a positive one."""
    v = torch.mv(torch.arange(25, dtype=torch.float64).view(5, 5).cos(), w)
    return torch.sum(v.sin()) + v.square().sum().square() / 100


def test_a_product_with_the_hessian_is_that_of_the_matrix() -> None:
    w, v = parameter(0.3, -0.2, 0.5, 1.0, -1.0), torch.linspace(-1, 2, 5, dtype=torch.float64)
    (g,) = torch.autograd.grad(hilly(w), w, create_graph=True)
    matrix = torch.autograd.functional.hessian(hilly, w.detach())  # type: ignore[no-untyped-call]
    torch.testing.assert_close(hessian_product(g, [w], v), matrix @ v, rtol=1e-12, atol=1e-12)


def test_a_linear_loss_has_no_hessian() -> None:
    w, v = parameter(1.0, 2.0), torch.ones(2, dtype=torch.float64)
    (g,) = torch.autograd.grad(w.sum(), w, create_graph=True)
    assert not hessian_product(g, [w], v).any()


@pytest.mark.parametrize("seed", range(5))
def test_newtons_direction_solves_the_damped_system_and_descends_where_none_can(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    m = torch.randn(8, 8, generator=generator, dtype=torch.float64)
    h, g = m + m.T, torch.randn(8, generator=generator, dtype=torch.float64)
    lowest = float(torch.linalg.eigvalsh(h)[0])
    assert lowest < 0
    alpha = 0.5 - lowest
    d, h_d = damped_direction(lambda v: h @ v, g, alpha)
    torch.testing.assert_close((h + alpha * torch.eye(8)) @ d, -g, rtol=0, atol=1e-6)
    torch.testing.assert_close(h_d, h @ d, rtol=1e-9, atol=1e-9)
    d, h_d = damped_direction(lambda v: h @ v, g, 1e-3)
    assert g.dot(d) < 0
    assert g.dot(d) + d.dot(h_d) / 2 < 0  # so does the quadratic model
    torch.testing.assert_close(h_d, h @ d, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    ("curvatures", "direction"),
    [
        # p = -g, of curvature 1, gives (-2, -2); the next p, (-6, -12), has curvature -72.
        ((2.0, -1.0), (-2.0, -2.0)),
        # p = -g has curvature -3, whose size alone says how far: g' g / 3.
        ((-1.0, -2.0), (-2 / 3, -2 / 3)),
    ],
)
def test_newtons_direction_ends_where_the_curvature_is_not_positive(
    curvatures: tuple[float, float], direction: tuple[float, float]
) -> None:
    h, g = torch.diag(torch.tensor(curvatures)), torch.ones(2)
    d, h_d = damped_direction(lambda v: h @ v, g, 1e-9)
    assert d.tolist() == pytest.approx(direction)
    assert h_d.tolist() == pytest.approx((h @ d).tolist())


def test_newton_leaves_a_saddle() -> None:
    w = parameter([1e-3, 1.0])
    optimizer = built("newton", [w])
    loss = Loss([w], lambda: w[0, 0] ** 4 / 4 - w[0, 0] ** 2 / 2 + w[0, 1] ** 2)
    for _ in range(30):
        step(optimizer, loss)
    assert w.flatten().tolist() == pytest.approx([1, 0], abs=1e-6)


def test_damping_falls_where_the_quadratic_model_holds_and_grows_where_it_does_not() -> None:
    parts, loss, _, _ = quadratic()
    holds = built("newton", parts, damping=0.1)
    step(holds, loss)
    assert holds.param_groups[0]["damping"] == 0.05
    w = parameter([3.0])
    fails = built("newton", [w], damping=0.1)
    step(fails, Loss([w], lambda: w.cosh().log().sum()))  # flat: the model promises 0.5 / 0.1
    assert fails.param_groups[0]["damping"] == 0.2


# Where it goes wrong


@pytest.mark.parametrize("name", FULL_BATCH)
@pytest.mark.parametrize(
    "function",
    [lambda w: w.sum() * math.nan, lambda w: w.sum() / 0, lambda w: w.abs().sqrt().sum()],
    ids=["nan", "inf", "infinite gradient"],
)
def test_a_loss_that_is_not_finite_leaves_the_weights(
    name: str, function: Callable[[Tensor], Tensor]
) -> None:
    w = parameter([1.0, 0.0])
    optimizer = built(name, [w])
    for _ in range(2):
        assert not math.isfinite(step(optimizer, Loss([w], lambda: function(w))))
    assert w.tolist() == [[1, 0]]


@pytest.mark.parametrize("name", FULL_BATCH)
def test_a_line_search_turns_back_from_where_the_loss_is_not_finite(name: str) -> None:
    w = parameter([1.0 if name == "lbfgs" else 0.03])
    optimizer, loss = built(name, [w]), Loss([w], lambda: (100 * w - w.log()).sum())
    for _ in range(30):
        assert math.isfinite(step(optimizer, loss))
    assert loss.n_not_finite
    assert w.item() == pytest.approx(0.01, rel=1e-6)


@pytest.mark.parametrize("name", FULL_BATCH)
def test_a_step_that_finds_nothing_better_leaves_the_weights(name: str) -> None:
    w = parameter([1.0, 2.0])
    start = w.detach().clone()
    optimizer = built(name, [w])
    loss = Loss([w], lambda: w.sum() if torch.equal(w, start) else w.sum() * math.nan)
    for _ in range(2):
        assert step(optimizer, loss) == 3
        assert torch.equal(w, start)


@pytest.mark.parametrize("name", [*FIRST_ORDER, *FULL_BATCH])
def test_at_a_stationary_point_weights_stay(name: str) -> None:
    w = parameter([0.0, 0.0])
    optimizer, loss = built(name, [w]), Loss([w], lambda: w.square().sum() + 1)
    for _ in range(3):
        loss()
        step(optimizer, loss)
    assert w.tolist() == [[0, 0]]


@pytest.mark.parametrize("name", FULL_BATCH)
def test_parameters_may_be_frozen_unused_or_laid_out_otherwise(name: str) -> None:
    w = parameter(*torch.ones(3, 2, 2, 2).tolist())
    w.data = w.data.contiguous(memory_format=torch.channels_last)
    frozen, unused = nn.Parameter(torch.ones(2), requires_grad=False), parameter(1.0)
    target = torch.linspace(0, 1, 24, dtype=torch.float64).view_as(w)
    optimizer = built(name, [w, frozen, unused])
    loss = Loss([w, unused], lambda: (w - target).square().sum() * frozen.sum())
    for _ in range(20):
        step(optimizer, loss)
    torch.testing.assert_close(w.detach(), target, rtol=0, atol=1e-6)
    assert w.is_contiguous(memory_format=torch.channels_last)
    assert unused.tolist() == [1]


# Resuming


@pytest.mark.parametrize("name", [*FIRST_ORDER, *FULL_BATCH])
def test_resumed_steps_are_uninterrupted_ones_bit_for_bit(name: str) -> None:
    x, y = iris()
    config = TrainerConfig.from_mapping(
        {"optimizer": name} | ({"weight_decay": 0.01} if name in FIRST_ORDER else {"l2": 1e-3})
    )

    def start() -> tuple[nn.Sequential, torch.optim.Optimizer]:
        model = network().float()
        return model, build(config, model.parameters())

    def go_on(model: nn.Sequential, optimizer: torch.optim.Optimizer, steps: range) -> None:
        def function() -> Tensor:
            loss = cross_entropy(model(x[part].float()), y[part])
            return loss + penalty(model.parameters(), config.l2)

        loss = Loss(list(model.parameters()), function)
        for k in steps:
            part = slice(k % 5, None, 5) if name in FIRST_ORDER else slice(None)
            loss()
            step(optimizer, loss)

    whole, optimizer = start()
    go_on(whole, optimizer, range(10))

    model, optimizer = start()
    go_on(model, optimizer, range(5))
    file = io.BytesIO()
    torch.save([model.state_dict(), optimizer.state_dict()], file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    model, optimizer = start()
    model.load_state_dict(saved[0])
    optimizer.load_state_dict(saved[1])
    halfway = vector(list(model.parameters()))
    go_on(model, optimizer, range(5, 10))
    resumed = vector(list(model.parameters()))
    assert torch.equal(resumed, vector(list(whole.parameters())))
    assert not torch.equal(resumed, halfway)
