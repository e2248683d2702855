"""What a trial leaves on a GPU, with as much of torch as is asked: there may be none here."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hpo.errors import ObjectiveError
from hpo.executors.inline import InlineExecutor
from hpo.executors.tidying import CUDA_CONTEXT_BYTES, tidy
from hpo.trial import Ended
from tests.executors import job_of

GIB = 2**30


class Cuda:
    """Two GPUs, of which a trial has taken the more on the second."""

    def __init__(self) -> None:
        self.peaks = [1 * GIB, 3 * GIB]
        self.cached = 2 * GIB
        self.error: str | None = None

    def is_initialized(self) -> bool:
        return True

    def device_count(self) -> int:
        return len(self.peaks)

    def synchronize(self) -> None:
        if self.error is not None:
            raise RuntimeError(self.error)

    def empty_cache(self) -> None:
        self.cached = 0

    def max_memory_reserved(self, device: int) -> int:
        return self.peaks[device]

    def reset_peak_memory_stats(self, device: int) -> None:
        self.peaks[device] = 0


class Once:
    """Ends at once."""

    data_digest = None

    def __call__(self, job: Any) -> Any:
        del job
        yield from ()
        return {"loss": 1.0}

    def drain(self) -> None:
        """It has no steps."""

    def stop(self) -> None:
        """It has ended."""


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Cuda:
    cuda = Cuda()
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    return cuda


def test_what_pytorch_has_cached_is_freed_and_the_peak_told_once(cuda: Cuda) -> None:
    assert tidy(after_out_of_memory=False) == 3 * GIB + CUDA_CONTEXT_BYTES
    assert cuda.cached == 0
    assert tidy(after_out_of_memory=False) == CUDA_CONTEXT_BYTES


def test_an_inline_trial_frees_the_gpu_when_it_ends(cuda: Cuda, tmp_path: Path) -> None:
    executor = InlineExecutor(Once())
    executor.start(job_of(tmp_path))
    assert executor.events() == [Ended(0, {"loss": 1.0})]
    assert cuda.cached == 0


def test_no_trial_is_started_where_cuda_has_failed(cuda: Cuda, tmp_path: Path) -> None:
    cuda.error = "CUDA error: an illegal memory access was encountered\nCompile with ..."
    executor = InlineExecutor(Once())
    executor.start(job_of(tmp_path, 0))
    assert executor.events() == [Ended(0, {"loss": 1.0})]
    with pytest.raises(ObjectiveError) as caught:
        executor.start(job_of(tmp_path, 1))
    assert caught.value.message == (
        "CUDA can no longer be used in this process: CUDA error: an illegal memory access was "
        "encountered."
    )
    assert caught.value.next_step == "In another process: hpo resume STUDY"
