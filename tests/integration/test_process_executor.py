"""Trials in worker processes: real processes, real kills."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from hpo.errors import ObjectiveError
from hpo.executors import ProcessExecutor
from hpo.executors.slots import n_cores
from hpo.trial import Drained, Ended, FailureKind, Job, Lost, Reported
from tests.cgroups import GROWS, memory_group
from tests.executors import (
    failure_of,
    is_running,
    job_of,
    patiently,
    plan_of,
    start,
    to_the_end,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")

CODE = r"""
import ctypes, os, signal, subprocess, sys, time
from pathlib import Path

with (Path(__file__).parent / "imported.txt").open("a") as file:
    file.write(f"{os.getpid()}\n")

def train(trial):
    what, folder = trial.get("what", "ends"), trial.directory
    (folder / "pid").write_text(str(os.getpid()))
    yield {"loss": 1.0}
    if what == "segfault":
        print("so far so good")
        ctypes.string_at(0)
    if what == "exits":
        print("last words", file=sys.stderr)
        os._exit(3)
    if what == "memory":
        yield {"loss": float(len(bytearray(2**62)))}
    if what == "interrupts":
        raise KeyboardInterrupt
    if what == "prints":
        print("a line")
        os.system("echo a line of a child")
        print("an error", file=sys.stderr)
    if what == "cores":
        yield {"cores": float(len(os.sched_getaffinity(0)))}
    if what == "environment":
        cuda = os.environ.get("CUDA_VISIBLE_DEVICES", "-1")
        yield {"gpu": float(cuda), "threads": float(os.environ["OMP_NUM_THREADS"])}
    if "other" in trial:
        (folder / "here").touch()
        while not (folder.parent / trial.other / "here").exists():
            time.sleep(0.005)
    if what == "ignores SIGTERM":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        subprocess.Popen(["sh", "-c", "trap '' TERM; echo $$ > child; sleep 1000"], cwd=folder)
    if what in ("has a child", "has a daemon"):
        command = ["sh", "-c", "echo $$ > child; exec sleep 1000"]
        subprocess.Popen(command, cwd=folder, start_new_session=what == "has a daemon")
    if what == "leaves a child":
        subprocess.Popen(["sh", "-c", "echo $$ > child; exec sleep 1000"], cwd=folder)
        while not (folder / "child").exists():
            time.sleep(0.005)
        os._exit(3)
    if what == "forks":
        if os.fork() == 0:
            (folder / "child").write_text(str(os.getpid()))
            time.sleep(1000)
    if what == "holds the lock":
        ctypes.PyDLL(None).sleep(1000)
    if what in ("hangs", "ignores SIGTERM", "has a child", "has a daemon", "forks"):
        (folder / "hangs").touch()
        time.sleep(1000)
    while what == "goes on":
        yield {"loss": 1.5}
        time.sleep(0.01)
    yield {"loss": 2.0, "pid": os.getpid()}
"""

Build = Callable[..., ProcessExecutor]


@pytest.fixture
def build(tmp_path: Path) -> Iterator[Build]:
    built: list[ProcessExecutor] = []

    def executor(code: str = CODE, **run: Any) -> ProcessExecutor:
        plan = plan_of(tmp_path, {"function": "mine:train"}, {"workers": 1, **run}, code)
        built.append(ProcessExecutor(plan, "none"))
        return built[-1]

    yield executor
    for each in built:
        each.close()


def begin(executor: ProcessExecutor, job: Job) -> int:
    """Starts a job, waits for its first report, and says where it runs."""
    start(executor, job)
    patiently(lambda: any(event.trial == job.trial for event in executor.events(1.0)))
    return int((job.directory / "pid").read_text())


def number_in(path: Path) -> int:
    """A number that somebody is about to write."""
    patiently(lambda: path.exists() and path.read_text().endswith(("\n", *"0123456789")))
    return int(path.read_text())


def pids_of(folder: Path, n: int) -> list[int]:
    return [number_in(folder / f"trial-{trial}" / "pid") for trial in range(n)]


def threads_of(pid: int) -> list[str]:
    """Those of its threads that run; the last one to end closes its connections."""
    tasks = Path(f"/proc/{pid}/task").glob("*/stat")
    return [task.parent.name for task in tasks if is_running(int(task.parent.name))]


# --- a worker serves many trials ---


def test_startup_is_paid_once_a_worker(build: Build, tmp_path: Path) -> None:
    executor = build()
    for trial in range(4):
        start(executor, job_of(tmp_path, trial))
        end = to_the_end(executor, trial)[-1]
        assert isinstance(end, Ended)
    (pid,) = set(pids_of(tmp_path, 4))
    assert (tmp_path / "imported.txt").read_text().splitlines() == [str(pid)]
    assert executor.where(3) == {}  # it has ended


def test_trials_run_at_the_same_time(build: Build, tmp_path: Path) -> None:
    executor = build(workers=2)
    start(executor, job_of(tmp_path, 0, other="trial-1"))
    start(executor, job_of(tmp_path, 1, other="trial-0"))
    assert {executor.where(trial)["slot"] for trial in range(2)} == {0, 1}
    ends = [event for event in to_the_end(executor, 0, 1) if isinstance(event, Ended)]
    assert len(ends) == 2
    assert len(set(pids_of(tmp_path, 2))) == 2


def test_what_a_trial_prints_is_in_its_folder(
    build: Build, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    executor = build()
    for _ in range(2):
        job = job_of(tmp_path, 0, what="prints")
        start(executor, job)
        to_the_end(executor, 0)
    lines = "a line\na line of a child\nan error\n"
    assert (job.directory / "output.log").read_text() == lines
    assert (job.directory / "output-1.log").read_text() == lines  # of the attempt before
    start(executor, job_of(tmp_path, 1))
    to_the_end(executor, 1)
    assert not (tmp_path / "trial-1" / "output.log").exists()
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("what", ["memory", "interrupts"])
def test_a_worker_survives_what_its_trial_raises(build: Build, tmp_path: Path, what: str) -> None:
    executor = build()
    start(executor, job_of(tmp_path, 0, what=what))
    failure = failure_of(to_the_end(executor, 0)[-1])
    start(executor, job_of(tmp_path, 1))
    assert isinstance(to_the_end(executor, 1)[-1], Ended)
    assert failure.kind == ("OUT_OF_MEMORY" if what == "memory" else "CRASHED")
    assert len(set(pids_of(tmp_path, 2))) == 1


def test_a_worker_has_its_threads_and_its_gpu(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = tmp_path / "nvidia-smi"
    stub.write_text("#!/bin/sh\nprintf '0, GPU-a, 100\\n1, GPU-b, 100\\n'\n", encoding="utf-8")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    executor = build(workers="auto", gpus_per_trial=1, threads=3)
    events = start(executor, job_of(tmp_path, 0, what="environment", other="trial-1"))
    events += start(executor, job_of(tmp_path, 1, what="environment", other="trial-0"))
    gpus = {executor.where(trial)["gpus"] for trial in range(2)}
    events += to_the_end(executor, 0, 1)
    told = [event.report.metrics for event in events if isinstance(event, Reported)]
    assert {m["gpu"] for m in told if "gpu" in m} == {0.0, 1.0}
    assert {m["threads"] for m in told if "threads" in m} == {3.0}
    assert gpus == {"0", "1"}


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="Linux has it")
def test_a_worker_may_run_on_all_cores_that_its_driver_may(build: Build, tmp_path: Path) -> None:
    executor = build(workers=2)
    start(executor, job_of(tmp_path, what="cores"))
    told = [e.report.metrics for e in to_the_end(executor, 0) if isinstance(e, Reported)]
    assert {"cores": float(len(os.sched_getaffinity(0)))} in told


TORCH = """\
import os, sys, time
from types import SimpleNamespace

GIB = 2**30
# As much of torch as a worker asks for, since there may be no GPU here.
sys.modules["torch"] = SimpleNamespace(cuda=SimpleNamespace(
    is_initialized=lambda: True,
    device_count=lambda: 1,
    synchronize=lambda: None,
    empty_cache=lambda: None,
    max_memory_reserved=lambda device: 1 * GIB,
    reset_peak_memory_stats=lambda device: None,
))

class OutOfMemoryError(RuntimeError):
    pass

def train(trial):
    yield {"pid": os.getpid()}
    if trial.get("what") == "fills":
        raise OutOfMemoryError("CUDA out of memory")
    while not (trial.directory / "go").exists():
        time.sleep(0.005)
    yield {"loss": 1.0}
"""


@pytest.mark.skipif(n_cores() < 2, reason="a GPU is not shared by more trials than there are cores")
def test_a_gpu_is_shared_by_as_many_as_its_memory_holds(
    build: Build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub = tmp_path / "nvidia-smi"
    stub.write_text("#!/bin/sh\necho '0, GPU-a, 4096'\n", encoding="utf-8")
    stub.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    executor = build(TORCH, workers="auto", trials_per_gpu="auto")

    def run(trial: int, **config: Any) -> float:
        """Starts a trial; the process in which it runs."""
        executor.start(job_of(tmp_path, trial, **config))
        (event,) = executor.events(60.0)
        assert isinstance(event, Reported)
        return event.report.metrics["pid"]

    def release(trial: int) -> None:
        (tmp_path / f"trial-{trial}" / "go").touch()
        to_the_end(executor, trial)

    first = run(0)
    assert not executor._idle  # nothing is known of its memory yet
    release(0)
    patiently(lambda: executor.events(0.1) == [] and len(executor._idle) == 2)
    assert first == run(1)
    full = run(2, what="fills")
    assert full != first
    assert failure_of(to_the_end(executor, 2)[-1]).kind == FailureKind.OUT_OF_MEMORY
    assert executor.events(0.5) == []
    assert not executor._idle  # one at a time from now on
    release(1)
    assert first == run(3)
    release(3)
    assert executor.events(0.5) == []
    assert len(executor._idle) == 1
    patiently(lambda: not is_running(int(full)))


def test_the_driver_imports_no_torch(tmp_path: Path) -> None:
    script = tmp_path / "driver.py"
    script.write_text(
        "import sys\n"
        "from pathlib import Path\n"
        "from hpo import executors\n"
        "from tests.executors import job_of, plan_of, to_the_end\n"
        "objective = {'trainer': 'classifier', 'data': 'digits', 'metric': 'val_error'}\n"
        "plan = plan_of(Path(), objective, {'workers': 1, 'device': 'cpu'})\n"
        "executor = executors.build(plan, tracking='none')\n"
        "executor.start(job_of(Path(), learning_rate=0.1, epochs=1))\n"
        "print(type(to_the_end(executor, 0)[-1]).__name__, 'torch' in sys.modules)\n"
        "executor.close()\n",
        encoding="utf-8",
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("Ended False\n", "")


# --- a worker dies ---


def test_a_killed_worker_is_lost_and_replaced(build: Build, tmp_path: Path) -> None:
    executor = build()
    pid = begin(executor, job_of(tmp_path, 0, what="hangs"))
    os.kill(pid, signal.SIGKILL)
    (lost,) = to_the_end(executor, 0)
    assert isinstance(lost, Lost)
    assert lost.failure.kind == FailureKind.LOST
    assert lost.failure.message == "its process was killed by SIGKILL"
    assert begin(executor, job_of(tmp_path, 1)) != pid
    assert isinstance(to_the_end(executor, 1)[-1], Ended)


GREEDY = (
    GROWS
    + """
import time

def train(trial):
    (trial.directory / "pid").write_text(str(os.getpid()))
    yield {"loss": 1.0}
    if trial.what == "grows":
        grow()
    while trial.what == "hangs":
        time.sleep(0.01)
"""
)


@pytest.fixture
def groups() -> Iterator[ExitStack]:
    """For control groups, which go when their processes have: ask for it before the executor."""
    with ExitStack() as stack:
        yield stack


def test_a_worker_that_the_kernel_ends_for_want_of_memory_is_replaced(
    groups: ExitStack, build: Build, tmp_path: Path
) -> None:
    group = groups.enter_context(memory_group(128 * 2**20))
    executor = build(group.joins + GREEDY)
    start(executor, job_of(tmp_path, 0, what="grows"))
    *_, lost = to_the_end(executor, 0)
    start(executor, job_of(tmp_path, 1, what="ends"))
    *_, end = to_the_end(executor, 1)
    assert group.n_ended == 1
    assert isinstance(lost, Lost)
    assert lost.failure.kind == FailureKind.OUT_OF_MEMORY
    assert lost.failure.message == "its process was killed by SIGKILL: memory ran out"
    assert isinstance(end, Ended)


def test_a_worker_that_was_killed_while_memory_ran_out_elsewhere_is_lost(
    groups: ExitStack, build: Build, tmp_path: Path
) -> None:
    group, elsewhere = (groups.enter_context(memory_group(n * 2**20)) for n in (1024, 32))
    executor = build(group.joins + GREEDY)
    pid = begin(executor, job_of(tmp_path, what="hangs"))
    greedy = [sys.executable, "-c", f"{elsewhere.joins}\n{GROWS}\ngrow()"]
    ended = subprocess.run(greedy, check=False).returncode
    os.kill(pid, signal.SIGKILL)
    *_, lost = to_the_end(executor, 0)
    assert (ended, elsewhere.n_ended, group.n_ended) == (-signal.SIGKILL, 1, 0)
    assert isinstance(lost, Lost)
    assert lost.failure.kind == FailureKind.LOST


def test_a_cluster_that_terminates_a_worker_drains_its_trial(build: Build, tmp_path: Path) -> None:
    executor = build()
    pid = begin(executor, job_of(tmp_path, 0, what="goes on"))
    os.kill(pid, signal.SIGTERM)
    assert to_the_end(executor, 0)[-1] == Drained(0)
    assert begin(executor, job_of(tmp_path, 1)) != pid
    to_the_end(executor, 1)
    assert not is_running(pid)


@pytest.mark.parametrize(
    ("what", "message", "said"),
    [
        ("segfault", "its process was killed by SIGSEGV", "so far so good\nFatal Python error"),
        ("exits", "its process exited with 3", "last words"),
    ],
)
def test_a_crash_comes_with_its_last_words(
    build: Build, tmp_path: Path, what: str, message: str, said: str
) -> None:
    executor = build()
    start(executor, job_of(tmp_path, 0, what=what))
    report, lost = to_the_end(executor, 0)
    assert isinstance(report, Reported)  # what it said before is not lost
    assert isinstance(lost, Lost)
    assert lost.failure.kind == FailureKind.CRASHED
    assert lost.failure.message == message
    assert said in lost.failure.traceback
    if what == "segfault":
        assert lost.failure.place.startswith(f'File "{tmp_path}')
    start(executor, job_of(tmp_path, 1))
    assert isinstance(to_the_end(executor, 1)[-1], Ended)


def test_what_a_dead_worker_started_ends_with_it(build: Build, tmp_path: Path) -> None:
    executor = build()
    job = job_of(tmp_path, 0, what="leaves a child")
    start(executor, job)
    assert isinstance(to_the_end(executor, 0)[-1], Lost)
    child = number_in(job.directory / "child")
    patiently(lambda: not is_running(child))


def test_a_fork_that_outlives_its_worker_hides_nothing(build: Build, tmp_path: Path) -> None:
    executor = build()
    job = job_of(tmp_path, 0, what="forks")
    pid = begin(executor, job)
    child = number_in(job.directory / "child")
    os.kill(pid, signal.SIGKILL)
    assert isinstance(to_the_end(executor, 0)[-1], Lost)
    patiently(lambda: not is_running(child))


def test_a_dead_idle_worker_is_replaced_silently(build: Build, tmp_path: Path) -> None:
    executor = build()
    for trial in range(3):
        assert executor.free
        start(executor, job_of(tmp_path, trial))
        assert isinstance(to_the_end(executor, trial)[-1], Ended)
        pid = pids_of(tmp_path, trial + 1)[-1]
        os.kill(pid, signal.SIGKILL)
        patiently(lambda: not threads_of(pid))  # noqa: B023 - it is called at once
        if trial == 1:  # once the executor sees it, once the next job does
            patiently(lambda: executor.events(0.0) == [] and not executor.free)
            patiently(lambda: executor.events(1.0) == [] and executor.free)
    assert len(set(pids_of(tmp_path, 3))) == 3


# --- a worker hangs ---


@pytest.mark.parametrize(
    "what", ["hangs", "ignores SIGTERM", "has a child", "has a daemon", "holds the lock"]
)
def test_a_trial_that_takes_too_long_ends_with_its_tree(
    build: Build, tmp_path: Path, what: str
) -> None:
    executor = build(trial_timeout=2.0, grace_period=0.2, workers=2)
    job = job_of(tmp_path, 0, what=what)
    start(executor, job)
    end = to_the_end(executor, 0)[-1]
    assert isinstance(end, Ended)
    failure = failure_of(end)
    assert failure.kind == FailureKind.TIMED_OUT
    assert failure.message == (
        "it took longer than trial_timeout = 2s; its last report was of step 1"
    )
    pids = [number_in(job.directory / "pid")]
    if what in ("ignores SIGTERM", "has a child", "has a daemon"):
        pids.append(number_in(job.directory / "child"))
    start(executor, job_of(tmp_path, 1))  # in the other worker, or the one that replaces it
    assert isinstance(to_the_end(executor, 1)[-1], Ended)
    patiently(lambda: not any(map(is_running, pids)))


def test_where_it_hung_is_in_its_output(build: Build, tmp_path: Path) -> None:
    executor = build(trial_timeout=1.0)
    job = job_of(tmp_path, 0, what="hangs")
    start(executor, job)
    to_the_end(executor, 0)
    patiently(lambda: "mine.py" in (job.directory / "output.log").read_text())


def test_a_stopped_trial_that_goes_on_is_ended(build: Build, tmp_path: Path) -> None:
    executor = build(grace_period=0.2)
    job = job_of(tmp_path, 0, what="hangs")
    pid = begin(executor, job)
    patiently((job.directory / "hangs").exists)
    executor.stop(0)
    assert executor.where(0) == {}
    assert begin(executor, job_of(tmp_path, 1)) != pid
    assert not is_running(pid)


def test_closing_ends_everything(build: Build, tmp_path: Path) -> None:
    threads = threading.active_count()
    executor = build(workers=2)
    jobs = [job_of(tmp_path, 0, what="ignores SIGTERM"), job_of(tmp_path, 1, what="has a child")]
    pids = [begin(executor, job) for job in jobs]
    pids += [number_in(job.directory / "child") for job in jobs]
    executor.close()
    assert not any(map(is_running, pids))
    assert threading.active_count() == threads
    children = Path(f"/proc/self/task/{os.getpid()}/children")
    if children.exists():  # no zombies either
        ours = children.read_text().split()
        assert not set(map(str, pids)) & set(ours)


# --- the driver dies ---

DRIVER = """\
import sys, time
from pathlib import Path
from hpo import executors
from tests.executors import job_of, plan_of, start
folder, what = Path(sys.argv[1]), sys.argv[2]
objective = {"function": "mine:train"}
if what == "command":
    command = "echo $$ > $HPO_TRIAL_DIRECTORY/pid; echo '{{\\"loss\\": 1}}'; exec sleep 1000"
    objective = {"command": command, "shell": True}
plan = plan_of(folder, objective, {"workers": 2}, (folder / "mine.py").read_text())
executor = executors.build(plan, tracking="none")
seen = []
for trial in range(2):
    seen += start(executor, job_of(folder, trial, what=what))
while len(seen) < 2:  # a report of each
    seen += executor.events()
print([executor.where(trial)["pid"] for trial in range(2)], flush=True)
while True:
    executor.events()
"""


@pytest.mark.parametrize("what", ["has a child", "ignores SIGTERM", "holds the lock", "command"])
def test_with_a_killed_driver_everything_ends(tmp_path: Path, what: str) -> None:
    (tmp_path / "mine.py").write_text(CODE, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, tmp_path, what],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        text=True,
    ) as driver:
        assert driver.stdout is not None
        pids = [int(pid) for pid in driver.stdout.readline().strip("[]\n").split(",")]
        pids += pids_of(tmp_path, 2)
        if what in ("has a child", "ignores SIGTERM"):
            pids += [number_in(tmp_path / f"trial-{trial}" / "child") for trial in range(2)]
        assert all(map(is_running, pids))
        driver.kill()
    patiently(lambda: not any(map(is_running, pids)))


# --- a worker cannot start ---


def test_a_worker_that_dies_at_its_start_is_an_error(build: Build) -> None:
    with pytest.raises(ObjectiveError, match="exited with 3 while it was set up"):
        build("import os\nos._exit(3)\n")


def test_an_error_of_the_users_module_says_where(build: Build) -> None:
    with pytest.raises(ObjectiveError, match=r"cannot import 'mine'.*No module named 'nowhere'"):
        build("import nowhere\n")


def test_workers_that_can_be_replaced_no_more_are_an_error(build: Build, tmp_path: Path) -> None:
    executor = build()
    (tmp_path / "mine.py").write_text("import nowhere\n", encoding="utf-8")
    start(executor, job_of(tmp_path, 0, what="exits"))
    assert isinstance(to_the_end(executor, 0)[-1], Lost)
    with pytest.raises(ObjectiveError, match="No module named 'nowhere'"):
        patiently(lambda: executor.free or bool(executor.events(1.0)))


def test_a_lack_of_gpus_is_an_error(build: Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ObjectiveError, match="gpus_per_trial is 1, and there is no GPU here"):
        build(gpus_per_trial=1)
