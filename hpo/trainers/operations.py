"""What a network multiplies and adds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from hpo.trainers.eager import as_it_is


class Operations(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context in which multiplications and additions of matrices and convolutions are counted.

    PyTorch's own `FlopCounterMode` counts the same by the same formulas, and imports its compiler
    at the first operation.

    Attributes:
        n: How many there were.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.n = 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        counted = flop_registry.get(func.overloadpacket)
        if counted is not None:
            self.n += counted(*args, **(kwargs or {}), out_val=out)
        return out


# PyTorch wraps what a class of this kind defines.
Operations.__torch_dispatch__ = as_it_is(Operations.__torch_dispatch__)  # type: ignore[method-assign]
