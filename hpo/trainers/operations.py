"""What a network multiplies and adds, counted by PyTorch and without its compiler."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch.utils.flop_counter import FlopCounterMode, _FlopCounterMode

from hpo.trainers.eager import as_it_is


class _Eager(_FlopCounterMode):  # type: ignore[no-untyped-call]
    """What counts in PyTorch's `FlopCounterMode`, which wraps it: that imports the compiler."""


_Eager.__torch_dispatch__ = as_it_is(_FlopCounterMode.__torch_dispatch__)  # type: ignore[method-assign]


@contextmanager
def counting() -> Iterator[FlopCounterMode]:
    """A context in which operations are counted, for `get_total_flops`; not by module."""
    counter = FlopCounterMode(display=False)
    with _Eager(counter):
        yield counter
