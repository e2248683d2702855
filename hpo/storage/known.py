"""What a process knows of a study: states of all trials, and in full those that it was asked for.

Finished trials never change, so what was read of them stays.
"""

from __future__ import annotations

import time
from bisect import insort
from collections import Counter
from collections.abc import Container, Iterable, Sequence
from contextlib import suppress
from functools import partial
from operator import attrgetter

import sqlalchemy as sa
from optuna.trial import FrozenTrial, TrialState

from hpo.storage import rows, schema
from hpo.storage.database import Database, DatabaseAwayError

_NUMBER = attrgetter("number")
_STALE_SECONDS = 0.25  # a trial that runs elsewhere is read again after so long
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

    However many have ended, asking what is new costs the same; and that is all it costs as long
    as nobody wants to see what other processes tried.

    Args:
        study_id: The study.

    Attributes:
        last_id: The newest trial that was seen.
        finished_ids: Of those that have ended, in the order in which that became known here.
    """

    def __init__(self, study_id: int) -> None:
        self.study_id = study_id
        self.last_id = -1
        self.finished_ids: list[int] = []
        self._elsewhere: dict[int, TrialState] = {}  # by id: those that others work on
        self._unread: dict[int, TrialState] = {}  # and those that ended there
        self._finished: dict[int, FrozenTrial] = {}  # that were read
        self._in_order: list[FrozenTrial] = []  # the same, by number
        self._counts: Counter[TrialState] = Counter()  # of all that have ended
        self._ahead: set[int] = set()  # failures that are newer than the newest that was seen
        self._running: dict[int, tuple[FrozenTrial, float]] = {}  # as others had it, and when
        self._twins: dict[int, int] = {}  # by id: the trial that ran when this one was to run
        self._refreshed_at = -1.0

    def get(self, row_id: int) -> FrozenTrial | None:
        """A finished trial, which needs no reading."""
        return self._finished.get(row_id)

    def find(self, row_id: int) -> FrozenTrial | None:
        """A trial as it was read last."""
        running, _ = self._running.get(row_id, (None, 0.0))
        return self._finished.get(row_id) or running

    def put(self, trial: FrozenTrial) -> None:
        """Takes a trial as somebody has read or written it now."""
        row_id = trial._trial_id
        self.note(row_id, trial.state)
        if trial.state not in _FINISHED:
            self._running[row_id] = trial, time.monotonic()
        elif row_id not in self._finished:
            del self._unread[row_id]
            self._finished[row_id] = trial
            insort(self._in_order, trial, key=_NUMBER)

    def note(self, row_id: int, state: TrialState) -> None:
        """Takes the state of a trial that this process does not write."""
        if state not in _FINISHED:
            self._elsewhere[row_id] = state
            if row_id in self._running and self._running[row_id][0].state is not state:
                del self._running[row_id]
        elif row_id not in self._finished and row_id not in self._unread:
            self.forget(row_id)
            self._unread[row_id] = state
            self._counts[state] += 1
            if state is TrialState.FAIL and row_id > self.last_id:  # this process's own
                self._ahead.add(row_id)
            self.finished_ids.append(row_id)

    def forget(self, row_id: int) -> None:
        """Forgets an unfinished trial, since this process writes it now."""
        self._elsewhere.pop(row_id, None)
        self._running.pop(row_id, None)

    def refresh(
        self, database: Database, mine: Container[int], *, within_seconds: float = 0.0
    ) -> None:
        """Reads the states of trials that are new or were unfinished.

        While the database is away, what was read before has to do.

        Args:
            database: Where they are.
            mine: Trials that this process writes, and so knows best.
            within_seconds: What was read no longer ago will do.
        """
        knows_nothing = self.last_id < 0  # so it has to wait until there is something to know
        if not knows_nothing and time.monotonic() - self._refreshed_at < within_seconds:
            return
        asked = {
            "study_id": self.study_id,
            "last_id": self.last_id,
            "unfinished": [rows.NO_TRIAL, *self._elsewhere],
        }
        try:
            found = database.read(
                lambda connection: connection.execute(_CHANGED, asked).all(), patient=knows_nothing
            )
        except DatabaseAwayError:
            return
        self._refreshed_at = time.monotonic()
        self.last_id = max((row_id for row_id, _ in found), default=self.last_id)
        self._ahead = {row_id for row_id in self._ahead if row_id > self.last_id}
        for gone in self._elsewhere.keys() - {row_id for row_id, _ in found}:
            self.forget(gone)
        for row_id, state in found:
            if row_id not in mine:
                self.note(row_id, state)

    def read(self, database: Database, states: Container[TrialState] | None) -> None:
        """Reads in full what was not read yet, of trials in some states.

        While the database is away, what was read before has to do.
        """
        known = [*self._unread.items(), *self._elsewhere.items()]
        wanted = [
            row_id
            for row_id, state in known
            if (states is None or state in states) and self._is_stale(row_id)
        ]
        with suppress(DatabaseAwayError):
            self.read_these(database, wanted)

    def read_these(self, database: Database, row_ids: Sequence[int]) -> None:
        """Reads some trials in full.

        Raises:
            DatabaseAwayError: it cannot be reached now, though it could before.
        """
        if not row_ids:
            return
        knows_nothing = not self._finished
        for trial in database.read(partial(rows.read, ids=row_ids), patient=knows_nothing):
            self.put(trial)

    def _is_stale(self, row_id: int) -> bool:
        if row_id not in self._running:
            return True
        trial, read_at = self._running[row_id]
        is_old = time.monotonic() - read_at > _STALE_SECONDS
        return trial.state is TrialState.RUNNING and is_old

    def trials(
        self, mine: Iterable[FrozenTrial], states: Container[TrialState] | None
    ) -> list[FrozenTrial]:
        """All trials in some states that were read, by number, with those of this process."""
        unfinished = [*(trial for trial, _ in self._running.values()), *mine]
        unfinished.sort(key=_NUMBER)
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

    def wait(self, row_id: int, twin: int) -> None:
        """Lets a trial wait while another runs, which is the same."""
        self._twins[row_id] = twin

    def has_to_wait(self, row_id: int, mine: Container[int]) -> bool:
        """Whether a trial waits for another, which runs here or elsewhere."""
        twin = self._twins.get(row_id)
        return twin is not None and (
            twin in mine or self._elsewhere.get(twin) is TrialState.RUNNING
        )

    def n_ready(self, mine: Container[int]) -> int:
        """How many trials wait for nothing but somebody to run them."""
        waiting = [i for i, state in self._elsewhere.items() if state is TrialState.WAITING]
        return sum(not self.has_to_wait(row_id, mine) for row_id in waiting)

    @property
    def n_failed(self) -> int:
        """How many trials have failed, without any that is `recent`."""
        return self._counts[TrialState.FAIL] - len(self._ahead)

    def recent(self, mine: Iterable[int]) -> rows.Recent:
        """What may have changed since the last look, with trials of this process by id."""
        return rows.Recent(self.last_id, (*self._elsewhere, *mine))

    def counts(self, mine: Iterable[FrozenTrial]) -> Counter[TrialState]:
        """How many trials are in each state."""
        return self._counts + Counter([*self._elsewhere.values(), *(t.state for t in mine)])
