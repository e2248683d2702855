"""Lets the loops take turns, each in a process of its own, and prints the table."""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import statistics
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.machine import print_header, versions
from benchmarks.training.tasks import BATCH, Task

PACKAGES = ("hpo", "torch", "numpy")
CONTESTANTS = ("hpo", "plain loop", "plain, 2 workers")
"""hpo's first; see `benchmarks.training.contestants`."""
COLUMNS = {"ms": 6, "fastest": 7, "ratio": 19, "of fastest": 10, "MiB more": 8, "loss": 8}
"""What is told of each, and how wide it is."""

_MIB = 2**20
_ROOT = Path(__file__).parents[2]
_FORGET, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")


@dataclass(frozen=True)
class Sizes:
    """How much is run.

    Attributes:
        turns: How often each contestant gets a new process.
        epochs: Of each process, by data and model; the first warms up.
        n: Training examples of the synthetic data, by model.
    """

    turns: int
    epochs: dict[tuple[str, str], int]
    n: dict[str, int]

    def tasks(self) -> list[Task]:
        """What is trained."""
        return [Task(*of, epochs, self.n[of[1]]) for of, epochs in self.epochs.items()]


DIGITS_MLP, DIGITS_CNN = ("digits", "mlp"), ("digits", "cnn")
MLP, CNN = ("synthetic", "mlp"), ("synthetic", "cnn")
FULL = Sizes(3, {DIGITS_MLP: 31, DIGITS_CNN: 21, MLP: 5, CNN: 3}, {"mlp": 60_000, "cnn": 60_000})
QUICK = Sizes(1, {DIGITS_MLP: 16, DIGITS_CNN: 11, MLP: 5, CNN: 4}, {"mlp": 20_000, "cnn": 4_000})


@dataclass(frozen=True)
class Ran:
    """What one process of a contestant took.

    Attributes:
        who: The contestant.
        seconds: Of each epoch but the first.
        memory_bytes: The peak of the process over what it had with the data loaded; on a GPU, the
            peak there.
        loss: The training loss of the last epoch.
    """

    who: str
    seconds: list[float]
    memory_bytes: int
    loss: float


def run_here(who: str, task: Task, device: str, threads: int) -> None:
    """Trains in this process, one epoch for each line that comes in, and prints what it took."""
    import torch

    from benchmarks.training.contestants import BY_NAME

    torch.set_num_threads(threads)
    data = task.load()
    before = _memory_bytes(device)
    epochs = BY_NAME[who](task, data, device)
    for _ in sys.stdin:
        seconds, loss = next(epochs)
        print(json.dumps([seconds, _peak_bytes(device) - before, loss]), flush=True)


def _memory_bytes(device: str) -> int:
    """What is in use; the peak is forgotten, where that is possible."""
    if device != "cpu" or not _FORGET.exists():
        return _peak_bytes(device)
    _FORGET.write_text("5")
    return _peak_bytes(device)


def _peak_bytes(device: str) -> int:
    if device != "cpu":
        import torch

        return torch.cuda.max_memory_allocated()
    if _FORGET.exists():
        (line,) = (line for line in _STATUS.read_text().splitlines() if "VmHWM" in line)
        return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def compete(task: Task, turns: int, device: str, threads: int) -> list[list[Ran]]:
    """All contestants, each in a process of its own; in each turn in new ones."""
    return [_turn(task, device, threads) for _ in range(turns)]


def _turn(task: Task, device: str, threads: int) -> list[Ran]:
    """The contestants train epoch by epoch, in turns: what disturbs one disturbs the others."""
    arguments = ["--device", device, "--threads", str(threads), "--task", json.dumps(asdict(task))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with ExitStack() as stack:
        processes = [
            stack.enter_context(
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.training", "--run", who, *arguments],
                    cwd=_ROOT,
                    env=environment,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                )
            )
            for who in CONTESTANTS
        ]
        rounds = [[_epoch(process) for process in processes] for _ in range(task.epochs)]
    return [
        Ran(who, [seconds for seconds, _, _ in epochs[1:]], epochs[-1][1], epochs[-1][2])
        for who, epochs in zip(CONTESTANTS, zip(*rounds, strict=True), strict=True)
    ]


def _epoch(process: subprocess.Popen[str]) -> tuple[float, int, float]:
    """Its seconds, the peak of memory so far, and the loss."""
    assert process.stdin
    assert process.stdout
    process.stdin.write("go\n")
    process.stdin.flush()
    line = process.stdout.readline()
    if not line:
        raise subprocess.CalledProcessError(process.wait(), process.args)
    seconds, memory, loss = json.loads(line)
    return seconds, memory, loss


def table(task: Task, turns: list[list[Ran]]) -> Table:
    """One line for each contestant in a task."""
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    shown.add_column(f"{task.data} {task.model}", no_wrap=True, width=max(map(len, CONTESTANTS)))
    for column, width in COLUMNS.items():
        shown.add_column(column, justify="right", no_wrap=True, width=width)
    ours = [seconds for turn in turns for seconds in turn[0].seconds]
    for i, who in enumerate(CONTESTANTS):
        ran = [turn[i] for turn in turns]
        seconds = [seconds for each in ran for seconds in each.seconds]
        ratios = [theirs / mine for theirs, mine in zip(seconds, ours, strict=True)]
        shown.add_row(
            who,
            f"{1e3 * statistics.median(seconds):.0f}",
            f"{1e3 * min(seconds):.0f}",
            _spread(ratios) if i else "",
            f"{min(seconds) / min(ours):.2f}" if i else "",
            f"{statistics.median(each.memory_bytes for each in ran) / _MIB:.0f}",
            f"{statistics.median(each.loss for each in ran):.2g}",
        )
    return shown


def _size(task: Task) -> str:
    return f"{task.n_train:,} ({task.data} {task.model})"


def _spread(numbers: Sequence[float]) -> str:
    """The median, and in brackets the least and the greatest."""
    return f"{statistics.median(numbers):.2f} ({min(numbers):.2f}-{max(numbers):.2f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 if a loop did not learn as the others did."""
    options = _parser().parse_args(arguments)
    if options.run:
        task = Task(**json.loads(options.task))
        run_here(options.run, task, options.device, options.threads)
        return 0
    sizes = QUICK if options.quick else FULL
    console = Console(width=100)
    where = f"{options.device}, {options.threads} thread{'s' * (options.threads > 1)}"
    title = f"Training with minibatches of {BATCH} on {where}"
    machine = print_header(console, title, packages=PACKAGES, seeds=[0])
    results = {}
    for task in sizes.tasks():
        results[task] = compete(task, sizes.turns, options.device, options.threads)
        console.print(table(task, results[task]))
    console.print(
        "An epoch trains on all examples and evaluates the validation part. The same network, SGD\n"
        f"with momentum, float32. Examples: {', '.join(map(_size, results))}.\n"
        f"The loops take turns, epoch by epoch, in processes of their own, {sizes.turns} of each, "
        "whose first\nepoch does not count. Ratio: to hpo's epoch in the same turn; above 1 hpo is "
        "faster; median\n(least-greatest). Of fastest: of the fastest epochs, which other work has "
        "disturbed least.\nMiB more: peak memory over that with the data loaded, without that of "
        "DataLoaders' workers.",
        highlight=False,
    )
    if options.json:
        facts = {"machine": machine.as_json(), "versions": versions(PACKAGES)}
        ran = {
            f"{task.data} {task.model}": [[asdict(each) for each in turn] for turn in turns]
            for task, turns in results.items()
        }
        text = json.dumps({**facts, "results": ran}, indent=2)
        options.json.write_text(text + "\n", encoding="utf-8")
    return int(any(map(_differ, results.values())))


def _differ(turns: list[list[Ran]]) -> bool:
    """Whether losses are further apart than the order of examples explains."""
    losses = [each.loss for turn in turns for each in turn]
    return not all(math.isfinite(loss) for loss in losses) or max(losses) > 10 * min(losses) + 0.1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training",
        description="How fast the built-in trainers are, beside hand-written loops.",
    )
    parser.add_argument("--quick", action="store_true", help="one turn, under a minute")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of PyTorch")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    for inner in ("--run", "--task"):
        parser.add_argument(inner, help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
