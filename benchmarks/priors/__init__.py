"""What a prior is worth, and what a wrong one costs.

::

    python -m benchmarks.priors               ten minutes and more on two cores
    python -m benchmarks.priors --quick       under a minute
    python -m benchmarks.priors --thorough    gp and skopt go on to 50 trials: an hour

    problems.py   three functions and real networks, each with a known best configuration
    beliefs.py    what a user might believe about it: good, so-so, wrong
    searches.py   one search, and how far from the best it is after each trial
    __main__.py   runs them, pairs them by seed, prints the tables
"""
