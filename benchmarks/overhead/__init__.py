"""What hpo adds to a trial, beside Optuna with a hand-written MLflow run per trial.

::

    python -m benchmarks.overhead            three minutes
    python -m benchmarks.overhead --quick    under a minute

    trial.py        the trial that does nothing: 8 parameters, 5 reports
    contestants.py  the four ways to run it; each runs in a process of its own
    readback.py     whether everything is in Optuna's tables and in MLflow
    __main__.py     takes turns, reads back, prints the table
"""
