"""Sixteen workers start at once on an empty database, twenty times: no failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.acceptance.harness import PATIENCE_SECONDS
from tests.faults import at_once
from tests.faults.harness import Site, ended, query, study

N_TIMES = 20
N_TRIALS = 32


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_sixteen_processes_enter_one_study_of_an_empty_database_twenty_times(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if kind == "sqlite":
        warm_up, *urls = (f"sqlite:///{tmp_path}/{i}.db" for i in range(1 + N_TIMES))
    else:
        warm_up, *urls = new_databases(request.getfixturevalue("postgresql_url"), 1 + N_TIMES)
    runs = tmp_path / "runs"
    runs.mkdir()

    command = [sys.executable, at_once.__file__, str(runs), warm_up, *urls]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, timeout=2 * PATIENCE_SECONDS
    )

    assert (done.returncode, done.stderr) == (0, "")
    for url in urls:
        assert len(query(url, "SELECT * FROM studies")) == 1
        assert len(query(url, "SELECT * FROM trials")) == 1
        entered = query(url, "SELECT ended FROM hpo_drivers")
        assert len(entered) == at_once.N_PROCESSES
        assert all(row.ended for row in entered)


def new_databases(url: str, n: int) -> list[str]:
    names = [f"{sa.make_url(url).database}_{i}" for i in range(n)]
    for name in names:
        query(url, f"CREATE DATABASE {name}")
    return [sa.make_url(url).set(database=n).render_as_string(hide_password=False) for n in names]


def test_sixteen_runs_of_one_file_share_its_study(site: Site) -> None:
    file = site.write(study(search={"trials": N_TRIALS}))

    drivers = [site.start("run", file) for _ in range(at_once.N_PROCESSES)]

    for driver in drivers:
        ended(driver)
    site.audit(n=N_TRIALS)
    assert [path.name for path in (site.folder.path / "hpo-runs").iterdir()] == ["s"]
