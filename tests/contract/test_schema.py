"""Tables: made once whoever comes, of this version, and brought up to it when they are older."""

from __future__ import annotations

import optuna
import pytest
import sqlalchemy as sa
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.study import StudyDirection

from hpo.errors import StorageError
from hpo.storage import open_storage, schema, upgrade
from hpo.storage.urls import engine_arguments, parse


def plain(database_url: str) -> RDBStorage:
    """Optuna's own storage on a database."""
    url = parse(database_url)
    return RDBStorage(url.render_as_string(hide_password=False), engine_arguments(url))


def make_older(database_url: str) -> None:
    """Makes of a database what Optuna 3.1 made, with a study in it: 3.2 has one index more."""
    storage = plain(database_url)
    study = optuna.create_study(storage=storage, study_name="old")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    storage.remove_session()
    with storage.engine.begin() as connection:
        connection.execute(sa.text("DROP INDEX ix_trials_study_id"))
        connection.execute(sa.text("UPDATE alembic_version SET version_num = 'v3.0.0.d'"))
    storage.engine.dispose()


def test_older_tables_are_refused_with_the_command_that_brings_them_up_to_date(
    database_url: str,
) -> None:
    make_older(database_url)

    with pytest.raises(StorageError) as error:
        open_storage(database_url)

    assert "older tables: Optuna v3.0.0.d" in error.value.message
    assert "hpo db upgrade --storage" in error.value.next_step
    assert upgrade(database_url)[0].startswith("Optuna v3.0.0.d")
    storage = open_storage(database_url)
    (study,) = storage.get_all_studies()
    assert [t.number for t in storage.get_all_trials(study._study_id)] == [0, 1, 2]
    storage.close()


def test_tables_that_are_up_to_date_are_left_alone(database_url: str) -> None:
    open_storage(database_url).close()
    before, after = upgrade(database_url)
    assert before == after


@pytest.mark.parametrize("table", ["alembic_version", "hpo_schema"])
def test_newer_tables_are_refused_and_not_touched(database_url: str, table: str) -> None:
    storage = open_storage(database_url)
    newer = {
        "alembic_version": "UPDATE alembic_version SET version_num = 'v99.0.0.a'",
        "hpo_schema": "UPDATE hpo_schema SET version = 99",
    }
    with storage.engine.begin() as connection:
        connection.execute(sa.text(newer[table]))
    storage.close()
    for refused in (open_storage, upgrade):
        with pytest.raises(StorageError) as error:
            refused(database_url)
        assert "newer tables" in error.value.message
        assert "pip install -U hpo" in error.value.next_step


def test_new_tables_are_those_that_optuna_makes(database_url: str) -> None:
    open_storage(database_url).close()
    ours = optunas_tables(database_url)
    engine = sa.create_engine(parse(database_url))
    models.BaseModel.metadata.drop_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("DROP TABLE alembic_version"))

    plain(database_url).engine.dispose()

    assert optunas_tables(database_url) == ours
    engine.dispose()


def optunas_tables(url: str) -> dict[str, object]:
    """All that a database says of Optuna's tables, and what versions they have."""
    engine = sa.create_engine(parse(url))
    inspector = sa.inspect(engine)
    found: dict[str, object] = {}
    for name in inspector.get_table_names():
        if name.startswith("hpo_"):
            continue
        columns = [
            {**column, "type": str(column["type"])} for column in inspector.get_columns(name)
        ]
        constraints = (
            inspector.get_pk_constraint(name),
            inspector.get_foreign_keys(name),
            inspector.get_check_constraints(name),
        )
        uniques = inspector.get_unique_constraints(name), inspector.get_indexes(name)
        found[name] = columns, constraints, [sorted(each, key=repr) for each in uniques]
    with engine.connect() as connection:
        for name in ("version_info", "alembic_version"):
            rows = connection.execute(sa.text(f"SELECT * FROM {name}"))  # noqa: S608
            found[f"rows of {name}"] = [tuple(row) for row in rows]
    engine.dispose()
    return found


def test_tables_that_were_left_without_a_version_are_completed(database_url: str) -> None:
    engine = sa.create_engine(parse(database_url))
    models.BaseModel.metadata.create_all(engine)  # and then their maker was killed
    engine.dispose()
    open_storage(database_url).close()
    assert plain(database_url).get_current_version() == schema._wanted()[0]


def test_a_database_that_plain_optuna_made_gets_the_tables_of_leases(database_url: str) -> None:
    optuna.create_study(storage=plain(database_url), study_name="theirs")
    storage = open_storage(database_url)
    assert [study.study_name for study in storage.get_all_studies()] == ["theirs"]
    study_id = storage.create_new_study([StudyDirection.MINIMIZE], "ours")
    assert storage.leases.drivers(study_id) == []
    storage.close()


def test_sqlite_on_a_network_file_system_is_refused(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None can be mounted here; how one is known has tests of its own (test_filesystems)."""
    monkeypatch.setattr(schema, "network_file_system", lambda _: "nfs4")
    if database_url.startswith("postgresql"):
        open_storage(database_url).close()
        return
    with pytest.raises(StorageError) as error:
        open_storage(database_url)
    assert "network file system (nfs4)" in error.value.message
    assert "postgresql://" in error.value.next_step
