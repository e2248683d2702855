"""Whether trials are trained on the data on which the study's first ones were."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

from hpo.catalog import StudyRecord

TRAINED_ON = "hpo:trained_on"
"""System attribute of a study: the digest of its data, and since when it has been known."""

_log = logging.getLogger(__name__)


class DataWatch:
    """Compares the data of this driver's trials with that of the study.

    The study's is what its first driver had, or, where trials are older than hpo's notes of data,
    the first driver that noted any.

    Args:
        record: The study.
    """

    def __init__(self, record: StudyRecord) -> None:
        self._record = record
        self._has_warned = False

    def see(self, digest: str) -> None:
        """Takes note of what a trial is trained on; warns once if the study's data is other."""
        noted = self._noted(digest)
        if noted["digest"] == digest or self._has_warned:
            return
        self._has_warned = True
        name, data = self._record.name, self._record.plan.spec.objective.data
        _log.warning(
            "study '%s' has been trained since %s on another '%s', or on another split of it "
            "(search.seed): trials from now on are ranked beside those, and their values do not "
            "compare; to begin anew: hpo run FILE --set name=%s-2",
            name,
            noted["since"],
            data,
            name,
        )

    def _noted(self, digest: str) -> dict[str, str]:
        """What the study is trained on: this, unless another driver has noted other data."""
        attrs, storage = self._record.attrs, self._record.storage
        if TRAINED_ON not in attrs:
            note = {"digest": digest, "since": f"{datetime.now(UTC):%Y-%m-%d %H:%M UTC}"}
            attrs[TRAINED_ON] = storage.set_study_system_attr_once(
                self._record.id, TRAINED_ON, note
            )
        noted: dict[str, str] = attrs[TRAINED_ON]
        return noted
