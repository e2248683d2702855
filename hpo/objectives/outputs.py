"""What processes leave: files with what they printed, and the code that they ended with."""

from __future__ import annotations

import os
import signal
from pathlib import Path

LAST_LINES = 20
_LAST_BYTES = 2**16


def put_aside(path: Path) -> None:
    """Keeps an earlier attempt's file: ``stdout.log`` becomes ``stdout-1.log``."""
    if path.exists():
        earlier = len(list(path.parent.glob(f"{path.stem}*{path.suffix}")))
        path.rename(path.with_name(f"{path.stem}-{earlier}{path.suffix}"))


def last_lines(path: Path, n: int = LAST_LINES) -> list[str]:
    """The end of what was printed into a file: so many lines."""
    with path.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST_BYTES))
        text = file.read().decode(errors="replace")
    return text.rstrip().splitlines()[-n:]


def how_it_ended(code: int) -> str:
    """What a return code says: ``exited with 3``, ``was killed by SIGKILL``."""
    if code >= 0:
        return f"exited with {code}"
    name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
    return f"was killed by {name}"
