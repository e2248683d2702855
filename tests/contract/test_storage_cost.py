"""What a trial costs of the database, whatever its study holds and whoever else drives it."""

from __future__ import annotations

import re

import optuna
import pytest
import sqlalchemy as sa
from optuna.distributions import FloatDistribution, distribution_to_json
from optuna.study import StudyDirection
from optuna.trial import TrialState

import hpo.storage.known
import hpo.storage.storage
from hpo import samplers
from hpo.drivers import this_process
from hpo.spec import SamplerName
from hpo.storage import Storage, open_storage, schema

N_DRIVERS = 3
SPACE = {"x": {"float": [0.0, 1.0]}, "y": {"float": [0.0, 1.0]}}


def _fill(storage: Storage, study_id: int, n_trials: int) -> None:
    """Gives a study finished trials, quickly."""
    first = 100_000 * study_id
    text = distribution_to_json(FloatDistribution(0.0, 1.0))
    trials, params, values = [], [], []
    for i in range(n_trials):
        row = {"trial_id": first + i}
        trials.append({**row, "study_id": study_id, "number": i, "state": TrialState.COMPLETE})
        values.append({**row, "objective": 0, "value": float(i + 1), "value_type": "FINITE"})
        for name in SPACE:
            drawn = {"param_name": name, "param_value": i / n_trials, "distribution_json": text}
            params.append({**row, **drawn})
    with storage.engine.begin() as connection:
        connection.execute(sa.insert(schema.trials), trials)
        connection.execute(sa.insert(schema.params), params)
        connection.execute(sa.insert(schema.values), values)
        if storage.database.is_postgresql:
            last = sa.func.setval("trials_trial_id_seq", first + n_trials)
            connection.execute(sa.select(last))


class _Driver:
    """A process that drives a study; here all are one."""

    def __init__(self, database_url: str, name: str, sampler: SamplerName, seed: int) -> None:
        self.storage = open_storage(database_url)
        built = samplers.build(sampler, SPACE, seed=seed)
        self._study = optuna.load_study(study_name=name, storage=self.storage, sampler=built)
        study_id = self._study._study_id
        driver = self.storage.leases.enter(study_id, this_process(), lambda _: True)
        self.storage.drive(driver.id)
        self._seen = 0
        self.statements: list[str] = []
        database = self.storage.database
        engines = [database.engine, *([database.reader] if database.is_postgresql else [])]
        for engine in engines:
            sa.event.listen(engine, "before_cursor_execute", self._note)

    def run_trial(self) -> None:
        """A trial as the loop asks for it and tells it."""
        trial = self._study.ask()
        for name in SPACE:
            trial.suggest_float(name, 0.0, 1.0)
        assert self.storage.admit(trial._trial_id, key=str(trial.params), limit=None)
        for step in range(5):
            trial.report(1e6, step)
        self._study.tell(trial, 1e6)
        study_id = self._study._study_id
        self._seen, _ = self.storage.contenders(study_id, self._seen, best=0.0, maximize=False)

    def _note(self, _connection: object, _cursor: object, statement: str, *_: object) -> None:
        self.statements.append(re.sub(r"\d+", "N", statement))


@pytest.mark.parametrize("sampler", ["random", "sobol", "tpe"])
def test_a_trial_costs_as_many_statements_in_a_large_study_as_in_a_small_one(
    database_url: str, monkeypatch: pytest.MonkeyPatch, sampler: SamplerName
) -> None:
    for module, name in (  # what is read again by the clock, is not here
        (hpo.storage.storage, "_MOMENT_SECONDS"),
        (hpo.storage.storage, "WRITE_INTERVAL_SECONDS"),
        (hpo.storage.known, "_STALE_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 60.0)

    def cost(n_trials: int) -> list[list[str]]:
        """The statements of each driver's second trial; with the first it read what there was."""
        storage, study = open_storage(database_url), f"holds {n_trials}"
        study_id = storage.create_new_study([StudyDirection.MINIMIZE], study)
        _fill(storage, study_id, n_trials)
        drivers = [_Driver(database_url, study, sampler, seed) for seed in range(N_DRIVERS)]
        for driver in drivers:
            driver.run_trial()
            driver.statements.clear()
        for driver in drivers:
            driver.run_trial()
            driver.storage.database.dispose()
        storage.close()
        return [driver.statements for driver in drivers]

    small, large = cost(10), cost(2_000)
    assert large == small
    looks, writes = 2, 2 if database_url.startswith("postgresql") else 10
    reads = 7 if sampler == "tpe" else 0  # what the others tried, from as many tables
    assert {len(each) for each in large} == {looks + writes + reads}
