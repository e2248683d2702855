"""How much data may be held in memory."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

import torch

_MEMINFO = Path("/proc/meminfo")
_CGROUP = Path("/sys/fs/cgroup")
_LIMITS = (
    ("memory.max", "memory.current", "memory.stat"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
)
"""Of the second version of cgroups, then the first: what a container may use, and uses."""

_FILES = r"^(?:total_)?((?:in)?active_file) (\d+)"
"""What is used for the cache of files is free for whoever needs it."""


def room(device: torch.device) -> int:
    """The bytes that one set of examples may take there: a quarter of what is free.

    Making features of what was read takes up to four times what they take afterwards.
    """
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // 4
    return int(min(_free(), _left_to_container()) // 4)


def _free() -> float:
    """What is free on this machine."""
    if _MEMINFO.exists():
        # What Linux would free for us, such as its cache of files, counts as free.
        available = re.search(r"MemAvailable:\s+(\d+) kB", _MEMINFO.read_text())
        if available:
            return int(available[1]) * 1024
    # Elsewhere, such as on macOS, nobody tells what is free: half of all memory, say.
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2


def _left_to_container() -> float:
    """What is left of a container's limit; infinite where there is none."""
    for limit, usage, stat in _LIMITS:
        try:
            allowed = (_CGROUP / limit).read_text().strip()
            used = int((_CGROUP / usage).read_text())
            cached = dict(re.findall(_FILES, (_CGROUP / stat).read_text(), re.MULTILINE))
        except (OSError, ValueError):
            continue
        if not allowed.isdecimal():
            return math.inf
        return max(int(allowed) - used + sum(map(int, cached.values())), 0)
    return math.inf
