"""What scikit-learn's estimators say of classes."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_LEAST_SHARE = np.finfo(np.float64).eps  # for the log of a share; scikit-learn's log_loss clips so


def logits(estimator: Any, x: Floats, n_classes: int) -> Floats:
    """How sure a classifier is of each class: (n, n_classes), up to a constant in each row.

    One that only answers is sure of its answers.

    Args:
        estimator: Fitted to classes by their numbers; it gets copies, which it may change.
        x: Features, (n, n_features).
        n_classes: How many classes there are; it may have been fitted to fewer.
    """
    if hasattr(estimator, "predict_proba"):
        shares = np.zeros((len(x), n_classes))
        shares[:, estimator.classes_] = estimator.predict_proba(x.copy())  # those it was fitted on
        return _log(shares)
    if hasattr(estimator, "decision_function"):
        scores = np.asarray(estimator.decision_function(x.copy()), dtype=float)
        if scores.ndim == 1:  # of two classes, how much more of the second
            return np.column_stack([np.zeros(len(x)), scores])
        if scores.shape == (len(x), n_classes):  # else, such as votes between pairs of classes
            return scores
    return _log(np.eye(n_classes)[np.asarray(estimator.predict(x.copy()))])


def _log(shares: Floats) -> Floats:
    return np.log(np.clip(shares, _LEAST_SHARE, None))
