"""A transaction that is written down before it begins.

While it runs, others wait: for the lock on a study's numbers, on SQLite for the whole file. So it
runs without a word from this process in between: PostgreSQL is sent all statements at once, SQLite
gets one after another ready-made. What must hold for it to be committed is a part of it: a
condition that fails writes NULL where there must be a value, and the database refuses all of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa


class RefusedError(Exception):
    """A condition did not hold, or what was to be written is gone; nothing was written."""


class Script:
    """Statements about one trial, with ``%s`` where values go.

    Args:
        row_id: The trial's; None if the first statement makes its row.
        is_postgresql: Which database they are for.

    Attributes:
        statements: Each with its values. The last one is a query, and must find a row.
        at: The trial's id, as an SQL expression.
    """

    def __init__(self, row_id: int | None, *, is_postgresql: bool) -> None:
        self.is_postgresql = is_postgresql
        self.statements: list[tuple[str, Sequence[Any]]] = []
        if row_id is not None:
            self.at = str(row_id)
        elif is_postgresql:
            # A subquery is worked out once; the function by itself would be, for every trial.
            self.at = "(SELECT currval(pg_get_serial_sequence('trials', 'trial_id')))"
        else:
            self.at = "(SELECT max(trial_id) FROM trials)"

    def add(self, sql: str, *values: Any) -> None:
        """Adds a statement."""
        self.statements.append((sql, values))

    @property
    def state(self) -> str:
        """The place of a trial's state in an expression."""
        return "CAST(%s AS trialstate)" if self.is_postgresql else "%s"

    def upsert(
        self, table: sa.Table, unique: Sequence[str], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Writes rows of the trial, over those with the same `unique` columns."""
        if not rows:
            return
        names = list(rows[0])
        row = f"({', '.join([self.at, *['%s'] * len(names)])})"
        changed = ", ".join(f'"{name}" = excluded."{name}"' for name in names if name not in unique)
        self.add(
            f"INSERT INTO {table.name} ({_listed('trial_id', *names)}) "
            f"VALUES {', '.join([row] * len(rows))} "
            f"ON CONFLICT ({_listed('trial_id', *unique)}) DO UPDATE SET {changed}",
            *(value for row_ in rows for value in row_.values()),
        )


def _listed(*names: str) -> str:
    return ", ".join(f'"{name}"' for name in names)
