"""What contract tests of a storage begin with."""

from __future__ import annotations

import pytest
from optuna.study import StudyDirection

from hpo.storage import open_storage


@pytest.fixture
def study_id(database_url: str) -> int:
    """An empty study."""
    storage = open_storage(database_url)
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], "s")
    storage.close()
    return study_id
