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
from dataclasses import asdict, dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.machine import print_header, versions
from benchmarks.training.tasks import BATCH, Task

PACKAGES = ("hpo", "torch", "numpy")
CONTESTANTS = ("hpo", "plain loop", "plain loop, 2 workers")
"""hpo's first; see `benchmarks.training.contestants`."""

_MIB = 2**20
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Sizes:
    """How much is run.

    Attributes:
        turns: Processes of each contestant, one after another's.
        epochs: By data; the first warms up.
        n: Training examples of the synthetic data.
    """

    turns: int
    epochs: dict[str, int]
    n: dict[str, int]


FULL = Sizes(3, {"digits": 11, "synthetic": 3}, {"mlp": 60_000, "cnn": 60_000})
QUICK = Sizes(1, {"digits": 6, "synthetic": 2}, {"mlp": 20_000, "cnn": 4_000})


@dataclass(frozen=True)
class Ran:
    """What one process of a contestant took.

    Attributes:
        who: The contestant.
        seconds: An epoch's, the median of all but the first.
        memory_bytes: The peak of the process over what it had with the data loaded; on a GPU, the
            peak there.
        loss: The training loss of the last epoch.
    """

    who: str
    seconds: float
    memory_bytes: int
    loss: float


def run_here(who: str, task: Task, device: str, threads: int) -> Ran:
    """Trains in this process."""
    import torch

    from benchmarks.training.contestants import BY_NAME

    torch.set_num_threads(threads)
    data = task.load()
    before = _peak_bytes(device)
    epochs = list(BY_NAME[who](task, data, device))
    seconds = statistics.median(seconds for seconds, _ in epochs[1:])
    return Ran(who, seconds, _peak_bytes(device) - before, epochs[-1][1])


def _peak_bytes(device: str) -> int:
    if device != "cpu":
        import torch

        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def compete(task: Task, turns: int, device: str, threads: int) -> list[list[Ran]]:
    """All contestants, in turns; each in a new process."""
    arguments = ["--device", device, "--threads", str(threads), "--task", json.dumps(asdict(task))]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    found = []
    for _ in range(turns):
        turn = []
        for who in CONTESTANTS:
            command = [sys.executable, "-m", "benchmarks.training", "--run", who, *arguments]
            done = subprocess.run(
                command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
            )
            turn.append(Ran(**json.loads(done.stdout)))
        found.append(turn)
    return found


def table(results: dict[Task, list[list[Ran]]]) -> Table:
    """One line for each contestant in each task."""
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("data", "model"):
        shown.add_column(column)
    shown.add_column("loop")
    for column in ("ms an epoch", "ratio", "MiB more", "loss"):
        shown.add_column(column, justify="right")
    for task, turns in results.items():
        for i, who in enumerate(CONTESTANTS):
            ran = [turn[i] for turn in turns]
            ratios = [turn[i].seconds / turn[0].seconds for turn in turns]
            shown.add_row(
                f"{task.data} {task.n_train:,}" if i == 0 else "",
                task.model if i == 0 else "",
                who,
                _spread([1e3 * each.seconds for each in ran], 0),
                _spread(ratios, 2) if i else "",
                f"{statistics.median(each.memory_bytes for each in ran) / _MIB:.0f}",
                f"{statistics.median(each.loss for each in ran):.3g}",
                end_section=i == len(CONTESTANTS) - 1,
            )
    return shown


def _spread(numbers: Sequence[float], digits: int) -> str:
    """The median, and in brackets the least and the greatest of several."""
    middle = f"{statistics.median(numbers):.{digits}f}"
    if len(numbers) == 1:
        return middle
    return f"{middle} ({min(numbers):.{digits}f}-{max(numbers):.{digits}f})"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; 1 if a loop did not learn as the others did."""
    options = _parser().parse_args(arguments)
    if options.run:
        task = Task(**json.loads(options.task))
        print(json.dumps(asdict(run_here(options.run, task, options.device, options.threads))))
        return 0
    sizes = QUICK if options.quick else FULL
    console = Console(width=100)
    where = f"{options.device}, {options.threads} thread{'s' * (options.threads > 1)}"
    title = f"Training with minibatches of {BATCH} on {where}"
    machine = print_header(console, title, packages=PACKAGES, seeds=[0])
    results = {}
    for data in ("digits", "synthetic"):
        for model in ("mlp", "cnn"):
            task = Task(data, model, sizes.epochs[data], sizes.n[model])
            results[task] = compete(task, sizes.turns, options.device, options.threads)
    console.print(table(results))
    console.print(
        "An epoch trains on all examples and evaluates the validation part. The same network, SGD\n"
        "with momentum, float32. Ratio: to hpo's time in the same turn; above 1 hpo is faster.\n"
        f"Median (least-greatest) of {sizes.turns} turns, each in a process of its own. MiB more:\n"
        "peak memory over that with the data loaded, without that of a DataLoader's workers.",
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
