"""A scikit-learn pipeline, as one writes it without hpo."""

from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC


def make() -> Pipeline:
    """The pipeline; what is searched is set on it, `svc__C` by its `set_params`."""
    return make_pipeline(StandardScaler(), SVC())
