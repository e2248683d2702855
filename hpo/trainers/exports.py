"""What was trained as files that others can use: weights, what they mean, and how to load them.

A scikit-learn estimator goes the same way, with itself in place of a network and its weights.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import os
import pickle
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from types import MappingProxyType
from typing import Any

import joblib
import numpy as np
import sklearn
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from hpo.trainers import metrics, models
from hpo.trainers.checkpoints import DATA, weights_of, write
from hpo.trainers.code_files import code_files
from hpo.trainers.config import TrainerConfig
from hpo.trainers.data.arrays import read_examples
from hpo.trainers.data.images import images_at, read_images
from hpo.trainers.data.parts import Data, Part
from hpo.trainers.data.source import ARRAYS, IMAGES, TABLES, Form, Source
from hpo.trainers.data.standardise import Channels, images
from hpo.trainers.data.tables import read_rows
from hpo.trainers.errors import CodeError, DataError
from hpo.trainers.estimators import logits
from hpo.trainers.fields import is_code
from hpo.trainers.fit_files import WEIGHTS
from hpo.trainers.goals import Goals

CONFIG, TRANSFORMER, ESTIMATOR, SCRIPT, ONNX = (
    "config.json",
    "transformer.joblib",
    "estimator.joblib",
    "predict.py",
    "model.onnx",
)

_ONNX_TOLERANCE = 1e-4
_ARRAYS = (".npy", *ARRAYS)
_AT_ONCE = 1024
_OF_MODULES = "Set PYTHONPATH to where it lies."

_SCRIPT = '''\
"""Answers with the exported model: python predict.py FILE."""

import torch

from hpo.trainers.exports import beside, main

exported = beside(__file__)  # .network, .transformer, .classes, .config, .metrics


def predict(examples):
    """The class or number of each example: of an array, or of the rows of a table."""
    with torch.inference_mode():
        outputs = exported.network(exported.features(examples))
    return exported.answers(outputs)


if __name__ == "__main__":
    main(predict, exported)  # prints an answer for each example in the file
'''


@dataclasses.dataclass(frozen=True)
class Exported:
    """An exported model, ready to answer.

    Args:
        network: On the CPU, in eval mode; from features (n, *shape) to outputs (n, n_outputs). Of
            an estimator, an `Estimator`.
        config: What it was trained with.
        shape: Of the features of one example.
        dtype: Of features: float32 or int64.
        classes: Their names by output; none in regression.
        target_mean: In regression, an answer is target_mean + target_deviation * output.
        target_deviation: See there.
        transformer: scikit-learn's, from raw examples to features; None where they are the same.
        costs: (n_classes, n_classes), the cost of each answer (columns) for each truth (rows);
            None where all mistakes cost the same.
        metrics: What it reached.
        form: Of the data it was trained on: table, images, arrays, built-in or code.
        target: The array of targets in such npz and pt files; None is `y`.
        image_size: The pixels that images get on each side; None leaves them.
        threshold: The confidence from which it answers; None where it answers always.
    """

    network: nn.Module
    config: dict[str, Any]
    shape: tuple[int, ...]
    dtype: torch.dtype
    classes: tuple[str, ...]
    target_mean: float
    target_deviation: float
    transformer: Any
    costs: list[list[float]] | None
    metrics: dict[str, float]
    form: Form
    target: str | None
    image_size: int | None
    threshold: float | None = None

    def read(self, path: Path) -> Iterator[Any]:
        """Raw examples for `features`, some at a time: of a file, or of a folder of images.

        Raises:
            DataError: they cannot be read, or are not of the kind that was trained on.
        """
        if not path.exists():
            raise DataError(f"there is no file {str(path)!r}.")
        of_images = path.is_dir() or path.suffix.lower() in IMAGES
        if self.form == "images" and of_images:
            yield from read_images(path, self.shape, self.image_size)
            return
        ends = TABLES if self.form == "table" else _ARRAYS
        if not path.name.lower().endswith(ends):
            of_form = ("a folder of images", *IMAGES) if self.form == "images" else ()
            raise DataError(
                f"{str(path)!r} is not what this model was trained on: "
                f"{', '.join((*of_form, *ends))}."
            )
        table = self.form == "table"
        found = read_rows(path, self.transformer) if table else read_examples(path, self.target)
        for first in range(0, len(found), _AT_ONCE):
            yield found[first : first + _AT_ONCE]

    def features(self, examples: Any) -> torch.Tensor:
        """What the network takes, (n, *shape), of raw examples: an array, or a table's rows.

        Raises:
            DataError: examples of an array are not of the shape or kind that was trained on.
        """
        if self.form != "table":
            self._check(np.asarray(examples))
        raw = examples if self.transformer is None else self.transformer.transform(examples)
        return torch.as_tensor(raw, dtype=self.dtype).reshape(-1, *self.shape)

    def _check(self, x: NDArray[Any]) -> None:
        # Where scikit-learn scales columns, an image is still a row of pixels.
        n_columns = getattr(self.transformer, "n_features_in_", None)
        trained = self.shape if n_columns is None else (n_columns,)
        as_image = isinstance(self.transformer, Channels) and x.ndim in (3, 4)
        if (images(x) if as_image else x).shape[1:] != trained:
            raise DataError(
                f"an example has the shape {x.shape[1:]}; the model was trained on {trained}."
            )
        if not self.dtype.is_floating_point and x.dtype.kind not in "iu":
            raise DataError(f"an example is of {x.dtype}; the model was trained on integers.")

    def answers(self, outputs: torch.Tensor) -> list[str | None] | list[float]:
        """The class of each output, or in regression the number in the target's unit.

        Where there are costs, it is the class that costs least by the probabilities; where there
        is a threshold, None where the likeliest is less likely.
        """
        if not self.classes:
            numbers: list[float] = (
                outputs.squeeze(1) * self.target_deviation + self.target_mean
            ).tolist()
            return numbers
        answered = [True] * len(outputs)
        if self.threshold is not None:
            answered = (metrics.confidence(outputs) >= self.threshold).tolist()
        if self.costs:
            outputs = -(outputs.double().softmax(dim=1) @ torch.tensor(self.costs).double())
        likeliest = outputs.argmax(dim=1).tolist()
        pairs = zip(likeliest, answered, strict=True)
        return [self.classes[i] if is_answered else None for i, is_answered in pairs]


class Estimator(nn.Module):
    """A fitted scikit-learn estimator in a network's place.

    Args:
        estimator: It takes rows of features, and answers with classes by number, or numbers.
        n_classes: How many there are; 0 in regression.
        mean: Of the targets it was fitted on; a network's outputs are without.
        deviation: Of the same.
        scores: Whether its outputs are to tell how sure it is of each class.
    """

    def __init__(
        self, estimator: Any, n_classes: int, mean: float, deviation: float, *, scores: bool = False
    ) -> None:
        super().__init__()
        self.estimator = estimator
        self._n_classes, self._mean, self._deviation = n_classes, mean, deviation
        self._scores = scores

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (n, *shape) to a 1 at the class it answers with, or to its number, (n, 1).

        With scores it is (n, n_classes), as `estimators.logits` has them.
        """
        rows = x.reshape(len(x), -1).double().numpy()
        if self._scores:
            return torch.from_numpy(logits(self.estimator, rows, self._n_classes))
        answers = torch.from_numpy(np.asarray(self.estimator.predict(rows)))
        if self._n_classes:
            return nn.functional.one_hot(answers.long(), self._n_classes).float()
        return (answers.double().reshape(-1, 1) - self._mean) / self._deviation


def export_estimator(
    to: Path,
    estimator: Any,
    config: Mapping[str, Any],
    data: Data,
    reached: dict[str, float],
    about: dict[str, Any],
    source: Source,
    made_by: str,
    threshold: float | None = None,
) -> None:
    """Writes a fitted estimator as `export` writes a network.

    Args:
        to: The folder; it is made.
        estimator: The estimator.
        config: What it was made with.
        data: What it was fitted on.
        reached: Its metrics.
        about: What else is to stand in the configuration's file.
        source: What `data` was made of.
        made_by: The class or function that made it, `package.module.name`. Code of the user's own
            comes along.
        threshold: How sure of a class the estimator must be to answer; None lets it answer always.

    Raises:
        DataError: as `check_free`; the estimator cannot be pickled.
        OSError: it cannot be written.
    """
    about = {**about, "config": dict(config), "scikit-learn": sklearn.__version__}
    code = code_files(made_by, source.folder)
    pickled = BytesIO()
    try:
        joblib.dump(estimator, pickled)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise DataError(
            f"the estimator cannot be pickled: {error}. Define what it is made of at the top level "
            "of a module."
        ) from error
    with _written(to, data, None, threshold, reached, about, source, code):
        write(to / ESTIMATOR, pickled.getvalue())


def export(
    to: Path,
    config: TrainerConfig,
    network: nn.Module,
    data: Data,
    goals: Goals,
    reached: dict[str, float],
    about: dict[str, Any],
    source: Source,
) -> None:
    """Writes weights, configuration, the transformer if there is one, and a script to a folder.

    Args:
        to: The folder; it is made.
        config: What the network was trained with.
        network: The network.
        data: What it was trained on.
        goals: What it was judged by; an export answers by their costs and as accurately as they
            require, too.
        reached: Its metrics.
        about: What else is to stand in the configuration's file.
        source: What `data` was made of. Its folder is where a model of the user's own was found,
            whose code comes along, wherever it lies.

    Raises:
        DataError: as `check_free`.
        OSError: it cannot be written.
    """
    code = code_files(config.model, source.folder) if is_code(config.model) else {}
    said = dataclasses.asdict(config)
    own = said.pop("own")
    about = {**about, "config": {**said, **own}, "torch": torch.__version__}
    threshold = _with_threshold(goals, network, data.to(torch.device("cpu"))).threshold
    with _written(to, data, goals.costs, threshold, reached, about, source, code):
        write(to / WEIGHTS, weights_of(network, data.digest))


@contextmanager
def _written(
    to: Path,
    data: Data,
    costs: Sequence[Sequence[float]] | None,
    threshold: float | None,
    reached: dict[str, float],
    about: dict[str, Any],
    source: Source,
    code: Mapping[str, Path],
) -> Iterator[None]:
    """Writes all of an export but the model itself, which is written within."""
    check_free(to, code)
    to.mkdir(parents=True, exist_ok=True)
    for name in (TRANSFORMER, ONNX, WEIGHTS, ESTIMATOR):  # of an earlier export, perhaps
        (to / name).unlink(missing_ok=True)
    yield
    text = {
        **about,
        "shape": list(data.shape),
        "dtype": str(data.dtype).removeprefix("torch."),
        "classes": list(data.classes),
        "target_mean": data.target_mean,
        "target_deviation": data.target_deviation,
        "costs": costs,
        "threshold": threshold,
        "metrics": reached,
        "data": {
            "form": source.form,
            "target": source.target,
            "image_size": source.image_size,
        },
    }
    (to / CONFIG).write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
    if data.transformer is not None:
        joblib.dump(data.transformer, to / TRANSFORMER)
    (to / SCRIPT).write_text(_SCRIPT, encoding="utf-8")
    for name, file in code.items():
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        if not _same(to / name, file):
            shutil.copy(file, to / name)


class OccupiedError(DataError):
    """A folder that an export would overwrite files in."""


def check_free(to: Path, code: Mapping[str, Path] = MappingProxyType({})) -> None:
    """Refuses a folder in which an export would overwrite what is not of an earlier one.

    Args:
        to: The folder, which need not exist.
        code: Files that are to be copied, by their path in the folder.

    Raises:
        OccupiedError: with the first such file.
        DataError: code is called as the script is.
    """
    if SCRIPT in code:
        raise DataError(
            f"your own {code[SCRIPT]} would take the place of the export's {SCRIPT}. Give the "
            "module another name; if `model` names it, run the study anew under another name."
        )
    if _is_export(to):
        return
    names = (CONFIG, WEIGHTS, ESTIMATOR, TRANSFORMER, SCRIPT, ONNX)
    others = (name for name, file in code.items() if not _same(to / name, file))
    for name in (*names, *others):
        if (to / name).exists():
            raise OccupiedError(
                f"{to / name} is there already, and not of an export of hpo; it would be "
                "overwritten."
            )


def _is_export(folder: Path) -> bool:
    """Whether `export` has written a folder."""
    try:
        said = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(said, dict) and {"config", "shape", "classes", "costs"} <= said.keys()


def _same(a: Path, b: Path) -> bool:
    return a.exists() and a.samefile(b)


def beside(script: str) -> Exported:
    """The model that lies beside a script, which ends with one sentence where its code is missing.

    Args:
        script: The path of the script.
    """
    try:
        return load(Path(script).parent)
    except CodeError as error:  # code of the user's own, which the model is made of
        sys.exit(f"error: {error}")


def load(folder: Path) -> Exported:
    """Loads what `export` wrote.

    A transformer and an estimator are pickles: load them only from where you trust.

    Raises:
        CodeError: code that it is made of, the user's own or of another version, cannot be
            imported.
    """
    said = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    shape, classes = tuple(said["shape"]), tuple(said["classes"])
    threshold = said.get("threshold")  # which exports of an earlier day lack
    network: nn.Module
    if (folder / ESTIMATOR).exists():
        targets = len(classes), said["target_mean"], said["target_deviation"]
        scores = threshold is not None
        estimator = _unpickled(folder / ESTIMATOR, "the estimator", _OF_MODULES)
        network = Estimator(estimator, *targets, scores=scores).eval()
    else:
        seed = said.get("seed", 0)  # which exports of an earlier day lack
        parts = shape, len(classes) or 1, folder / WEIGHTS, folder
        network = restore(said["config"], *parts, seed=seed)
    transformer = None
    if (folder / TRANSFORMER).exists():
        again = (
            f"It is of another version of hpo or scikit-learn; again: hpo export {said['study']}"
        )
        transformer = _unpickled(folder / TRANSFORMER, "the transformer", again)
    return Exported(
        network,
        said["config"],
        shape,
        getattr(torch, said.get("dtype", "float32")),  # which exports of an earlier day lack
        classes,
        said["target_mean"],
        said["target_deviation"],
        transformer,
        said["costs"],
        said["metrics"],
        **said["data"],
        threshold=threshold,
    )


def _unpickled(file: Path, what: str, next_step: str) -> Any:
    """What a pickle holds, perhaps of classes whose modules came along.

    Raises:
        CodeError: it is made of what cannot be imported; with the next step.
    """
    sys.path.insert(0, str(file.parent))
    try:
        return joblib.load(file)
    except (ImportError, AttributeError) as error:
        sentence = f"what {what} is made of cannot be imported: {error}."
        raise CodeError(sentence, next_step) from error
    finally:
        sys.path.remove(str(file.parent))


def restore(
    config: dict[str, Any] | TrainerConfig,
    shape: tuple[int, ...],
    n_outputs: int,
    weights: Path,
    folder: Path,
    *,
    seed: int = 0,
) -> nn.Module:
    """A network with weights from a file, on the CPU and in eval mode.

    Args:
        config: What it was trained with.
        shape: Of one example's features.
        n_outputs: Of one example.
        weights: A safetensors file.
        folder: Where a model of the user's own is looked for first.
        seed: What it was trained with; what such a model draws beside its weights follows from it.

    Raises:
        DataError: the weights are another network's.
    """
    if not isinstance(config, TrainerConfig):
        config = TrainerConfig.from_mapping(config)
    generator = torch.Generator().manual_seed(seed)
    network = models.build(config, shape, n_outputs, generator, folder)
    try:
        network.load_state_dict(load_file(weights))
    except RuntimeError as error:
        raise DataError(
            f"the weights in {weights} do not fit the network that {config.model!r} makes now: its "
            "code or its data has changed since."
        ) from error
    return network.eval()


def trained_on(weights: Path) -> str | None:
    """The digest of the data that weights were trained on, if their file says so."""
    with safe_open(weights, framework="pt") as file:
        return (file.metadata() or {}).get(DATA)


def main(predict: Callable[[Any], Iterable[object]], exported: Exported) -> None:
    """The command of an export: prints an answer for each example of a file, one a line.

    Where it is not sure enough to answer, the line is empty. An image of a folder has its path in
    front, and a tab. What is wrong with the file is one line on stderr and exit code 1; what is
    wrong with the command is exit code 2.

    Args:
        predict: From raw examples, as `exported.read` gives them, to answers.
        exported: The model.
    """
    parser = argparse.ArgumentParser(description="Answers with the exported model.")
    kind = "an image or a folder of them" if exported.form == "images" else example(exported.form)
    parser.add_argument("file", metavar="FILE", type=Path, help=f"such as {kind}")
    path = parser.parse_args().file
    try:
        answers = (answer for examples in exported.read(path) for answer in predict(examples))
        names = images_at(path) if path.is_dir() else ()
        for answer, name in zip_longest(answers, names):
            said = "" if answer is None else answer
            print(said if name is None else f"{name}\t{said}")  # noqa: T201 - its whole purpose
        sys.stdout.flush()
    except DataError as error:
        sys.exit(f"error: {error}")
    except BrokenPipeError:  # whoever reads has seen enough, and Python's own end would complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def example(form: Form, suffix: str = ".npy") -> str:
    """The name of a file that the export of a network takes which was trained on such data.

    Args:
        form: Of the data.
        suffix: Of files of arrays.
    """
    match form:
        case "table":
            return "examples.csv"
        case "images":
            return "photo.png"
        case "arrays":
            return f"examples{suffix}"
        case _:
            return "examples.npy"


def export_onnx(to: Path, network: nn.Module, data: Data) -> float:
    """Writes the network as ONNX, for any number of examples at once, and checks it.

    Returns:
        The greatest difference between its outputs and PyTorch's on validation examples, as a
        share of the greatest output.

    Raises:
        DataError: that is more than 1e-4, and the file is deleted; PyTorch cannot write it.
        ImportError: the packages for it are not installed.
    """
    import onnxruntime

    # It misses torchvision, which no network here has anything of.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    network = getattr(network, "_orig_mod", network).cpu().eval()  # not one that is compiled
    x = data.sample(64).cpu()
    file = to / ONNX
    _write_onnx(file, network, x)
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = network(x.clone())
    (outputs,) = session.run(None, {"features": x.numpy()})
    scale = float(expected.abs().max()) or 1.0
    difference = float((torch.from_numpy(outputs) - expected).abs().max()) / scale
    if not difference <= _ONNX_TOLERANCE:
        file.unlink()
        raise DataError(f"the ONNX file's outputs differ from PyTorch's by {difference:.2g}.")
    return difference


def _write_onnx(file: Path, network: nn.Module, x: torch.Tensor) -> None:
    try:
        program = torch.onnx.export(
            network,
            (x.clone(),),  # which a network of the user's own may change
            input_names=["features"],
            output_names=["outputs"],
            dynamic_shapes=({0: torch.export.Dim("n")},),
            dynamo=True,
            verbose=False,
        )
    except ImportError:
        raise
    except Exception as error:  # whatever the user's own code makes of being traced
        cause = error.__cause__ or error
        said = str(cause).strip().partition("\n")[0].rstrip(".")
        raise DataError(
            f"PyTorch cannot write the network as ONNX: {type(cause).__name__}: {said}. "
            "The export is whole without."
        ) from error
    assert program is not None  # noqa: S101 - with dynamo there is always one
    program.save(str(file))


def judge(network: nn.Module, data: Data, goals: Goals) -> dict[str, float]:
    """The metrics of a network on the test part, which nothing else looks at: `test_error`, ...

    From what confidence on it answers, validation decides.
    """
    outputs, targets = predict(network, data.test)
    goals = _with_threshold(goals, network, data)
    return metrics.evaluate(goals.tested(data.task), outputs, targets, data, goals, part="test")


def _with_threshold(goals: Goals, network: nn.Module, data: Data) -> Goals:
    """The goals with the threshold that the validation part gives, where accuracy is required."""
    if goals.required_accuracy is None or not data.classes:
        return goals
    return goals.answering_from(metrics.threshold(*predict(network, data.val), data, goals))


def predict(network: nn.Module, part: Part) -> tuple[torch.Tensor, torch.Tensor]:
    """The outputs of a trained network for all examples of a part, and its targets.

    The examples stay as they are, whatever a network of the user's own does to its input.
    """
    network.eval()
    return metrics.predict(lambda x: network(x.clone()), part, _AT_ONCE)
