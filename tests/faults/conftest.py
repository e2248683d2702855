"""Fixtures of the fault tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import starter
from tests.acceptance.harness import Folder, Starter
from tests.faults.harness import Site

__all__ = ["starter"]


@pytest.fixture
def site(tmp_path: Path, starter: Starter, database_url: str) -> Iterator[Site]:
    """A folder for a study, on each kind of database."""
    yield from _site(tmp_path, starter, database_url)


@pytest.fixture
def sqlite_site(tmp_path: Path, starter: Starter) -> Iterator[Site]:
    """A folder for a study, on SQLite."""
    yield from _site(tmp_path, starter, f"sqlite:///{tmp_path}/hpo.db")


@pytest.fixture
def postgresql_site(tmp_path: Path, starter: Starter, postgresql_url: str) -> Iterator[Site]:
    """A folder for a study, on PostgreSQL."""
    yield from _site(tmp_path, starter, postgresql_url)


def _site(path: Path, starter: Starter, url: str) -> Iterator[Site]:
    folder = path / "site"
    folder.mkdir()
    yield from Site(Folder(folder, starter), url).until_the_end()
