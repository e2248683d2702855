"""How much data a configuration needs: it is trained on nested parts of growing size.

::

    asking.py     from what is typed to a question
    question.py   which configuration, which metric, which target; and what is answered
    planner.py    at which size the next fit tells most per second
    loop.py       the fits, by the project's executors
    fits.py       the file that loses none of them
    report.py     the answer as a table, a chart, JSON and a run in MLflow
"""

from hpo.sizing.asking import Subject, ask, sizes_of, subject_of
from hpo.sizing.loop import BUDGET_SECONDS, SEEDS, SizingListener, measure
from hpo.sizing.question import Answer, Question

__all__ = [
    "BUDGET_SECONDS",
    "SEEDS",
    "Answer",
    "Question",
    "SizingListener",
    "Subject",
    "ask",
    "measure",
    "sizes_of",
    "subject_of",
]
