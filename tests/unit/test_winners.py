"""What is said where the best network cannot be had as ONNX."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import hpo
from hpo.errors import HpoError
from hpo.trainers import DataError, exports
from hpo.winners import Winner


@pytest.fixture(scope="module")
def winner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Winner]:
    """The best of a study of one trial."""
    file = {
        "name": "net",
        "objective": {"trainer": "classifier", "data": "iris", "metric": "val_loss", "epochs": 1},
        "space": {"model": "linear", "batch_size": 30, "learning_rate": [0.1, 0.2]},
        "search": {"trials": 1, "sampler": "random"},
        "tracking": "none",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("study"))
        study = hpo.run(file).study
        best = study.best()
        assert best is not None
        yield Winner(study, best, lambda _: None)


def test_a_package_that_onnx_lacks_is_named(
    winner: Winner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)  # as if it were not installed
    with pytest.raises(HpoError) as caught:
        winner.export(tmp_path, onnx=True)
    assert str(caught.value) == (
        "ONNX needs a package that is not installed: onnxruntime. "
        "Install it: pip install 'hpo[onnx]'"
    )
    assert not (tmp_path / exports.ONNX).exists()
    assert winner.export(tmp_path, onnx=False) is None


def test_onnx_that_differs_from_pytorch_is_told(
    winner: Winner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def differs(*_: object) -> float:
        raise DataError("the ONNX file's outputs differ")

    monkeypatch.setattr(exports, "export_onnx", differs)
    with pytest.raises(HpoError, match="the ONNX file's outputs differ"):
        winner.export(tmp_path, onnx=True)
