"""Starts `hpo` processes in 20 ms instead of 3 s, by forking one that has imported everything.

Each request is one connection to a Unix socket: JSON with arguments, folder and environment, and
with it stdin, stdout and stderr as file descriptors. The answer is a line with the process id and,
when the process has ended, a line with its return code. What runs is the command itself, in a
process of its own, with real signals; only its imports are shared.
"""

import array
import atexit
import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

PRELOADED = (
    "alembic.command",
    "alembic.config",
    "alembic.script",
    "hpo.api",
    "hpo.cli.main",
    "hpo.cli.needs_progress",
    "hpo.cli.progress",
    "hpo.mlflow_server",
    "hpo.objectives.trainer",
    "hpo.reports.leaderboard",
    "hpo.reports.summary",
    "hpo.sizing.report",
    "matplotlib.backends.backend_agg",
    "matplotlib.figure",
    "optuna._gp.acqf",
    "optuna._gp.batched_lbfgsb",
    "optuna._gp.gp",
    "optuna._gp.optim_mixed",
    "optuna._gp.prior",
    "optuna._gp.search_space",
    "optuna.samplers",
    "plotext",
    "rich.progress",
    "rich.status",
    "ruamel.yaml",
    "skopt",
    "sklearn.datasets",
    "torch",
)


def serve(path: str) -> None:
    """Answers requests until stdin ends, as it does when the tests have ended."""
    for module in PRELOADED:
        with contextlib.suppress(ModuleNotFoundError):
            importlib.import_module(module)
    warm_up()
    gc.freeze()  # a collection in the child would copy every page
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers need no burial
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while listener in select.select([listener, sys.stdin], [], [])[0]:
            connection, _ = listener.accept()
            if os.fork() == 0:
                listener.close()
                keep(connection)
                return
            connection.close()
        os._exit(0)


def warm_up() -> None:
    """Runs a study once, for all that libraries do when they are first used."""
    import hpo

    study = {
        "name": "warm-up",
        "objective": {"function": "builtins:len", "metric": "n"},
        "space": {"x": {"float": [0, 1]}},
        "search": {"sampler": "random", "trials": 2},
    }
    with tempfile.TemporaryDirectory() as folder:
        run = {"directory": folder}
        hpo.run({**study, "run": run}, storage=f"sqlite:///{folder}/hpo.db", tracking="none")


def keep(connection: socket.socket) -> None:
    """Forks the command and reports on it; returns in the command's process alone."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    request, descriptors = receive(connection)
    pid = os.fork()
    if pid == 0:
        connection.close()
        become(request, descriptors)
        return
    for descriptor in descriptors:
        os.close(descriptor)
    connection.sendall(b"%d\n" % pid)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with contextlib.suppress(OSError):  # nobody may be listening any more
        connection.sendall(b"%d\n" % code)
    os._exit(0)


def receive(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """One request and its three file descriptors."""
    descriptors = array.array("i")
    message, ancillary, _, _ = connection.recvmsg(2**20, socket.CMSG_LEN(3 * descriptors.itemsize))
    for _, _, payload in ancillary:
        descriptors.frombytes(payload)
    while not message.endswith(b"\n"):
        message += connection.recv(2**20)
    return json.loads(message), list(descriptors)


def become(request: dict[str, Any], descriptors: list[int]) -> None:
    """Makes this process what `hpo ARGUMENTS` would have been."""
    os.setsid()
    for standard, descriptor in enumerate(descriptors):
        os.dup2(descriptor, standard)
        os.close(descriptor)
    os.chdir(request["folder"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.argv = ["hpo", *request["arguments"]]
    sys.path[0] = str(Path(sys.executable).parent)


def run() -> None:
    """Runs the command, and skips the 1.5 s in which Python would take all modules apart."""
    from hpo.cli.main import main

    code: object = 0
    try:
        main()
    except SystemExit as end:
        code = end.code
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
    threading._shutdown()  # type: ignore[attr-defined]  # as Python does: first wait for threads,
    atexit._run_exitfuncs()  # then do what was to be done at exit
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    serve(sys.argv[1])
    run()
