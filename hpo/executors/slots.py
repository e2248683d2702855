"""Where trials may run on this machine: slots, each a share of its cores or GPUs.

Slots have numbers. Their first ones are spread over all GPUs, so that more trials on each GPU are
more slots behind those that there are, and fewer are fewer at the end.
"""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hpo.errors import ObjectiveError
from hpo.spec import Plan, RunSpec
from hpo.words import counted

MEMORY_MARGIN = 1.15
"""So many times their measured peak is kept for trials that share a GPU: they are not alike."""

_QUERY = ("nvidia-smi", "--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits")
_QUERY_SECONDS = 30.0  # a driver that was not loaded takes its time
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Gpu:
    """A GPU of this machine.

    Args:
        id: Its name in CUDA_VISIBLE_DEVICES.
        memory_bytes: Its memory; 0 where that is not known.
        uuid: Its other name there; a beginning of it will do.
    """

    id: str
    memory_bytes: int
    uuid: str = ""


@dataclass(frozen=True)
class Slot:
    """Room for one trial.

    Args:
        number: From 0.
        gpus: What it has, by their names in CUDA_VISIBLE_DEVICES.
        environment: What is different in a worker's environment.
    """

    number: int
    gpus: tuple[str, ...]
    environment: Mapping[str, str]


@dataclass(frozen=True)
class Layout:
    """How this machine is divided among trials.

    Args:
        threads: CPU threads of a trial.
        n_slots: Trials at once; where they are packed, in the beginning.
        most_slots: Trials at once, however little memory they need.
        gpus: The GPUs of the first slots, by slot; the next ones have them again. Empty is the CPU.
        memory_bytes: Of the smallest GPU.
        packs: Whether trials share a GPU by the memory that they turn out to need.
        assigns: Whether a worker sees only the GPUs of its slot.
        order: How CUDA is to count GPUs; None leaves it alone.
    """

    threads: int
    n_slots: int
    most_slots: int
    gpus: tuple[tuple[str, ...], ...] = ()
    memory_bytes: int = 0
    packs: bool = False
    assigns: bool = True
    order: str | None = None

    def slot(self, number: int) -> Slot:
        """A slot by its number."""
        gpus = self.gpus[number % len(self.gpus)] if self.gpus else ()
        environment = {"OMP_NUM_THREADS": str(self.threads)}
        if gpus and self.assigns:
            environment["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)
            if self.order is not None:
                environment["CUDA_DEVICE_ORDER"] = self.order
        return Slot(number, gpus, environment)

    def packed(self, n_slots: int, peak_bytes: int) -> int:
        """How many slots there should be, by what trials needed so far.

        Args:
            n_slots: How many there are.
            peak_bytes: The most memory that a trial took on a GPU.

        Returns:
            As many as there are and one more a GPU, or fewer where those do not fit with a margin.
        """
        if not self.packs or not self.memory_bytes or not peak_bytes:
            return n_slots
        fitting = max(1, math.floor(self.memory_bytes / (peak_bytes * MEMORY_MARGIN)))
        share = min(math.ceil(n_slots / len(self.gpus)) + 1, fitting)
        return min(share * len(self.gpus), self.most_slots)

    def relieved(self, n_slots: int) -> Layout:
        """The layout after a trial found a GPU's memory full with so many slots: never again."""
        if not self.packs:
            return self
        share = max(1, math.ceil(n_slots / len(self.gpus)) - 1)
        return replace(self, most_slots=min(share * len(self.gpus), self.most_slots))

    def __str__(self) -> str:
        threads = f"{counted(self.threads, 'thread')} each"
        workers = f"{counted(self.n_slots, 'worker')}, {threads}"
        if not self.gpus:
            return workers
        of_slot = [",".join(self.slot(number).gpus) for number in range(self.n_slots)]
        more = ", more as memory allows" if self.packs else ""
        return f"{workers}, on GPU {' '.join(of_slot)}{more}"


def layout(plan: Plan, n_jobs: int | None = None) -> Layout:
    """How this machine is divided among the trials of a study.

    Args:
        plan: The study.
        n_jobs: How many there will be, where that is not the number of its trials.

    Raises:
        ObjectiveError: it has not the GPUs that the study file asks for.
    """
    run, allowed = plan.spec.run, os.environ.get("CUDA_VISIBLE_DEVICES")
    on_cpu = run.device in ("cpu", "mps") or plan.spec.objective.estimator is not None
    gpus = [] if on_cpu else visible(_installed_gpus(), allowed)
    order = "PCI_BUS_ID" if allowed is None else None  # how nvidia-smi counts
    return divide(run, n_cores(), gpus, order=order, trials=n_jobs or plan.trials)


def divide(
    run: RunSpec,
    cores: int,
    gpus: Sequence[Gpu],
    *,
    order: str | None = None,
    trials: int | None = None,
) -> Layout:
    """Divides cores and GPUs as a study file says.

    Args:
        run: What it says.
        cores: How many there are.
        gpus: Those that may be used.
        order: How CUDA is to count GPUs.
        trials: Of the whole study; more slots than that are of no use.

    Raises:
        ObjectiveError: there are too few GPUs.
    """
    kind, _, index = run.device.partition(":")
    if index:  # one GPU by its number, which it keeps only among all of them
        gpus = gpus[int(index) : int(index) + 1] if kind == "cuda" and index.isdecimal() else []
    _demand(run, len(gpus))
    by_cores = max(1, cores // run.threads)
    if not gpus:
        alone = 1 if kind in ("cuda", "mps") else by_cores  # a GPU that nvidia-smi does not know
        n_slots = alone if run.workers == "auto" else run.workers
        n_slots = min(n_slots, trials or n_slots)
        return Layout(run.threads, n_slots, n_slots)
    each = max(1, int(run.gpus_per_trial or 1))
    sets = tuple(
        tuple(gpu.id for gpu in gpus[first : first + each])
        for first in range(0, len(gpus) - each + 1, each)
    )
    n_slots = _share(run, len(sets)) * len(sets)
    packs = run.trials_per_gpu == "auto"
    most = max(n_slots, by_cores) if packs else n_slots
    limits = [n for n in (most, run.workers, trials) if isinstance(n, int)]
    return Layout(
        run.threads,
        min(n_slots, *limits),
        min(limits),
        sets,
        min(gpu.memory_bytes for gpu in gpus),
        packs=packs,
        assigns=not index,
        order=order,
    )


def visible(gpus: Sequence[Gpu], allowed: str | None) -> list[Gpu]:
    """The machine's GPUs that CUDA_VISIBLE_DEVICES allows, under the names it has for them.

    Args:
        gpus: All of the machine, by index.
        allowed: The variable; None allows all.
    """
    if allowed is None:
        return list(gpus)
    found = []
    for name in (name.strip() for name in allowed.split(",")):
        named = [g for g in gpus if name == g.id or (name and g.uuid.startswith(name))]
        if not named and not name.startswith("MIG-"):
            break  # as CUDA does: nothing behind an unknown name counts
        found.append(Gpu(name, named[0].memory_bytes if named else 0))
    return found


def n_cores() -> int:
    """The cores that this process may use, of a container those that it was given."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(1, math.ceil(min(cores, _cgroup_cores())))


def _cgroup_cores() -> float:
    try:  # the second version, then the first
        quota, period = (_CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (_CGROUP / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (_CGROUP / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return math.inf
    return int(quota) / int(period) if quota.isdecimal() else math.inf


def _share(run: RunSpec, n_sets: int) -> int:
    """How many trials share a GPU, or have a set of them in turns."""
    if run.gpus_per_trial is not None:
        return math.floor(1 / run.gpus_per_trial + 1e-9) if run.gpus_per_trial < 1 else 1
    if isinstance(run.trials_per_gpu, int):
        return run.trials_per_gpu
    if run.trials_per_gpu is None and isinstance(run.workers, int):
        return math.ceil(run.workers / n_sets)
    return 1


def _demand(run: RunSpec, n_gpus: int) -> None:
    wanted, key, value = 0, "gpus_per_trial", ""
    if run.gpus_per_trial is not None:
        wanted, value = math.ceil(run.gpus_per_trial), f"{run.gpus_per_trial:g}"
    elif run.trials_per_gpu is not None:
        wanted, key, value = 1, "trials_per_gpu", str(run.trials_per_gpu)
    if n_gpus >= wanted:
        return
    there = f"are {n_gpus} GPUs" if n_gpus > 1 else f"is {'one' if n_gpus else 'no'} GPU"
    raise ObjectiveError(
        f"run.{key} is {value}, and there {there} here (by nvidia-smi, $CUDA_VISIBLE_DEVICES "
        f"and run.device: {run.device}).",
        f"Add: --set run.{key}={n_gpus}" if n_gpus else f"Drop run.{key} to train on the CPU.",
    )


def _installed_gpus() -> list[Gpu]:
    """All NVIDIA GPUs of this machine, by index; asked without importing torch."""
    try:
        done = subprocess.run(  # noqa: S603 - a fixed command
            _QUERY, capture_output=True, text=True, timeout=_QUERY_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return []
    gpus = []
    for line in done.stdout.splitlines():
        match [part.strip() for part in line.split(",")]:
            case [index, uuid, mebibytes]:
                memory = int(mebibytes) * 2**20 if mebibytes.isdecimal() else 0  # or "[N/A]"
                gpus.append(Gpu(index, memory, uuid))
    return gpus
