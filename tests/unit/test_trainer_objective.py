"""The data of a trainer's study."""

from pathlib import Path

import pytest

from hpo.errors import ObjectiveError
from hpo.objectives.trainer import folds_of
from hpo.spec import load


def test_what_is_wrong_with_data_is_a_sentence_with_one_end(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(
        "objective: {trainer: classifier, data: breast_cancer, metric: val_f1, positive: begnin}\n"
        "space: {width: [1, 2]}\n"
    )
    with pytest.raises(ObjectiveError) as caught:
        folds_of(load(tmp_path / "study.yaml"))
    assert str(caught.value) == (
        "cannot load 'breast_cancer': positive: there is no class 'begnin'. Did you mean 'benign'?"
    )
