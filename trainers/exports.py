"""A trained network as files that others can use: weights, what they mean, and how to load them."""

from __future__ import annotations

import dataclasses
import json
import logging
import shutil
import sys
from pathlib import Path
from typing import Any

import joblib
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from trainers import metrics, models
from trainers.checkpoints import DATA, WEIGHTS, weights_of, write
from trainers.config import TrainerConfig
from trainers.data.parts import Data
from trainers.errors import DataError
from trainers.fields import is_code
from trainers.goals import Goals

CONFIG, TRANSFORMER, SCRIPT, ONNX = (
    "config.json",
    "transformer.joblib",
    "predict.py",
    "model.onnx",
)

_ONNX_TOLERANCE = 1e-4

_SCRIPT = '''\
"""Answers with the exported network: python predict.py FILE (csv, parquet or npy)."""

import sys
from pathlib import Path

import torch

from trainers.exports import load, read

exported = load(Path(__file__).parent)  # .network, .transformer, .classes, .config, .metrics

if __name__ == "__main__":
    examples = read(Path(sys.argv[1]))
    with torch.inference_mode():
        outputs = exported.network(exported.features(examples))
    for answer in exported.answers(outputs):
        print(answer)
'''


@dataclasses.dataclass(frozen=True)
class Exported:
    """An exported network, ready to answer.

    Attributes:
        network: On the CPU, in eval mode; from features (n, *shape) to outputs (n, n_outputs).
        config: What it was trained with.
        shape: Of the features of one example.
        classes: Their names by output; none in regression.
        target_mean: In regression, an answer is target_mean + target_deviation * output.
        target_deviation: See there.
        transformer: scikit-learn's, from raw examples to features; None where they are the same.
        costs: (n_classes, n_classes), the cost of each answer (columns) for each truth (rows);
            None where all mistakes cost the same.
        metrics: What it reached.
    """

    network: nn.Module
    config: dict[str, Any]
    shape: tuple[int, ...]
    classes: tuple[str, ...]
    target_mean: float
    target_deviation: float
    transformer: Any
    costs: list[list[float]] | None
    metrics: dict[str, float]

    def features(self, examples: Any) -> torch.Tensor:
        """What the network takes, (n, *shape), of raw examples: an array, or a table's rows."""
        raw = examples if self.transformer is None else self.transformer.transform(examples)
        return torch.as_tensor(raw, dtype=torch.float32).reshape(-1, *self.shape)

    def answers(self, outputs: torch.Tensor) -> list[str] | list[float]:
        """The class of each output, or in regression the number in the target's unit.

        Where there are costs, it is the class that costs least by the probabilities.
        """
        if self.costs:
            outputs = -(outputs.double().softmax(dim=1) @ torch.tensor(self.costs).double())
        if self.classes:
            return [self.classes[i] for i in outputs.argmax(dim=1).tolist()]
        numbers: list[float] = (
            outputs.squeeze(1) * self.target_deviation + self.target_mean
        ).tolist()
        return numbers


def export(
    to: Path,
    config: TrainerConfig,
    network: nn.Module,
    data: Data,
    goals: Goals,
    reached: dict[str, float],
    about: dict[str, Any],
    folder: Path,
) -> None:
    """Writes weights, configuration, the transformer if there is one, and a script to a folder.

    Args:
        to: The folder; it is made.
        config: What the network was trained with.
        network: The network.
        data: What it was trained on.
        goals: What it was judged by; an export answers by their costs, too.
        reached: Its metrics.
        about: What else is to stand in the configuration's file.
        folder: Where a model of the user's own was found; its code comes along.
    """
    to.mkdir(parents=True, exist_ok=True)
    write(to / WEIGHTS, weights_of(network, data.digest))
    said = dataclasses.asdict(config)
    own = said.pop("own")
    text = {
        **about,
        "config": {**said, **own},
        "shape": list(data.shape),
        "classes": list(data.classes),
        "target_mean": data.target_mean,
        "target_deviation": data.target_deviation,
        "costs": goals.costs,
        "metrics": reached,
        "torch": torch.__version__,
    }
    (to / CONFIG).write_text(json.dumps(text, indent=2) + "\n", encoding="utf-8")
    if data.transformer is not None:
        joblib.dump(data.transformer, to / TRANSFORMER)
    (to / SCRIPT).write_text(_SCRIPT, encoding="utf-8")
    if is_code(config.model):
        _copy_code(folder.resolve(), to)


def _copy_code(folder: Path, to: Path) -> None:
    """Puts the user's own modules, those imported from `folder`, beside the weights."""
    for module in list(sys.modules.values()):
        file = Path(getattr(module, "__file__", None) or "")
        if file.suffix != ".py" or "site-packages" in file.parts or not file.is_file():
            continue
        if file.resolve().is_relative_to(folder) and module.__name__ != "__main__":
            beside = to / file.resolve().relative_to(folder)
            beside.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, beside)


def load(folder: Path) -> Exported:
    """Loads what `export` wrote.

    A transformer is a pickle: load it only from where you trust.
    """
    said = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    shape, classes = tuple(said["shape"]), tuple(said["classes"])
    network = restore(said["config"], shape, len(classes) or 1, folder / WEIGHTS, folder)
    transformer = folder / TRANSFORMER
    return Exported(
        network,
        said["config"],
        shape,
        classes,
        said["target_mean"],
        said["target_deviation"],
        joblib.load(transformer) if transformer.exists() else None,
        said["costs"],
        said["metrics"],
    )


def restore(
    config: dict[str, Any] | TrainerConfig,
    shape: tuple[int, ...],
    n_outputs: int,
    weights: Path,
    folder: Path,
) -> nn.Module:
    """A network with weights from a file, on the CPU and in eval mode.

    Args:
        config: What it was trained with.
        shape: Of one example's features.
        n_outputs: Of one example.
        weights: A safetensors file.
        folder: Where a model of the user's own is looked for first.

    Raises:
        DataError: If the weights are another network's.
    """
    if not isinstance(config, TrainerConfig):
        config = TrainerConfig.from_mapping(config)
    network = models.build(config, shape, n_outputs, torch.Generator().manual_seed(0), folder)
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


def read(path: Path) -> Any:
    """Raw examples: an array of an npy file, or the rows of a CSV or Parquet file."""
    if path.suffix == ".npy":
        import numpy as np

        return np.load(path)
    from trainers.data.tables import read_table

    return read_table(path)


def export_onnx(to: Path, network: nn.Module, data: Data) -> float:
    """Writes the network as ONNX, for any number of examples at once, and checks it.

    Returns:
        The greatest difference between its outputs and PyTorch's on validation examples, as a
        share of the greatest output.

    Raises:
        DataError: If that is more than 1e-4; the file is deleted.
        ImportError: If the packages for it are not installed.
    """
    import onnxruntime

    # It misses torchvision, which no network here has anything of.
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    network = network.cpu().eval()
    n = min(len(data.val), 64)
    x, _ = next(iter(data.val.batches([n, *([len(data.val) - n] if len(data.val) > n else [])])))
    x = x.cpu()
    file = to / ONNX
    program = torch.onnx.export(
        network,
        (x,),
        input_names=["features"],
        output_names=["outputs"],
        dynamic_shapes=({0: torch.export.Dim("n")},),
        dynamo=True,
        verbose=False,
    )
    assert program is not None  # noqa: S101 - with dynamo there is always one
    program.save(str(file))
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    with torch.inference_mode():
        expected = network(x)
    (outputs,) = session.run(None, {"features": x.numpy()})
    scale = float(expected.abs().max()) or 1.0
    difference = float((torch.from_numpy(outputs) - expected).abs().max()) / scale
    if not difference <= _ONNX_TOLERANCE:
        file.unlink()
        raise DataError(f"the ONNX file's outputs differ from PyTorch's by {difference:.2g}.")
    return difference


def judge(network: nn.Module, data: Data, goals: Goals) -> dict[str, float]:
    """The metrics of a network on the test part, which nothing else looks at: `test_error`, ..."""
    network.eval()
    outputs, targets = metrics.predict(network, data.test, 1024)
    names = [name for name in goals.reported(data.task) if name.startswith("val_")]
    return metrics.evaluate(names, outputs, targets, data, goals, part="test")
