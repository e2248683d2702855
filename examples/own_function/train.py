"""Your own training code, any library: report as you go, or just return a number."""

from __future__ import annotations

from collections.abc import Iterator

import hpo


def train(trial: hpo.Trial) -> Iterator[dict[str, float]]:
    """Minimises Rosenbrock's function by gradient descent with momentum.

    Args:
        trial: The configuration: ``trial.learning_rate`` and ``trial["learning_rate"]`` are the
            same.

    Yields:
        Metrics, once a step; the study file says which of them counts.
    """
    x, y, dx, dy = -1.0, 1.5, 0.0, 0.0
    for _ in range(trial.epochs):
        gradient_x = -2 * (1 - x) - 400 * x * (y - x * x)
        gradient_y = 200 * (y - x * x)
        dx = trial.momentum * dx - trial.learning_rate * gradient_x
        dy = trial.momentum * dy - trial.learning_rate * gradient_y
        x, y = x + dx, y + dy
        yield {"loss": (1 - x) ** 2 + 100 * (y - x * x) ** 2, "x": x, "y": y}
