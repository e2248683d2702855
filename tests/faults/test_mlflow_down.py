"""MLflow is away, or dies in the middle: the study completes with one warning; sync brings all."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.acceptance.harness import Running
from tests.faults.harness import N_TRIALS, NAME, Site, ended, query, study, until

HELD = 20


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@contextmanager
def mlflow(folder: Path, port: int) -> Iterator[subprocess.Popen[bytes]]:
    """An MLflow server, which is killed in the end."""
    store = f"sqlite:///{folder}/mlflow.db"
    command = [sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)]
    command += ["--backend-store-uri", store, "--artifacts-destination", str(folder / "artifacts")]
    with (folder / "mlflow.log").open("ab") as log:
        server = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, start_new_session=True
        )
    try:
        until(lambda: is_healthy(port) or server.poll() is not None, "MLflow")
        assert server.poll() is None, (folder / "mlflow.log").read_text()
        yield server
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def warnings(driver: Running) -> list[str]:
    return [line for line in ended(driver).err.splitlines() if line.startswith("warning:")]


def test_a_study_completes_without_mlflow(sqlite_site: Site) -> None:
    site = sqlite_site
    uri = f"http://127.0.0.1:{free_port()}"
    driver = site.start("run", site.write(study(), HELD), "--tracking", uri)
    driver.wait_for("warning:")
    site.release()

    (warning,) = warnings(driver)

    assert f"hpo sync {NAME}" in warning
    site.audit()


def test_a_server_that_dies_in_the_middle_gets_all_by_sync(
    sqlite_site: Site, tmp_path: Path
) -> None:
    site, port = sqlite_site, free_port()
    uri = f"http://127.0.0.1:{port}"
    with mlflow(tmp_path, port):
        driver = site.start("run", site.write(study(), HELD), "--tracking", uri)
        site.at_step(HELD)
        until(lambda: mirrored(tmp_path), "runs in MLflow")
    driver.wait_for("warning:")
    site.release()
    (warning,) = warnings(driver)
    assert f"hpo sync {NAME}" in warning
    site.audit()

    with mlflow(tmp_path, port):
        done = site.hpo("sync", NAME)

    assert f"MLflow has {N_TRIALS} finished trials" in done.out
    runs = mirrored(tmp_path)
    assert sorted(int(row.value) for row in runs) == list(range(N_TRIALS))
    assert {row.status for row in runs} == {"FINISHED"}


def mirrored(folder: Path) -> list[Any]:
    """The runs of trials in MLflow's own tables."""
    return query(
        f"sqlite:///{folder}/mlflow.db",
        "SELECT tags.value, runs.status FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid "
        "WHERE tags.key = 'hpo.trial' AND runs.lifecycle_stage = 'active'",
    )
