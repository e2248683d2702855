"""What a trial leaves in its process, and how the next one finds it free."""

from __future__ import annotations

import gc
import sys
from typing import Any

CUDA_CONTEXT_BYTES = 512 * 2**20
"""What a process takes on a GPU beside its tensors, of which torch knows nothing."""


def tidy(*, after_out_of_memory: bool) -> int | None:
    """Frees what a trial that has ended holds of memory, the host's and a GPU's.

    Cycles of objects hold tensors until Python collects them, and PyTorch holds what was freed for
    its next tensors, which another process can then not have.

    Args:
        after_out_of_memory: Whether memory has run out, so that it is worth the time without a GPU.

    Returns:
        The most memory that the trial took on a GPU, in bytes, if it used one.

    Raises:
        RuntimeError: of CUDA, whose errors stay with their process: no trial can use a GPU in it.
    """
    torch: Any = sys.modules.get("torch")
    on_gpu = torch is not None and torch.cuda.is_initialized()
    if after_out_of_memory or on_gpu:
        gc.collect()
    if not on_gpu:
        return None
    devices = range(torch.cuda.device_count())
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    peak = max(torch.cuda.max_memory_reserved(device) for device in devices)
    for device in devices:
        torch.cuda.reset_peak_memory_stats(device)
    return int(peak) + CUDA_CONTEXT_BYTES
