"""Why a process died, by what it left."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from hpo.executors.deaths import OomKills, counter, last_words, why
from hpo.trial import FailureKind

DUMP = """\
epoch 3
Fatal Python error: Segmentation fault

Current thread 0x00007f0000000000 (most recent call first):
  File "/x/model.py", line 7 in forward
  File "/x/train.py", line 3 in train
  File "/x/worker.py", line 1 in main

Extension modules: numpy (total: 1)
"""


@pytest.mark.parametrize(
    ("code", "memory_ran_out", "kind", "message"),
    [
        (-signal.SIGKILL, False, FailureKind.LOST, "its process was killed by SIGKILL"),
        (
            -signal.SIGKILL,
            True,
            FailureKind.OUT_OF_MEMORY,
            "its process was killed by SIGKILL: memory ran out",
        ),
        (-signal.SIGTERM, True, FailureKind.LOST, "its process was killed by SIGTERM"),
        (-signal.SIGSEGV, True, FailureKind.CRASHED, "its process was killed by SIGSEGV"),
        (-signal.SIGABRT, False, FailureKind.CRASHED, "its process was killed by SIGABRT"),
        (3, False, FailureKind.CRASHED, "its process exited with 3"),
        (0, False, FailureKind.CRASHED, "its process exited with 0"),
        (None, False, FailureKind.LOST, "its process went away"),
    ],
)
def test_a_death_has_its_kind(
    tmp_path: Path, *, code: int | None, memory_ran_out: bool, kind: FailureKind, message: str
) -> None:
    failure = why(code, memory_ran_out=memory_ran_out, output=tmp_path / "output.log")
    assert (failure.kind, failure.message, failure.traceback) == (kind, message, "")


def test_the_last_words_are_the_last_lines(tmp_path: Path) -> None:
    output = tmp_path / "output.log"
    output.write_text("".join(f"line {n}\n" for n in range(1000)), encoding="utf-8")
    assert last_words(output).splitlines() == [f"line {n}" for n in range(980, 1000)]


def test_a_dump_becomes_a_traceback(tmp_path: Path) -> None:
    output = tmp_path / "output.log"
    output.write_text(DUMP, encoding="utf-8")
    failure = why(-signal.SIGSEGV, memory_ran_out=False, output=output)
    assert failure.traceback.startswith("epoch 3\nFatal Python error: Segmentation fault\n")
    assert failure.place == 'File "/x/model.py", line 7 in forward'


def test_nobody_is_ended_for_want_of_memory_while_nothing_happens() -> None:
    assert not OomKills(os.getpid()).any


def mounts(*, kind: str, root: str, at: Path) -> str:
    """What /proc/self/mountinfo says of a hierarchy of control groups."""
    options = "rw" if kind == "cgroup2" else "rw,memory"
    return (
        "22 1 254:0 / / rw,relatime - ext4 /dev/root rw\n"
        f"34 31 0:31 {root} {at.parent / 'cpu'} rw,relatime - cgroup cgroup rw,cpuset\n"
        f"35 31 0:32 {root} {at} rw,nosuid shared:9 - {kind} {kind} {options}\n"
    )


@pytest.mark.parametrize(
    ("groups", "root", "kind", "expected"),
    [
        ("4:memory:/jobs/7\n3:cpuset:/jobs\n0::/\n", "/", "cgroup", "jobs/7/memory.oom_control"),
        ("4:cpu,memory:/jobs/7\n", "/jobs", "cgroup", "7/memory.oom_control"),
        ("4:memory:/box/7\n", "/box/7", "cgroup", "memory.oom_control"),  # in a container
        ("0::/jobs/7\n", "/", "cgroup2", "jobs/7/memory.events"),
        ("0::/\n", "/", "cgroup2", "memory.events"),  # in a container with groups of its own
        ("0::/jobs/7/init\n", "/", "cgroup2", "jobs/7/memory.events"),  # of which none is counted
    ],
)
def test_the_kernel_counts_in_the_group_of_the_process(
    tmp_path: Path, groups: str, root: str, kind: str, expected: str
) -> None:
    at = tmp_path / "mounted"
    (at / expected).parent.mkdir(parents=True)
    (at / expected).touch()
    assert counter(groups, mounts(kind=kind, root=root, at=at)) == at / expected


@pytest.mark.parametrize("groups", ["", "3:cpuset:/jobs\n", "4:memory:/elsewhere\n0::/\n"])
def test_without_a_group_the_kernel_counts_for_the_machine(tmp_path: Path, groups: str) -> None:
    found = counter(groups, mounts(kind="cgroup", root="/jobs", at=tmp_path))
    assert found == Path("/proc/vmstat")
