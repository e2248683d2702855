"""What data was read, in a line."""

from __future__ import annotations

from collections import Counter

import torch
from sklearn.compose import ColumnTransformer

from hpo.trainers.data.parts import Data
from hpo.words import counted

_SHOWN = 10
_KINDS = {
    "numbers": "of numbers",
    "dates": "of dates",
    "words": "of words",
    "truths": "of true and false",
}


def described(data: Data, positive: str | None = None) -> str:
    """How many examples there are, of what features, and what is to be predicted.

    Args:
        data: One fold; all have the same examples.
        positive: As `Source` says.

    Returns:
        ``400 examples, 3 features (2 of numbers, 1 of words), classes no (300), yes (100,
        positive)``.
    """
    y = torch.cat([part.targets.cpu() for part in (data.train, data.val, data.test)])
    if data.task == "regression":
        low, high = (float(end) * data.target_deviation + data.target_mean for end in y.aminmax())
        told = f"target from {low:.4g} to {high:.4g}"
    else:
        told = _classes(data.classes, torch.bincount(y, minlength=len(data.classes)), positive)
    return f"{counted(len(y), 'example')}, {_features(data)}, {told}"


def _features(data: Data) -> str:
    if isinstance(data.transformer, ColumnTransformer):
        from hpo.trainers.data.tables import kinds_of  # imports pandas

        kinds = Counter(kinds_of(data.transformer).values())
        shown = [f"{kinds[kind]} {called}" for kind, called in _KINDS.items() if kinds[kind]]
        return f"{counted(kinds.total(), 'feature')} ({', '.join(shown)})"
    if len(data.shape) == 3:
        channels, height, width = data.shape
        return f"images of {counted(channels, 'channel')}, {height} x {width}"
    if len(data.shape) == 1:
        return counted(data.shape[0], "feature" if data.dtype.is_floating_point else "integer")
    return f"features of shape {' x '.join(map(str, data.shape))}"


def _classes(names: tuple[str, ...], counts: torch.Tensor, positive: str | None) -> str:
    if len(names) > _SHOWN:
        low, high = (int(end) for end in counts.aminmax())
        size = f"{low:,}" if low == high else f"{low:,} to {high:,}"
        return f"{len(names)} classes of {size} examples"
    sought = (positive or names[-1]) if len(names) == 2 else None
    shown = (
        f"{name} ({int(n):,}{', positive' * (name == sought)})"
        for name, n in zip(names, counts, strict=True)
    )
    return f"classes {', '.join(shown)}"
