"""What a process has read of a study: finished trials never change, so they stay."""

from __future__ import annotations

import time
from bisect import insort
from collections import Counter
from collections.abc import Container, Iterable
from operator import attrgetter

import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState

from hpo.storage import rows, schema
from hpo.storage.database import Database, DatabaseAwayError

_NUMBER = attrgetter("number")
_FRESH_SECONDS = 0.25  # a trial that runs elsewhere is read again after so long
_FINISHED = frozenset(state for state in TrialState if state.is_finished())

_trials = schema.trials.c
_CHANGED = sa.select(_trials.trial_id, _trials.state).where(
    _trials.study_id == sa.bindparam("study_id"),
    sa.or_(
        _trials.trial_id > sa.bindparam("last_id"),
        _trials.trial_id.in_(sa.bindparam("unfinished", expanding=True)),
    ),
)


class KnownStudy:
    """The trials of a study that other processes write, and those that have ended.

    However many have ended, asking what is new costs the same.

    Args:
        study_id: The study.

    Attributes:
        last_id: The newest trial that was seen.
    """

    def __init__(self, study_id: int) -> None:
        self.study_id = study_id
        self.last_id = -1
        self._finished: dict[int, FrozenTrial] = {}  # by id, as are
        self._elsewhere: dict[int, FrozenTrial] = {}  # those that others work on
        self._read_at: dict[int, float] = {}  # when those were read
        self._lost: set[int] = set()  # this process wrote them once, and has not read them since
        self._in_order: list[FrozenTrial] = []  # the finished ones, by number
        self._counts: Counter[TrialState] = Counter()  # of the finished ones

    def get(self, row_id: int) -> FrozenTrial | None:
        """A finished trial, which needs no reading."""
        return self._finished.get(row_id)

    def find(self, row_id: int) -> FrozenTrial | None:
        """A trial as it was read last."""
        return self._finished.get(row_id) or self._elsewhere.get(row_id)

    def put(self, trial: FrozenTrial) -> None:
        """Takes a trial as somebody has read or written it now."""
        row_id = trial._trial_id
        self.forget(row_id)
        self._lost.discard(row_id)
        if trial.state not in _FINISHED:
            self._elsewhere[row_id] = trial
            self._read_at[row_id] = time.monotonic()
        elif row_id not in self._finished:
            self._finished[row_id] = trial
            self._counts[trial.state] += 1
            insort(self._in_order, trial, key=_NUMBER)

    def forget(self, row_id: int) -> None:
        """Forgets an unfinished trial, since this process writes it now."""
        self._elsewhere.pop(row_id, None)
        self._read_at.pop(row_id, None)

    def lose(self, row_id: int) -> None:
        """Takes note that another process writes a trial that this one wrote."""
        self._lost.add(row_id)

    def refresh(self, database: Database, mine: Container[int]) -> None:
        """Reads trials that are new or were unfinished.

        While the database is away, what was read before has to do.

        Args:
            database: Where they are.
            mine: Trials that this process writes, and so knows best.
        """
        asked = {
            "study_id": self.study_id,
            "last_id": self.last_id,
            "unfinished": [*self._elsewhere, *self._lost],
        }
        knows_nothing = self.last_id < 0
        try:
            found = database.read(
                lambda connection: connection.execute(_CHANGED, asked).all(), patient=knows_nothing
            )
            stale = [row_id for row_id, state in found if self._is_stale(row_id, state, mine)]
            new = database.read(lambda connection: rows.read(connection, stale)) if stale else []
        except DatabaseAwayError:
            return
        self.last_id = max((row_id for row_id, _ in found), default=self.last_id)
        for gone in self._elsewhere.keys() - {row_id for row_id, _ in found}:
            self.forget(gone)
        for trial in new:
            self.put(trial)

    def _is_stale(self, row_id: int, state: TrialState, mine: Container[int]) -> bool:
        if row_id in mine or row_id in self._finished:
            return False
        known = self._elsewhere.get(row_id)
        if known is None or known.state is not state:
            return True
        age = time.monotonic() - self._read_at[row_id]
        return state is TrialState.RUNNING and age > _FRESH_SECONDS

    def trials(
        self, mine: Iterable[FrozenTrial], states: Container[TrialState] | None
    ) -> list[FrozenTrial]:
        """All trials in some states, by number, with those that this process writes."""
        unfinished = sorted([*self._elsewhere.values(), *mine], key=_NUMBER)
        if states is not None:
            unfinished = [trial for trial in unfinished if trial.state in states]
        wanted = _FINISHED if states is None else {s for s in _FINISHED if s in states}
        if wanted == _FINISHED:
            found = list(self._in_order)
        elif wanted:
            found = [trial for trial in self._in_order if trial.state in wanted]
        else:
            return unfinished
        for trial in unfinished:  # few, and most often the last ones
            insort(found, trial, key=_NUMBER)
        return found

    def counts(self, mine: Iterable[FrozenTrial]) -> Counter[TrialState]:
        """How many trials are in each state."""
        unfinished = [*self._elsewhere.values(), *mine]
        return self._counts + Counter(trial.state for trial in unfinished)

    @property
    def finished(self) -> list[FrozenTrial]:
        """Those that have ended, in the order in which that became known here."""
        return list(self._finished.values())
