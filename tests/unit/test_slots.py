"""How a machine is divided among trials."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from hpo import spec, studyfile
from hpo.errors import ObjectiveError
from hpo.executors.slots import MEMORY_MARGIN, Gpu, divide, layout, n_cores, visible
from hpo.spec import RunSpec

GIB = 2**30
ONE = [Gpu("0", 80 * GIB)]
FOUR = [Gpu(str(index), 80 * GIB) for index in range(4)]


def run(**keys: Any) -> RunSpec:
    return RunSpec.model_validate({"executor": "processes", **keys})


def gpus_of(keys: dict[str, Any], gpus: list[Gpu], cores: int = 64) -> list[str]:
    divided = divide(run(**keys), cores, gpus)
    return [",".join(divided.slot(number).gpus) for number in range(divided.n_slots)]


@pytest.mark.parametrize(
    ("keys", "cores", "n_slots"),
    [
        ({}, 8, 8),
        ({"threads": 2}, 8, 4),
        ({"threads": 3}, 8, 2),
        ({"threads": 16}, 8, 1),
        ({"workers": 3}, 8, 3),
        ({"workers": 12}, 8, 12),
        ({"device": "mps"}, 8, 1),
        ({"device": "cuda"}, 8, 1),
        ({"device": "mps", "workers": 2}, 8, 2),
    ],
)
def test_without_gpus_there_is_a_slot_for_each_threads_cores(
    keys: dict[str, Any], cores: int, n_slots: int
) -> None:
    divided = divide(run(**keys), cores, [])
    assert divided.n_slots == divided.most_slots == n_slots
    assert divided.slot(0).environment == {"OMP_NUM_THREADS": str(keys.get("threads", 1))}
    assert divided.slot(0).gpus == ()


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, ["0", "1", "2", "3"]),
        ({"gpus_per_trial": 1}, ["0", "1", "2", "3"]),
        ({"gpus_per_trial": 2}, ["0,1", "2,3"]),
        ({"gpus_per_trial": 3}, ["0,1,2"]),
        ({"gpus_per_trial": 4}, ["0,1,2,3"]),
        ({"gpus_per_trial": 0.5}, ["0", "1", "2", "3", "0", "1", "2", "3"]),
        ({"gpus_per_trial": 0.25, "workers": 6}, ["0", "1", "2", "3", "0", "1"]),
        ({"gpus_per_trial": 1, "workers": 2}, ["0", "1"]),
        ({"gpus_per_trial": 1, "workers": 9}, ["0", "1", "2", "3"]),
        ({"trials_per_gpu": 2}, ["0", "1", "2", "3", "0", "1", "2", "3"]),
        ({"trials_per_gpu": "auto"}, ["0", "1", "2", "3"]),
        ({"workers": 6}, ["0", "1", "2", "3", "0", "1"]),
        ({"workers": 2}, ["0", "1"]),
        ({"device": "cuda:2"}, ["2"]),
        ({"device": "cuda:2", "trials_per_gpu": 2}, ["2", "2"]),
    ],
)
def test_gpus_are_shared_or_joined_as_the_file_says(
    keys: dict[str, Any], expected: list[str]
) -> None:
    assert gpus_of(keys, FOUR) == expected


@pytest.mark.parametrize(("share", "n_slots"), [(0.25, 4), (0.3, 3), (0.2, 5), (0.1, 10), (0.7, 1)])
def test_a_share_of_a_gpu_is_rounded_so_that_it_fits(share: float, n_slots: int) -> None:
    assert len(gpus_of({"gpus_per_trial": share}, ONE)) == n_slots


def test_a_worker_sees_the_gpus_of_its_slot_as_nvidia_smi_counts_them() -> None:
    pair = divide(run(gpus_per_trial=2), 8, FOUR, order="PCI_BUS_ID").slot(1)
    assert pair.environment == {
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "2,3",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    }


def test_a_device_by_its_number_keeps_it() -> None:
    slot = divide(run(device="cuda:1"), 8, FOUR, order="PCI_BUS_ID").slot(0)
    assert slot.gpus == ("1",)
    assert slot.environment == {"OMP_NUM_THREADS": "1"}


def test_there_are_no_more_slots_than_trials() -> None:
    assert divide(run(), 64, [], trials=5).n_slots == 5
    assert divide(run(trials_per_gpu=8), 64, FOUR, trials=5).n_slots == 5


@pytest.mark.parametrize(
    ("keys", "gpus", "message", "next_step"),
    [
        ({"gpus_per_trial": 1}, [], "gpus_per_trial is 1, and there is no GPU here", "Drop run.g"),
        ({"gpus_per_trial": 0.5}, [], "is 0.5, and there is no GPU", "Drop run.gpus_per_trial"),
        ({"gpus_per_trial": 2}, ONE, "is 2, and there is one GPU here", "run.gpus_per_trial=1"),
        ({"trials_per_gpu": "auto"}, [], "trials_per_gpu is auto, and there is no GPU", "Drop"),
        ({"trials_per_gpu": 2, "device": "cuda:7"}, FOUR, "run.device: cuda:7", "Drop"),
    ],
)
def test_gpus_that_are_not_there_are_an_error(
    keys: dict[str, Any], gpus: list[Gpu], message: str, next_step: str
) -> None:
    with pytest.raises(ObjectiveError) as caught:
        divide(run(**keys), 8, gpus)
    assert message in caught.value.message
    assert next_step in caught.value.next_step


# --- packing ---


def test_trials_are_packed_one_more_at_a_time_while_they_fit_with_a_margin() -> None:
    packing = divide(run(trials_per_gpu="auto"), 64, ONE)
    peak, n_slots, seen = 10 * GIB, packing.n_slots, []
    for _ in range(10):
        n_slots = packing.packed(n_slots, peak)
        seen.append(n_slots)
    assert seen == [2, 3, 4, 5, 6, 6, 6, 6, 6, 6]
    assert n_slots * peak * MEMORY_MARGIN <= ONE[0].memory_bytes
    assert (n_slots + 1) * peak * MEMORY_MARGIN > ONE[0].memory_bytes


def test_a_larger_peak_takes_slots_away_but_the_last() -> None:
    packing = divide(run(trials_per_gpu="auto"), 64, ONE)
    assert packing.packed(6, 20 * GIB) == 3
    assert packing.packed(6, 100 * GIB) == 1


def test_a_full_memory_takes_one_away_for_good() -> None:
    packing = divide(run(trials_per_gpu="auto"), 64, ONE).relieved(5)
    assert packing.most_slots == 4
    assert packing.packed(4, GIB) == 4
    assert packing.relieved(1).most_slots == 1


def test_each_gpu_gets_as_many() -> None:
    packing = divide(run(trials_per_gpu="auto"), 64, FOUR)
    assert packing.n_slots == 4
    assert packing.packed(4, GIB) == 8
    assert packing.relieved(8).most_slots == 4


@pytest.mark.parametrize(
    ("keys", "cores", "most"),
    [({}, 6, 6), ({"threads": 3}, 6, 2), ({"workers": 3}, 64, 3), ({}, 1, 1)],
)
def test_packing_ends_with_the_cores_or_the_workers(
    keys: dict[str, Any], cores: int, most: int
) -> None:
    packing = divide(run(trials_per_gpu="auto", **keys), cores, ONE)
    assert packing.most_slots == most
    assert packing.packed(most, 2**20) == most


@pytest.mark.parametrize(
    "keys", [{"trials_per_gpu": 2}, {"gpus_per_trial": 0.5}, {"workers": 2}, {}]
)
def test_what_is_not_to_be_packed_stays_as_it_is(keys: dict[str, Any]) -> None:
    divided = divide(run(**keys), 64, ONE)
    assert divided.packed(divided.n_slots, GIB) == divided.n_slots
    assert divided.relieved(divided.n_slots) == divided


def test_unknown_memory_packs_nothing() -> None:
    packing = divide(run(trials_per_gpu="auto"), 64, [Gpu("MIG-1", 0)])
    assert packing.packed(1, GIB) == 1


# --- what is there ---

THREE = [Gpu("0", 1, "GPU-aa11"), Gpu("1", 2, "GPU-bb22"), Gpu("2", 3, "GPU-cc33")]


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        (None, [("0", 1), ("1", 2), ("2", 3)]),
        ("", []),
        ("-1", []),
        ("2", [("2", 3)]),
        ("2,0", [("2", 3), ("0", 1)]),
        ("1, 2", [("1", 2), ("2", 3)]),
        ("0,9,1", [("0", 1)]),
        ("GPU-bb22", [("GPU-bb22", 2)]),
        ("GPU-b", [("GPU-b", 2)]),
        ("MIG-5", [("MIG-5", 0)]),
    ],
)
def test_an_existing_cuda_visible_devices_is_kept_to(
    allowed: str | None, expected: list[tuple[str, int]]
) -> None:
    assert [(gpu.id, gpu.memory_bytes) for gpu in visible(THREE, allowed)] == expected


def nvidia_smi(folder: Path, lines: str) -> None:
    stub = folder / "nvidia-smi"
    stub.write_text(f"#!/bin/sh\nprintf '%s\\n' '{lines}'\n", encoding="utf-8")
    stub.chmod(0o755)


def plan_of(folder: Path, **run: Any) -> spec.Plan:
    values = {
        "objective": {"function": "mine:train", "metric": "loss"},
        "space": {"x": {"float": [0, 1]}},
        "run": {"executor": "processes", **run},
    }
    return spec.check(studyfile.StudyFile("study.yaml", folder, values))


def test_the_gpus_are_those_of_nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nvidia_smi(tmp_path, "0, GPU-aa, 81559\n1, GPU-bb, 40960\n2, GPU-cc, [N/A]")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    divided = layout(plan_of(tmp_path))
    assert divided.gpus == (("0",), ("1",), ("2",))
    assert divided.memory_bytes == 0
    assert divided.slot(1).environment["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert str(divided) == "3 workers, 1 thread each, on GPU 0 1 2"

    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,0")
    divided = layout(plan_of(tmp_path, trials_per_gpu="auto"))
    assert divided.gpus == (("1",), ("0",))
    assert divided.memory_bytes == 40960 * 2**20
    assert "CUDA_DEVICE_ORDER" not in divided.slot(1).environment
    assert str(divided).endswith("2 workers, 1 thread each, on GPU 1 0, more as memory allows")

    assert layout(plan_of(tmp_path, device="cpu")).gpus == ()


def test_without_nvidia_smi_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    divided = layout(plan_of(tmp_path, threads=10_000))
    assert divided.gpus == ()
    assert str(divided) == "1 worker, 10,000 threads each"
    nvidia_smi(tmp_path, "NVIDIA-SMI has failed because it could not communicate with the driver.")
    assert layout(plan_of(tmp_path)).gpus == ()


def test_there_is_a_core() -> None:
    assert 1 <= n_cores() <= (os.cpu_count() or 1)
