"""What `hpo.trainers.goals` names, computed: from a network's outputs, and of a network by itself.

    outputs, targets = predict(forward, data.val, batch_size=1024)
    evaluate(goals.reported(data.task), outputs, targets, data, goals)

Outputs are (n, n_classes), logits, or (n, 1), predictions of the standardised target; targets are
(n,). Numbers are double precision where the device has it.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import log
from statistics import median
from time import perf_counter
from types import MappingProxyType
from typing import TypeAlias, cast
from warnings import catch_warnings, simplefilter

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, pad

from hpo.trainers import goals as known
from hpo.trainers.checkpoints import weights_of
from hpo.trainers.data.parts import Data, Part
from hpo.trainers.errors import ConfigError, Problem, did_you_mean
from hpo.trainers.goals import Goals

Forward: TypeAlias = Callable[[Tensor], Tensor]
"""From examples (n, *shape) to outputs; a module, or a function whose module is in eval mode."""

Floats: TypeAlias = NDArray[np.float64]

_LEAST_P = float(np.finfo(np.float64).eps)
_LATENCY_SECONDS = 0.2
_WARM_UPS = 3


def predict(forward: Forward, part: Part, batch_size: int) -> tuple[Tensor, Tensor]:
    """The outputs for all examples of a part, and its targets, on the part's device.

    A module is put into eval mode first, and stays in it.

    Args:
        forward: What gives the outputs; no gradient is kept.
        part: At least one example.
        batch_size: The most examples that go through at once.
    """
    _to_eval_mode(forward)
    n = len(part)
    outputs, targets = [], []
    for x, y in part.batches([min(batch_size, n - i) for i in range(0, n, batch_size)]):
        # Not around the loop: what a part caches there may be trained on later.
        with torch.inference_mode():
            outputs.append(forward(x))
        targets.append(y)
    return torch.cat(outputs), torch.cat(targets)


@torch.no_grad()
def evaluate(
    names: Iterable[str],
    outputs: Tensor,
    targets: Tensor,
    data: Data,
    goals: Goals,
    part: str = "val",
) -> dict[str, float]:
    """The metrics of one part.

    With two classes, precision, recall, F and the areas are about `goals.positive`. With more they
    are means over the classes that occur, in truths or answers (precision, recall, F) or in truths
    (`balanced_accuracy` and the areas, one class against the rest). What is asked of no example,
    such as the precision of a class that is never answered, is 0, as in scikit-learn; an area that
    lacks examples of the class, or of others where it needs them, is NaN.

    Nothing raises on outputs that are NaN or infinite: the loss says so.

    Args:
        names: As in `hpo.trainers.goals`: `val_error`. Those of other parts, and of the model, are
            left out.
        outputs: (n, n_outputs).
        targets: (n,), on the same device.
        data: What was predicted.
        goals: The positive class, the costs, the required accuracy.
        part: Which it was. It stands in front of the results' names, in the place of `val`.

    Raises:
        ConfigError: there are `problems`.
    """
    split = (name.partition("_") for name in names)
    bases = list(dict.fromkeys(base for head, _, base in split if head in ("val", part)))
    if found := list(problems(goals, data, (f"val_{base}" for base in bases))):
        raise ConfigError(found)
    judged = _JUDGES[data.task](_wide(outputs), targets, data, goals)
    scalars = [judged.metric(base) for base in bases]
    # The one wait for the device.
    values = torch.stack(scalars).tolist() if scalars else []
    return {f"{part}_{base}": value for base, value in zip(bases, values, strict=True)}


def problems(goals: Goals, data: Data, names: Iterable[str] = ()) -> Iterator[Problem]:
    """Why goals cannot be judged on this data.

    Args:
        goals: What is asked for. It may name metrics that others compute.
        data: What it is asked of.
        names: Metrics that are to be computed here.
    """
    names = tuple(names)
    for name in names:
        if problem := known.problem(name, data.task):
            yield Problem(("names",), problem)
    for name in dict.fromkeys((*goals.reported(data.task), *names)):
        for setting in known.needs([name]):
            if getattr(goals, setting) is None:
                yield Problem((setting,), f"{name!r} needs it.")
    yield from _positive_problems(goals.positive, data)
    if goals.costs is not None:
        yield from _costs_problems(goals.costs, data)


def _positive_problems(positive: str | None, data: Data) -> Iterator[Problem]:
    if positive is None:
        return
    if len(data.classes) != 2:
        has = f"{len(data.classes)} classes" if data.classes else "numbers to predict"
        yield Problem(
            ("positive",),
            f"{positive!r} can be the positive one of two classes only; {data.name!r} has {has}. "
            "Leave it out.",
        )
    elif positive not in data.classes:
        hint = did_you_mean(positive, data.classes)
        yield Problem(("positive",), f"{data.name!r} has no class {positive!r}. {hint}")


def _costs_problems(costs: tuple[tuple[float, ...], ...], data: Data) -> Iterator[Problem]:
    n = len(data.classes)
    if not n:
        sentence = f"{data.name!r} has numbers to predict, and costs are of classes. Leave it out."
        yield Problem(("costs",), sentence)
    elif [len(row) for row in costs] != [n] * n:
        widths = ", ".join(dict.fromkeys(str(len(row)) for row in costs))
        yield Problem(
            ("costs",),
            f"there are {len(costs)} rows of {widths or 0}. They must be {n} rows, for the truths, "
            f"of {n}, for the answers, both in the order {', '.join(data.classes)}.",
        )


@dataclass(frozen=True, eq=False)
class _Answers:
    """What a classifier said; each metric is a scalar on the device.

    Args:
        outputs: Logits, (n, n_classes).
        targets: Classes, (n,).
        data: Names the classes.
        goals: See there.
    """

    outputs: Tensor
    targets: Tensor
    data: Data
    goals: Goals

    def metric(self, base: str) -> Tensor:
        beta = known.beta(base)
        value: Tensor = getattr(self, base)() if beta is None else self.f(beta)
        return value

    def loss(self) -> Tensor:
        return cross_entropy(self.outputs, self.targets)

    def error(self) -> Tensor:
        return (self._answers != self.targets).sum().to(_dtype(self.outputs)) / len(self.targets)

    def accuracy(self) -> Tensor:
        return 1 - self.error()

    def balanced_accuracy(self) -> Tensor:
        hits, _, actual = self._counts
        return _mean(hits / actual.clamp(min=1), actual > 0)

    def precision(self) -> Tensor:
        return self.f(0.0)

    def recall(self) -> Tensor:
        hits, _, actual = self._counts
        return self._over_classes(hits, actual)

    def f(self, beta: float) -> Tensor:
        """(1 + beta²) P R / (beta² P + R), van Rijsbergen (1979), with 0 / 0 = 0."""
        hits, answered, actual = self._counts
        return self._over_classes((1 + beta**2) * hits, beta**2 * actual + answered)

    def pr_auc(self) -> Tensor:
        """The average precision: the mean precision of answering from an example's p upwards."""
        is_class, class_below, rest_below, _ = self._ranks
        n_class, n = is_class.sum(dim=1), is_class.shape[1]
        hits = (n_class[:, None] - class_below).to(self._p.dtype)
        sums = (is_class * hits / (n - class_below - rest_below)).sum(dim=1)
        return (sums / n_class).nanmean()

    def roc_auc(self) -> Tensor:
        """The share of pairs of the class and the rest in its order, equal ones counting half.

        It is Mann and Whitney's U over the number of pairs.
        """
        is_class, _, rest_below, rest_up_to = self._ranks
        n_class, n = is_class.sum(dim=1), is_class.shape[1]
        u = (is_class * (rest_below + rest_up_to)).sum(dim=1).to(self._p.dtype) / 2
        return (u / (n_class * (n - n_class))).nanmean()

    def log_loss(self) -> Tensor:
        """The mean of -log p of the right class, with p at least the machine epsilon."""
        log_p = self.outputs.to(_dtype(self.outputs)).log_softmax(dim=1)
        return -log_p.gather(1, self.targets[:, None]).clamp(min=log(_LEAST_P)).mean()

    def cost(self) -> Tensor:
        """The mean of C[truth, answer]."""
        return self._costs[self.targets, self._answers].mean()

    def coverage(self) -> Tensor:
        """The share that is answered: those at least as confident as the threshold."""
        return self._is_answered.to(self._p.dtype).mean()

    def accuracy_answered(self) -> Tensor:
        """The share of the answered that is right, which is the likeliest class, whatever it costs.

        Of none it is 0.
        """
        right = self._is_answered & (self.outputs.argmax(dim=1) == self.targets)
        return right.sum().to(self._p.dtype) / self._is_answered.sum().clamp(min=1)

    def threshold(self) -> Tensor:
        """The confidence from which most examples are answered and as accurately as required.

        It lies in the middle between the last that is answered and the first that is not, so that
        rounding makes no odds: at most 0 where all are answered, above 1 where none is. Confidence
        is the greatest p, and equally confident examples are answered together, as in Y. Geifman,
        R. El-Yaniv (2017), Selective classification for deep neural networks.
        """
        confidence, order = self._confidence.sort(descending=True)
        right = (self.outputs.argmax(dim=1) == self.targets)[order].cumsum(dim=0)
        k = torch.arange(1, len(right) + 1, device=right.device)
        last_of_equals = confidence != confidence.roll(-1)
        last_of_equals[-1] = True
        enough = right.to(self._p.dtype) / k >= cast("float", self.goals.required_accuracy)
        n_answered = (k * (enough & last_of_equals)).amax()
        # One above all and one below all, where none is answered or all are.
        padded = pad(pad(confidence, (1, 0), value=3.0), (0, 1), value=-1.0)
        last, first_not = padded[torch.stack([n_answered, n_answered + 1])]
        middle = (last + first_not) / 2
        return torch.where(middle > first_not, middle, last)  # neighbours have none between them

    @cached_property
    def _is_answered(self) -> Tensor:
        given = self.goals.threshold
        return self._confidence >= (self.threshold() if given is None else given)

    @cached_property
    def _confidence(self) -> Tensor:
        return confidence(self.outputs)

    @cached_property
    def _answers(self) -> Tensor:
        """The likeliest class or, where there are costs, argmin_j sum_i p_i C[i, j].

        C. Elkan (2001), The foundations of cost-sensitive learning, equation 1.
        """
        if self.goals.costs is None:
            return self.outputs.argmax(dim=1)
        return (self._p @ self._costs).argmin(dim=1)

    @cached_property
    def _costs(self) -> Tensor:
        return torch.tensor(self.goals.costs, dtype=self._p.dtype, device=self._p.device)

    @cached_property
    def _p(self) -> Tensor:
        return probabilities(self.outputs)

    @cached_property
    def _counts(self) -> tuple[Tensor, Tensor, Tensor]:
        """The right answers, all answers, and the truths of each class; each (n_classes,)."""
        zeros = self.outputs.new_zeros(self.outputs.shape[1], dtype=torch.int64)
        right = (self._answers == self.targets).long()
        counts = (
            zeros.index_add(0, self.targets, right),
            zeros.index_add(0, self._answers, torch.ones_like(right)),
            zeros.index_add(0, self.targets, torch.ones_like(right)),
        )
        hits, answered, actual = (count.to(_dtype(self.outputs)) for count in counts)
        return hits, answered, actual

    @cached_property
    def _ranks(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Each class against the rest, all at once; of two, the positive one alone.

        Returns:
            For each class and each example, in the order of the class's p, whether it is of the
            class; how many of the class have a lower p; how many of the rest have a lower one; and
            how many of the rest have no higher one. Each is (n_classes, n), or (1, n) of two.
        """
        every = torch.arange(self._p.shape[1], device=self._p.device)
        first = _positive(self.data, self.goals)
        which = slice(first, first + 1) if len(every) == 2 else slice(None)
        p, order = self._p[:, which].T.contiguous().sort(dim=1)
        is_class = (self.targets[order] == every[which, None]).long()
        n_class = pad(is_class.cumsum(dim=1), (1, 0))  # among the k lowest, for each k from 0
        below, up_to = (torch.searchsorted(p, p, right=right) for right in (False, True))
        class_below = n_class.gather(1, below)
        return is_class, class_below, below - class_below, up_to - n_class.gather(1, up_to)

    def _over_classes(self, parts: Tensor, wholes: Tensor) -> Tensor:
        """The share of the positive class; with more than two, the mean over those that occur."""
        shares = parts / wholes.clamp(min=1)  # a whole below 1 has a part of 0
        if len(shares) == 2:
            return shares[_positive(self.data, self.goals)]
        _, answered, actual = self._counts
        return _mean(shares, answered + actual > 0)


@dataclass(frozen=True, eq=False)
class _Predictions:
    """What a regression said; each metric is a scalar on the device.

    Args:
        outputs: Standardised predictions, (n, 1).
        targets: Standardised targets, (n,).
        data: Knows the target's unit.
        goals: Has no say in these.
    """

    outputs: Tensor
    targets: Tensor
    data: Data
    goals: Goals

    def metric(self, base: str) -> Tensor:
        value: Tensor = getattr(self, base)()
        return value

    def loss(self) -> Tensor:
        return self._residuals.square().mean()

    def rmse(self) -> Tensor:
        return self.loss().sqrt() * self.data.target_deviation

    def mae(self) -> Tensor:
        return self._residuals.abs().mean() * self.data.target_deviation

    def r2(self) -> Tensor:
        """1 - the error over the variance; where all targets are equal, 1 if met, else 0."""
        variance = self.targets.to(_dtype(self.outputs)).var(correction=0)
        error = self.loss()
        return torch.where(variance > 0, 1 - error / variance, (error == 0).to(error.dtype))

    @cached_property
    def _residuals(self) -> Tensor:
        return self.outputs.squeeze(1).to(_dtype(self.outputs)) - self.targets


_JUDGES: Mapping[known.Task, type[_Answers] | type[_Predictions]] = MappingProxyType(
    {"classification": _Answers, "regression": _Predictions}
)


def probabilities(logits: Tensor) -> Tensor:
    """The softmax of logits (n, n_classes), in double precision where the device has it."""
    return logits.to(_dtype(logits)).softmax(dim=1)


def confidence(logits: Tensor) -> Tensor:
    """The probability of the likeliest class, (n,), of logits (n, n_classes)."""
    return probabilities(logits).amax(dim=1)


@torch.no_grad()
def threshold(outputs: Tensor, targets: Tensor, data: Data, goals: Goals) -> float:
    """The confidence from which a classifier is to answer, by the examples of one part.

    Args:
        outputs: (n, n_classes).
        targets: (n,), on the same device.
        data: What was predicted.
        goals: The required accuracy.

    Returns:
        0 if it answers all; more than 1 if none.
    """
    outputs = _wide(outputs)
    return max(float(_Answers(outputs, targets, data, goals).threshold()), 0.0)


@torch.no_grad()
def precision_recall(
    outputs: Tensor, targets: Tensor, data: Data, goals: Goals
) -> tuple[Floats, Floats, Floats]:
    """The precision and the recall of answering "yes" from each probability upwards.

    With two classes it is about `goals.positive`; with more, about all pairs of an example and a
    class (the micro-average). Where nothing is to be found the recall is 1.

    Args:
        outputs: Finite logits, (n, n_classes).
        targets: (n,).
        data: Names the classes.
        goals: Says which is positive.

    Returns:
        Precision (k + 1,), recall (k + 1,), falling, and thresholds (k,), rising. The last point,
        of answering nothing, is precision 1 at recall 0, and has no threshold.
    """
    from sklearn.metrics import precision_recall_curve

    p, truth = probabilities(outputs).cpu().numpy(), targets.cpu().numpy()
    is_class = truth[:, None] == np.arange(p.shape[1])
    if p.shape[1] == 2:
        p, is_class = (of_both[:, _positive(data, goals)] for of_both in (p, is_class))
    with catch_warnings():
        simplefilter("ignore", UserWarning)  # that nothing is to be found
        curve = precision_recall_curve(is_class.ravel(), p.ravel(), drop_intermediate=True)
    return cast("tuple[Floats, Floats, Floats]", curve)


def latency_ms(forward: Forward, example: Tensor) -> float:
    """The milliseconds that one example takes by itself, as the median of 0.2 seconds of trying.

    A module is put into eval mode first, and stays in it.

    Args:
        forward: What gives the outputs.
        example: Its features, (1, *shape), where it is.
    """
    _to_eval_mode(forward)
    times: list[float] = []
    with torch.inference_mode():
        for _ in range(_WARM_UPS):
            forward(example)
        _wait_for(example.device)
        end = perf_counter() + _LATENCY_SECONDS
        while not times or perf_counter() < end:
            start = perf_counter()
            forward(example)
            _wait_for(example.device)
            times.append(perf_counter() - start)
    return 1000 * median(times)


def n_parameters(model: nn.Module) -> int:
    """The numbers that training can change."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def model_bytes(model: nn.Module, data: str | None = None) -> int:
    """The size of the file that `hpo.trainers.checkpoints` leaves of the model.

    Args:
        model: The network.
        data: The digest that is noted in the file.
    """
    return len(weights_of(model, data))


def _wide(outputs: Tensor) -> Tensor:
    """What autocast left in half precision is too coarse for a mean."""
    return outputs.to(torch.promote_types(outputs.dtype, torch.float32))


def _to_eval_mode(forward: Forward) -> None:
    if isinstance(forward, nn.Module):
        forward.eval()


def _wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()


def _dtype(tensor: Tensor) -> torch.dtype:
    """The widest numbers that the tensor's device can compute with."""
    return torch.float32 if tensor.device.type == "mps" else torch.float64


def _mean(values: Tensor, of: Tensor) -> Tensor:
    """The mean of those values; indexing by `of` would wait for the device."""
    return (values * of).sum() / of.sum()


def _positive(data: Data, goals: Goals) -> int:
    return len(data.classes) - 1 if goals.positive is None else data.classes.index(goals.positive)
