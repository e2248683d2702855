"""Features of about mean 0 and deviation 1: what is learned of the training part, and applied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.preprocessing import StandardScaler

_IMAGES, _ROWS = 2**10, 2**16
"""So many images, or rows of a table, are looked at together, which bounds the memory it takes."""


class Channels(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Standardises images, channel by channel.

    Takes arrays of images as `images` does, and gives float32, (n, channels, height, width).
    """

    def fit_chunks(self, chunks: Iterator[NDArray[Any]]) -> Channels:
        """Learns from minibatches, (n, channels, height, width), one after another."""
        scaler = StandardScaler()
        for chunk in chunks:
            scaler.partial_fit(np.moveaxis(chunk, 1, -1).reshape(-1, chunk.shape[1]))
        self.mean_ = scaler.mean_.astype(np.float32)[:, None, None]
        self.deviation_ = scaler.scale_.astype(np.float32)[:, None, None]
        return self

    def transform(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Images as features."""
        found = images(x).astype(np.float32)
        found -= self.mean_
        found /= self.deviation_
        return found

    @property
    def scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean and the deviation, each (channels, 1, 1)."""
        return torch.from_numpy(self.mean_), torch.from_numpy(self.deviation_)


Transformer: TypeAlias = Channels | StandardScaler


def fit_array(x: NDArray[Any]) -> Transformer:
    """A transformer that standardises the columns of a table, or the channels of images."""
    at_once = at_once_of(x.shape)
    chunks = (x[first : first + at_once] for first in range(0, len(x), at_once))
    return fit_chunks(chunks, x.ndim)


def at_once_of(shape: tuple[int, ...]) -> int:
    """How many examples of an array of this shape are looked at together."""
    return _ROWS if len(shape) == 2 else _IMAGES


@np.errstate(over="ignore", invalid="ignore")  # whoever takes what comes of it, looks
def fit_chunks(chunks: Iterator[NDArray[Any]], ndim: int) -> Transformer:
    """The same of an array that comes in parts, each as many examples as `at_once_of` says."""
    if ndim > 2:
        return Channels().fit_chunks(images(chunk) for chunk in chunks)
    scaler = StandardScaler()
    for chunk in chunks:
        scaler.partial_fit(chunk)
    return scaler


def images(x: NDArray[Any]) -> NDArray[Any]:
    """Images as (n, channels, height, width), from that, (n, h, w) or (n, h, w, channels).

    Channels stand last where only the last axis is as short as channels are: at most four.
    """
    if x.ndim == 3:
        return x[:, None]
    return np.moveaxis(x, 3, 1) if x.shape[3] <= 4 < x.shape[1] else x
