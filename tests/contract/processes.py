"""Processes of their own that call a function, all of them at the same moment.

They are forks of a process that has imported hpo, which costs a hundred times as much as a fork.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, TypeAlias

PATIENCE_SECONDS = 120.0  # not a promise: how long a busy machine may take before a test gives up

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["pytest", "hpo.catalog", "hpo.drivers", "hpo.transfer"])

Gate: TypeAlias = Callable[[], object]
"""Opens when all processes stand before it."""


def at_once(n: int, function: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Calls a module's function in n processes, with a gate first; gives what each returned."""
    barrier = CONTEXT.Barrier(n, timeout=PATIENCE_SECONDS)
    pipes = [CONTEXT.Pipe(duplex=False) for _ in range(n)]
    processes = [
        CONTEXT.Process(target=_tell, args=(theirs, function, barrier.wait, *arguments))
        for _, theirs in pipes
    ]
    for process, (_, theirs) in zip(processes, pipes, strict=True):
        process.start()
        theirs.close()
    try:
        return [_heard(mine) for mine, _ in pipes]
    finally:
        for process, (mine, _) in zip(processes, pipes, strict=True):
            process.join()
            process.close()
            mine.close()


def _tell(to: Connection, function: Callable[..., Any], gate: Gate, *arguments: Any) -> None:
    to.send(function(gate, *arguments))


def _heard(mine: Connection) -> Any:
    assert mine.poll(PATIENCE_SECONDS), "a process never ended"
    return mine.recv()  # an EOFError if it failed; its traceback is on stderr
