"""No room in the run directory: one clear error, and with room it goes on to the same end."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.harness import Study
from tests.faults.harness import NAME, Site, ended, study, until

DISK_BYTES = 1_000_000
BALLAST_BYTES = 45_000  # of a checkpoint; the disk has room for a part of the trials


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system with little room."""
    path = tmp_path / "disk"
    path.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "hpo-test", str(path)]
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("to mount a small file system takes root")
    try:
        yield path
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def heavy(directory: Path, ballast: int = BALLAST_BYTES) -> Study:
    space = {"x": {"float": [-1, 1]}, "y": {"float": [0, 1]}, "ballast": ballast}
    return study(space=space, run={"directory": str(directory)})


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["inline", "processes"])
def test_a_full_disk_ends_the_run_with_one_error_and_with_room_it_is_resumed(
    sqlite_site: Site, small_disk: Path, workers: tuple[str, ...]
) -> None:
    site = sqlite_site
    done = site.hpo("run", site.write(heavy(small_disk)), *workers, code=1)

    error, next_step = done.err.splitlines()[-2:]
    assert error.startswith("error: ")
    assert os.strerror(errno.ENOSPC) in error
    assert f"hpo resume {NAME}" in next_step
    states = {trial["state"] for trial in site.trials()}
    assert states == {"COMPLETE", "WAITING"}
    assert site.folder.hpo("show", NAME, "--json").json["state"] == "interrupted"

    again = site.hpo("resume", NAME, code=1)
    assert "Traceback" not in again.err
    remount = ["mount", "-o", f"remount,size={100 * DISK_BYTES}", str(small_disk)]
    subprocess.run(remount, check=True)
    site.hpo("resume", NAME)
    site.audit()


def test_a_full_disk_under_the_metrics_alone_ends_it_likewise(
    sqlite_site: Site, small_disk: Path
) -> None:
    site = sqlite_site
    driver = site.start("run", site.write(heavy(small_disk, 0), 20))
    site.at_step(20)
    ballast = small_disk / "ballast"
    with ballast.open("wb") as file:
        until(lambda: fill(file.fileno()), "a full disk")

    done = ended(driver, 1)

    assert os.strerror(errno.ENOSPC) in done.err
    ballast.unlink()
    site.release()
    site.hpo("resume", NAME)
    site.audit()


def fill(descriptor: int) -> bool:
    """Writes until there is no room; returns whether there is none."""
    try:
        while True:
            os.write(descriptor, b" " * 4096)
    except OSError:
        return True


def test_a_limit_on_the_size_of_files_ends_it_likewise(
    postgresql_site: Site, tmp_path: Path
) -> None:
    """Which needs no root. A database in a file would be under the limit, too."""
    site, limit = postgresql_site, 100_000
    driver = site.start("run", site.write(heavy(tmp_path / "runs", 2 * limit), 20))
    site.at_step(20)

    resource.prlimit(driver.process.pid, resource.RLIMIT_FSIZE, (limit, limit))
    done = ended(driver, 1)

    assert os.strerror(errno.EFBIG) in done.err
    site.release()
    site.hpo("resume", NAME)
    site.audit()
