"""Backpropagation written out, for a network that is a row of layers.

PyTorch's autograd notes every operation and then finds out how to undo it, which for a small
network takes as long as the arithmetic. Here each kind of layer has its own two equations, y = f(x)
and dx = f'(x)^T dy, where dx is short for the gradient of the loss by x.

Source: Goodfellow, Bengio & Courville (2016), Deep Learning, algorithms 6.3 and 6.4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, gelu, max_pool2d, pad

from hpo.trainers.dense import Dense
from hpo.trainers.losses import Loss
from hpo.trainers.models import Dropout, Pixels

_aten = torch.ops.aten
_FEW = 9  # pixels of a kernel


class Link(Protocol):
    """A layer's two equations."""

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        """Gives y, and what `backward` is to be given."""
        ...

    def backward(self, dy: Tensor, kept: Any, *, to_x: bool) -> Tensor:
        """Adds dw to the `grad` of each parameter w; gives dx, or anything unless `to_x`.

        It may overwrite dy.
        """
        ...


class Chain:
    """A network of links, each of which is given what the one before gives.

    Args:
        links: From the input to the output.
        first: The first that has parameters: before it no gradient is of use.
    """

    def __init__(self, links: Sequence[Link], first: int) -> None:
        self._links = links
        self._back = [(links[i], i > first) for i in range(len(links) - 1, first - 1, -1)]

    @classmethod
    def of(cls, model: nn.Module) -> Chain | None:
        """What a network of ours does in training; None if it has layers without equations here."""
        if not isinstance(model, nn.Sequential) or not all(type(m) in LINKS for m in model):
            return None
        first = [next(layer.parameters(), None) is not None for layer in model].index(True)
        links = [LINKS[type(layer)](layer) for layer in model]
        if isinstance(layer := model[first], nn.Conv2d) and _Patches.suit(layer):
            pooled = isinstance(model[first + 1], nn.MaxPool2d)
            links[first : first + 1 + pooled] = [(_PooledPatches if pooled else _Patches)(layer)]
        return cls(links, first)

    def gradient(self, x: Tensor, y: Tensor, loss: Loss, n: int) -> Tensor:
        """Adds the gradient of the loss of examples to the `grad` of each parameter.

        To be called where autograd notes nothing.

        Args:
            x: The examples.
            y: Their targets.
            loss: Of an example.
            n: What the sum of their losses is divided by.

        Returns:
            The loss.
        """
        all_kept = []
        for link in self._links:
            x, kept = link.forward(x)
            all_kept.append(kept)
        value, dy = loss.gradient(x, y, n)
        for link, to_x in self._back:
            dy = link.backward(dy, all_kept.pop(), to_x=to_x)
        return value


def _add(w: Tensor, dw: Tensor) -> None:
    """Adds to w's gradient, which lies in memory as w does: fused optimizers rely on that."""
    if w.grad is not None:
        w.grad += dw
    else:
        w.grad = dw if dw.stride() == w.stride() else torch.empty_like(w).copy_(dw)


class _Flatten:
    """y has the numbers of each example in a row."""

    def __init__(self, layer: nn.Flatten) -> None:
        self._f = layer.forward

    def forward(self, x: Tensor) -> tuple[Tensor, torch.Size]:
        return self._f(x), x.shape

    def backward(self, dy: Tensor, shape: torch.Size, *, to_x: bool) -> Tensor:  # noqa: ARG002
        return dy.view(shape)


class _Pixels(_Flatten):
    """y has the pixels of each image in a row."""

    def backward(self, dy: Tensor, shape: torch.Size, *, to_x: bool) -> Tensor:  # noqa: ARG002
        n, c, h, w = shape
        return dy.view(n, h, w, c).permute(0, 3, 1, 2)


class _Dense:
    """y = x w + b; dx = dy w^T, dw = x^T dy, db = the sum of dy over examples."""

    def __init__(self, layer: Dense) -> None:
        self._w, self._b = layer.weight, layer.bias
        self._by_units = layer.weight.stride(0) == 1

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return (x @ self._w if self._b is None else torch.addmm(self._b, x, self._w)), x

    def backward(self, dy: Tensor, x: Tensor, *, to_x: bool) -> Tensor:
        _add(self._w, (dy.t() @ x).t() if self._by_units else x.t() @ dy)
        if self._b is not None:
            _add(self._b, dy.sum(dim=0))
        return dy @ self._w.t() if to_x else dy


class _Convolution:
    """y = x * w + b."""

    def __init__(self, layer: nn.Conv2d) -> None:
        self._w, self._b = layer.weight, layer.bias
        self._stride, self._padding = list(layer.stride), list(_sides(layer))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return conv2d(x, self._w, self._b, self._stride, self._padding), x

    def backward(self, dy: Tensor, x: Tensor, *, to_x: bool) -> Tensor:
        how = self._stride, self._padding, [1, 1], False, [0, 0], 1
        # PyTorch's own db takes longer than a sum.
        of = [to_x, True, False]
        dx, dw, _ = _aten.convolution_backward(dy, x, self._w, None, *how, of)
        _add(self._w, dw)
        if self._b is not None:
            _add(self._b, _by_pixel(dy).sum(dim=0))
        return dx  # type: ignore[no-any-return]  # torch.ops has no types


class _Patches:
    """y = x * w + b as a product of matrices, where x is given: it has no dx.

    CPUs convolve images of one channel slowly: their kernels look for many. The matrix has a row
    for each pixel of the kernel, with what it meets in all places of all images.
    """

    def __init__(self, layer: nn.Conv2d) -> None:
        self._w, self._b = layer.weight, layer.bias
        self._pad = [side for p in reversed(_sides(layer)) for side in (p, p)]

    @staticmethod
    def suit(layer: nn.Conv2d) -> bool:
        """Whether it is faster so: the matrix is small."""
        on_cpu = layer.weight.device.type == "cpu"
        return on_cpu and layer.weight[0].numel() <= _FEW and layer.stride == (1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        n, m, height, width = self._w.shape
        places = pad(x, self._pad).unfold(2, height, 1).unfold(3, width, 1)
        matrix = places.permute(1, 4, 5, 0, 2, 3).reshape(m * height * width, -1)
        w = self._w.reshape(n, -1).t()
        y = matrix.t() @ w if self._b is None else torch.addmm(self._b, matrix.t(), w)
        return y.view(len(x), *places.shape[2:4], n).permute(0, 3, 1, 2), matrix

    def backward(self, dy: Tensor, kept: Any, *, to_x: bool) -> Tensor:  # noqa: ARG002
        by_pixel, matrix = _by_pixel(dy), kept
        _add(self._w, (matrix @ by_pixel).t().view(self._w.shape))
        if self._b is not None:
            _add(self._b, by_pixel.sum(dim=0))
        return dy


class _PooledPatches(_Patches):
    """The same, and then the largest of each 2 x 2 pixels; x * w is never written as a whole.

    A row of the matrix is a pixel of a window that is larger than the kernel by one: in it the
    kernel has four places, and the largest of four products is found one after the other. That b is
    added afterwards changes nothing.
    """

    _PLACES = (0, 0), (0, 1), (1, 0), (1, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Any]:
        n, m, height, width = self._w.shape
        windows = pad(x, self._pad).unfold(2, height + 1, 2).unfold(3, width + 1, 2)
        matrix = windows.permute(1, 4, 5, 0, 2, 3).reshape(m * (height + 1) * (width + 1), -1)
        kernels = [pad(self._w, (j, 1 - j, i, 1 - i)).reshape(n, -1).t() for i, j in self._PLACES]
        y, gains = matrix.t() @ kernels[0], []
        for kernel in kernels[1:]:
            product = matrix.t() @ kernel
            gains.append(product - y)
            torch.maximum(y, product, out=y)
        if self._b is not None:
            y += self._b
        return y.view(len(x), *windows.shape[2:4], n).permute(0, 3, 1, 2), (matrix, gains)

    def backward(self, dy: Tensor, kept: Any, *, to_x: bool) -> Tensor:  # noqa: ARG002
        matrix, gains = kept
        n, m, height, width = self._w.shape
        by_pixel = _by_pixel(dy)
        if self._b is not None:
            _add(self._b, by_pixel.sum(dim=0))
        dw = torch.zeros_like(self._w)
        for (i, j), gain in zip(reversed(self._PLACES), [*reversed(gains), None], strict=True):
            of_place = by_pixel
            if gain is not None:  # the last place that gained something has all of dy
                of_place = _aten.threshold_backward.grad_input(by_pixel, gain, 0, grad_input=gain)
                by_pixel -= of_place
            of_window = (matrix @ of_place).view(m, height + 1, width + 1, n)
            dw += of_window[:, i : i + height, j : j + width].permute(3, 0, 1, 2)
        _add(self._w, dw)
        return dy


def _by_pixel(images: Tensor) -> Tensor:
    """(n, c, h, w) as (n h w, c), in place where channels lie last."""
    return images.permute(0, 2, 3, 1).reshape(-1, images.shape[1])


def _sides(layer: nn.Conv2d) -> tuple[int, ...]:
    """The zeros around an image that a convolution sees."""
    assert not isinstance(layer.padding, str)  # noqa: S101 - ours are numbers
    return layer.padding


class _Relu:
    """y = max(x, 0); dx = dy where y > 0."""

    def __init__(self, layer: nn.ReLU) -> None:
        self._f = torch.relu_ if layer.inplace else torch.relu

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self._f(x)
        return y, y

    def backward(self, dy: Tensor, y: Tensor, *, to_x: bool) -> Tensor:  # noqa: ARG002
        return _aten.threshold_backward.grad_input(dy, y, 0, grad_input=dy)  # type: ignore[no-any-return]


class _Tanh:
    """dx = (1 - y^2) dy."""

    def __init__(self, layer: nn.Tanh) -> None:
        del layer

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = x.tanh()
        return y, y

    def backward(self, dy: Tensor, y: Tensor, *, to_x: bool) -> Tensor:  # noqa: ARG002
        return _aten.tanh_backward(dy, y)  # type: ignore[no-any-return]


class _Gelu:
    """y = x Phi(x), with the distribution Phi of the normal."""

    def __init__(self, layer: nn.GELU) -> None:
        self._tanh = layer.approximate

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return gelu(x, approximate=self._tanh), x

    def backward(self, dy: Tensor, x: Tensor, *, to_x: bool) -> Tensor:  # noqa: ARG002
        return _aten.gelu_backward(dy, x, approximate=self._tanh)  # type: ignore[no-any-return]


class _Dropout:
    """y = x m; dx = dy m."""

    def __init__(self, layer: Dropout) -> None:
        self._mask = layer.mask

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        m = self._mask(x)
        return x * m, m

    def backward(self, dy: Tensor, m: Tensor, *, to_x: bool) -> Tensor:  # noqa: ARG002
        return dy.mul_(m)


class _MaxPool:
    """y = the largest of some pixels, which gets dy."""

    def __init__(self, layer: nn.MaxPool2d) -> None:
        self._f = partial(max_pool2d, kernel_size=layer.kernel_size, return_indices=True)
        size = [layer.kernel_size] * 2
        self._how = size, size, [0, 0], [1, 1], False

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, places = self._f(x)
        return y, (x, places)

    def backward(
        self,
        dy: Tensor,
        kept: tuple[Tensor, Tensor],
        *,
        to_x: bool,  # noqa: ARG002
    ) -> Tensor:
        x, places = kept
        return _aten.max_pool2d_with_indices_backward(dy, x, *self._how, places)  # type: ignore[no-any-return]


LINKS: Mapping[type[nn.Module], Callable[[Any], Link]] = MappingProxyType(
    {
        nn.Flatten: _Flatten,
        Pixels: _Pixels,
        Dense: _Dense,
        nn.Conv2d: _Convolution,
        nn.ReLU: _Relu,
        nn.Tanh: _Tanh,
        nn.GELU: _Gelu,
        Dropout: _Dropout,
        nn.MaxPool2d: _MaxPool,
    }
)
"""The link that does the same as each kind of layer that `hpo.trainers.models` builds."""
