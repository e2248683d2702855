"""What a search space costs: counting its grid, reading it, sampling from it.

::

    python -m benchmarks.spaces            two minutes
    python -m benchmarks.spaces --quick    half a minute

    examples.py     grids of 10^12 points, whose number is known; a space with 200 parameters
    contestants.py  hpo, ConfigSpace and Optuna on that one
    __main__.py     takes turns, looks whether all did the same, prints the tables
"""
