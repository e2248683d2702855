"""How much data may be held in memory."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch

_MEMINFO = Path("/proc/meminfo")


def room(device: torch.device) -> int:
    """The bytes that one set of examples may take there: a quarter of what is free."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 4
    if _MEMINFO.exists():
        # What Linux would free for us, such as its cache of files, counts as free.
        available = re.search(r"MemAvailable:\s+(\d+) kB", _MEMINFO.read_text())
        if available:
            return int(available[1]) * 1024 // 4
    # Elsewhere, such as on macOS, nobody tells what is free: half of all memory, say.
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 8
