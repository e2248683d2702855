"""Many drivers at one study, and studies that hold many trials; hpo beside plain Optuna.

::

    python -m benchmarks.storage            a quarter of an hour
    python -m benchmarks.storage --quick    under a minute

    databases.py  a SQLite file, a PostgreSQL server
    drivers.py    what one driver does, of hpo and of Optuna
    crowd.py      how many trials a second several of them finish
    growth.py     what a trial costs in a study that holds so many already
    __main__.py   takes turns, prints the tables
"""
