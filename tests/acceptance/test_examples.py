"""Every example runs: a study file under examples/ is tested by being there."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.acceptance.harness import Folder

EXAMPLES = Path(__file__).parents[2] / "examples"
STUDIES = sorted(path.relative_to(EXAMPLES) for path in EXAMPLES.rglob("*.yaml"))


@pytest.mark.parametrize("file", STUDIES, ids=str)
def test_an_example_runs(folder: Folder, file: Path) -> None:
    shutil.copytree(EXAMPLES, folder.path, dirs_exist_ok=True)
    # As in a shell whose environment is this one, and with tracking where an example needs it.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    needs_mlflow = "metrics_from: mlflow" in (EXAMPLES / file).read_text(encoding="utf-8")
    tracking = "sqlite:///mlflow.db" if needs_mlflow else "none"

    done = folder.hpo(
        "run", str(file), "--set", "search.trials=2", PATH=path, MLFLOW_TRACKING_URI=tracking
    )

    # A gate may ask for more than two trials can reach.
    assert done.code in (0, 3), done.err
    (study,) = folder.hpo("studies", "--json").json
    trials = folder.trials(study["study"])
    assert len(trials) == 2
    assert any(trial["state"] == "COMPLETE" for trial in trials), done.err
    # A range may hold a rate at which training diverges; nothing else may go wrong.
    assert {trial["failure"] and trial["failure"]["kind"] for trial in trials} <= {None, "DIVERGED"}
