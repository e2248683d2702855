"""Fixtures of the acceptance tests."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.harness import Folder, Starter, start_afresh, zygote


@pytest.fixture(scope="session")
def starter(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Starter]:
    """Starts `hpo`: by a fork where that is safe, and in full with HPO_TEST_AFRESH=1."""
    if sys.platform != "linux" or os.environ.get("HPO_TEST_AFRESH"):
        yield start_afresh
        return
    with zygote(tmp_path_factory.mktemp("zygote")) as start:
        yield start


@pytest.fixture
def folder(tmp_path: Path, starter: Starter) -> Folder:
    """A new folder with the `hpo` command in it."""
    return Folder(tmp_path, starter)


@pytest.fixture
def afresh(tmp_path: Path) -> Folder:
    """A new folder in which each command is a new Python, as in a shell."""
    return Folder(tmp_path, start_afresh)
