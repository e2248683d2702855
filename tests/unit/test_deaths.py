"""Why a process died, by what it left."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from hpo.executors.deaths import last_words, oom_kills, why
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
            "its process was killed by SIGKILL: the machine ran out of memory",
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


def test_the_kernels_count_does_not_fall() -> None:
    assert 0 <= oom_kills() <= oom_kills()
