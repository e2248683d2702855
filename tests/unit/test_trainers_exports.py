"""Exported networks: what they read, what they answer, and what they say of other files."""

import importlib
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import joblib
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.nn.functional import cross_entropy

from hpo.trainers import Goals, TrainerConfig, models
from hpo.trainers.code_files import code_files
from hpo.trainers.data import Source, load
from hpo.trainers.data.standardise import Channels
from hpo.trainers.errors import CodeError, DataError
from hpo.trainers.exports import Exported, example, export, export_onnx, judge, main
from hpo.trainers.exports import load as load_export
from hpo.trainers.goals import Task

LINEAR = "from torch import nn\ndef make(config):\n    return nn.Linear(4, config.n_outputs)\n"


def exported(source: Source) -> Exported:
    """The export, in `source.folder / "model"`, of a network that was never trained."""
    write_export(source, source.folder / "model")
    return load_export(source.folder / "model")


def write_export(source: Source, to: Path, model: str = "linear") -> None:
    """Exports a network that was never trained."""
    (data,) = load(source, seed=0)
    config = TrainerConfig.from_mapping({"model": model})
    network = models.build(
        config, data.shape, data.n_outputs, torch.Generator().manual_seed(0), source.folder
    )
    export(to, config, network, data, Goals(), {}, {"study": "s", "trial": 0}, source)


def answers(model: Exported, path: Path) -> list[Any]:
    with torch.inference_mode():
        return [
            answer
            for examples in model.read(path)
            for answer in model.answers(model.network(model.features(examples)))
        ]


def photos(folder: Path) -> None:
    """Ten black and ten white images, of several sizes and modes."""
    for i in range(10):
        for name, grey in (("black", 0), ("white", 255)):
            path = folder / "photos" / name / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new(["RGB", "L"][i % 2], (8 + i, 8), ("black", "white")[grey > 0]).save(path)


def test_an_image_or_a_folder_of_them_is_read_as_in_training(tmp_path: Path) -> None:
    photos(tmp_path)
    source = Source("photos", image_size=8, folder=tmp_path)
    model = exported(source)
    assert model.form == "images"
    (data,) = load(source, seed=0)
    (examples,) = model.read(tmp_path / "photos" / "white" / "3.png")
    white = data.train.batches([len(data.train)])
    ((x, y),) = white
    assert torch.equal(model.features(examples)[0], x[y == 1][0])
    every = answers(model, tmp_path / "photos")
    assert len(every) == 20
    assert every == 10 * [every[0]] + 10 * [every[-1]]  # sorted by path
    np.save(tmp_path / "x.npy", np.full((2, 8, 8, 3), 255, dtype=np.uint8))
    assert answers(model, tmp_path / "x.npy") == 2 * [every[-1]]


def test_a_transformer_of_an_earlier_day_is_found_under_its_old_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((20, 4, 4)), y=np.arange(20) % 2)
    exported(Source("a.npz", folder=tmp_path))
    file = tmp_path / "model" / "transformer.joblib"

    def write_as_of(module: str) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Channels, "__module__", module)
            patch.setitem(sys.modules, module, SimpleNamespace(Channels=Channels))
            joblib.dump(transformer, file)

    transformer = joblib.load(file)
    write_as_of("hpo.trainers.data.arrays")
    assert load_export(tmp_path / "model").transformer.mean_.shape == (1, 1, 1)
    write_as_of("hpo.trainers.data.nowhere")
    with pytest.raises(CodeError) as caught:
        load_export(tmp_path / "model")
    assert str(caught.value) == (
        "what the transformer is made of cannot be imported: No module named "
        "'hpo.trainers.data.nowhere'. It is of another version of hpo or scikit-learn; again: hpo "
        "export s"
    )


def test_images_of_another_size_are_told(tmp_path: Path) -> None:
    photos(tmp_path)
    for path in (tmp_path / "photos").glob("*/*"):
        if path.name != "0.png":
            path.write_bytes((path.parent / "0.png").read_bytes())
    model = exported(Source("photos", folder=tmp_path))
    Image.new("L", (9, 8)).save(tmp_path / "other.png")
    with pytest.raises(DataError, match=r"^other.png has 9 x 8; the model was trained on 8 x 8"):
        answers(model, tmp_path / "other.png")
    (tmp_path / "other.png").write_text("no image")
    with pytest.raises(DataError, match=r"^the image .*other.png cannot be read: cannot identify"):
        answers(model, tmp_path / "other.png")


@pytest.mark.parametrize("name", ["a.npz", "a.pt", "b.npy", "b.npz", "b.pt", "c.pt"])
def test_arrays_are_read_with_and_without_targets(tmp_path: Path, name: str) -> None:
    x, kind = np.arange(80.0).reshape(40, 2), np.arange(40) % 2
    np.savez(tmp_path / "a.npz", x=x, kind=kind)
    torch.save({"x": torch.tensor(x), "kind": torch.tensor(kind)}, tmp_path / "a.pt")
    np.save(tmp_path / "b.npy", x)
    np.savez(tmp_path / "b.npz", x)
    torch.save(torch.tensor(x), tmp_path / "b.pt")
    torch.save((torch.tensor(x), torch.tensor(kind)), tmp_path / "c.pt")
    model = exported(Source("a.npz", target="kind", folder=tmp_path))
    assert answers(model, tmp_path / name) == answers(model, tmp_path / "a.npz")
    assert len(answers(model, tmp_path / name)) == 40


def test_rows_of_pixels_are_images_where_they_were_in_training(tmp_path: Path) -> None:
    model = exported(Source("digits", folder=tmp_path))
    np.save(tmp_path / "x.npy", np.ones((3, 64)))
    assert len(answers(model, tmp_path / "x.npy")) == 3
    for shape in ((3, 8, 8), (3, 1, 8, 8)):
        np.save(tmp_path / "x.npy", np.ones(shape))
        with pytest.raises(DataError, match=r"8, 8\); the model was trained on \(64,\)\.$"):
            answers(model, tmp_path / "x.npy")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.ones((3, 5)), "an example has the shape (5,); the model was trained on (4,)."),
        (np.ones(4), "an example has the shape (1,); the model was trained on (4,)."),
        (np.ones((3, 2, 2)), "an example has the shape (2, 2); the model was trained on (4,)."),
        (np.full((1, 4), np.nan), ("'x' of 'x.npy' is NaN or infinite in 4 places, the first of "
         "them [0, 0]. Fill them in: only tables in files are filled in here.")),
        (np.ones((0, 4)), "'x' of 'x.npy' has no examples."),
        (np.full((1, 4), "a"), "'x' of 'x.npy' is of type <U1; features must be numbers."),
    ],
)  # fmt: skip
def test_arrays_unlike_those_of_training_are_told(
    tmp_path: Path, x: Any, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = exported(Source("iris", folder=tmp_path))
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", x)
    with pytest.raises(DataError) as caught:
        answers(model, Path("x.npy"))
    assert str(caught.value) == message


def test_a_network_that_was_trained_on_integers_takes_no_others(tmp_path: Path) -> None:
    (tmp_path / "embedding.py").write_text(
        "from torch import nn\n"
        "def make(config):\n"
        "    return nn.Sequential(nn.EmbeddingBag(9, 4), nn.Linear(4, config.n_outputs))\n"
    )
    x = np.arange(80).reshape(40, 2) % 9
    np.savez(tmp_path / "a.npz", x=x, y=x[:, 0] % 2)
    source = Source("a.npz", integers=True, folder=tmp_path)
    write_export(source, tmp_path / "model", "embedding:make")
    model = load_export(tmp_path / "model")
    for dtype in (np.int64, np.int32, np.uint8):
        np.save(tmp_path / "x.npy", x.astype(dtype))
        assert answers(model, tmp_path / "x.npy") == answers(model, tmp_path / "a.npz")
    np.save(tmp_path / "x.npy", x / 2)
    with pytest.raises(DataError, match=r"^an example is of float64; the model was trained on i"):
        answers(model, tmp_path / "x.npy")


TABLE = "a,b,y\n" + "".join(f"{i % 7},{'uvw'[i % 3]},{i % 2}\n" for i in range(60))


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["new.csv"], 0, ""),
        ([], 2, "the following arguments are required: FILE"),
        (["none.csv"], 1, "error: there is no file 'none.csv'.\n"),
        (["."], 1, ("error: '.' is not what this model was trained on: .csv, .csv.gz, .tsv, "
         ".tsv.gz, .parquet.\n")),
        (["x.npy"], 1, ("error: 'x.npy' is not what this model was trained on: .csv, .csv.gz, "
         ".tsv, .tsv.gz, .parquet.\n")),
        (["empty.csv"], 1, "error: 'empty.csv' has no rows.\n"),
        (["lacking.csv"], 1,
         "error: 'lacking.csv' has no column 'b', which was trained on. Known: a.\n"),
        (["text.csv"], 1, ("error: the column 'a' of 'text.csv' has 'old' in row 1; it had numbers "
         "in training. Correct it, or leave it empty.\n")),
    ],
)  # fmt: skip
def test_what_is_wrong_with_a_file_is_one_line(
    tmp_path: Path,
    arguments: list[str],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    files = {"train.csv": TABLE, "new.csv": "b,a,c\nu,1,9\n,,\n", "empty.csv": "a,b\n",
             "lacking.csv": "a\n1\n", "text.csv": "a,b\n1,u\nold,u\n", "x.npy": ""}  # fmt: skip
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    model = exported(Source("train.csv", target="y", folder=tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["predict.py", *arguments])
    ended: object = 0
    try:
        main(lambda rows: model.answers(model.network(model.features(rows))), model)
    except SystemExit as stop:
        ended = stop.code
    out, err = capsys.readouterr()
    if isinstance(ended, str):  # as Python ends with it
        ended, err = 1, f"{ended}\n"
    assert (ended, len(out.splitlines())) == (code, 2 if code == 0 else 0)
    assert err.endswith(said + "\n" * (code == 2))


def test_the_script_of_an_export_names_the_images_of_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos(tmp_path)
    exported(Source("photos", image_size=4, folder=tmp_path))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["predict.py", "photos/black"])
    runpy.run_path("model/predict.py", run_name="__main__")
    lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [name for name, _ in lines] == [f"photos/black/{i}.png" for i in range(10)]
    assert {answer for _, answer in lines} <= {"black", "white"}


@pytest.mark.parametrize("name", ["config.json", "predict.py", "nets.py"])
def test_an_export_overwrites_nobody_elses_files(tmp_path: Path, name: str) -> None:
    (tmp_path / "nets.py").write_text(
        "from torch import nn\ndef make(config):\n    return nn.Linear(4, config.n_outputs)\n"
    )
    source, file = Source("iris", folder=tmp_path), tmp_path / "model" / name
    file.parent.mkdir()
    file.write_text("{}")
    with pytest.raises(DataError) as caught:
        write_export(source, file.parent, "nets:make")
    assert str(caught.value) == (
        f"{file} is there already, and not of an export of hpo; it would be overwritten."
    )
    assert [*file.parent.iterdir()] == [file]
    file.unlink()
    for _ in range(2):  # over an export there may be another one
        write_export(source, file.parent, "nets:make")
    assert load_export(file.parent).classes == ("setosa", "versicolor", "virginica")


def test_a_module_of_ones_own_does_not_take_the_scripts_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "predict", raising=False)
    (tmp_path / "predict.py").write_text(LINEAR)
    with pytest.raises(DataError) as caught:
        write_export(Source("iris", folder=tmp_path), tmp_path / "model", "predict:make")
    assert str(caught.value).startswith(
        f"your own {tmp_path / 'predict.py'} would take the place of the export's predict.py. Give"
    )
    assert not (tmp_path / "model").exists()


def test_a_package_comes_along_from_wherever_it_lies_with_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, studies = tmp_path / "src", tmp_path / "studies"
    studies.mkdir()
    for name, text in {
        "far/__init__.py": "",
        "far/nets.py": f"import beside_far\n{LINEAR}",
        "far/words/all.txt": "a b",
        "far/data.bin": "0" * 2**21,
        "far/.secret": "",
        "far/hpo-runs/x.txt": "",
        "beside_far.py": "",
        "other.py": "",
    }.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(text)
    monkeypatch.syspath_prepend(place)
    write_export(Source("iris", folder=studies), tmp_path / "model", "far.nets:make")
    found = {str(each.relative_to(tmp_path / "model")) for each in (tmp_path / "model").rglob("*")}
    code = {"far", "far/__init__.py", "far/nets.py", "far/words", "far/words/all.txt"}
    assert found == code | {
        "beside_far.py",
        "config.json",
        "model.safetensors",
        "predict.py",
        "transformer.joblib",
    }
    torch.save(torch.zeros(2, 4), tmp_path / "x.pt")
    script = [sys.executable, "model/predict.py", "x.pt"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == 2
    (tmp_path / "model" / "beside_far.py").unlink()
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: cannot import 'far.nets' (looked in ")
    assert len(done.stderr.splitlines()) == 1


def test_a_package_in_two_folders_comes_along_from_where_the_model_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, text in {
        "a/pkgx/other.py": "",
        "a/pkgx/unused.py": "",
        "a/pkgx/used.py": "",
        "b/pkgx/mod.py": f"import pkgx.used\n{LINEAR}",
        "b/pkgx/used.py": "raise ImportError",
        "b/pkgx/words.txt": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    for place in ("b", "a"):  # so that a is first
        monkeypatch.syspath_prepend(tmp_path / place)
    studies = tmp_path / "studies"
    studies.mkdir()
    write_export(Source("iris", folder=studies), tmp_path / "model", "pkgx.mod:make")
    expected = {
        "pkgx/mod.py": tmp_path / "b" / "pkgx" / "mod.py",
        "pkgx/used.py": tmp_path / "a" / "pkgx" / "used.py",
        "pkgx/words.txt": tmp_path / "b" / "pkgx" / "words.txt",
    }
    assert code_files("pkgx.mod:make", studies) == expected
    assert code_files("pkgx.mod.make", studies) == expected
    torch.save(torch.zeros(2, 4), tmp_path / "x.pt")
    script = [sys.executable, "model/predict.py", "x.pt"]
    done = subprocess.run(script, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert len(done.stdout.split()) == 2


@pytest.mark.parametrize("linked", ["module", "package", "folder"])
def test_code_that_is_a_symlink_to_another_name_comes_along(tmp_path: Path, linked: str) -> None:
    real, studies = tmp_path / "real", tmp_path / "studies"
    real.mkdir()
    (real / "impl.py").write_text(LINEAR)
    (real / "__init__.py").touch()
    at, to, model = {
        "module": (studies / "alias_a.py", real / "impl.py", "alias_a"),
        "package": (studies / "alias_b", real, "alias_b.impl"),
        "folder": (tmp_path / "studies", real, "impl"),
    }[linked]
    at.parent.mkdir(exist_ok=True)
    at.symlink_to(to)
    sys.modules.pop("impl", None)
    write_export(Source("iris", folder=studies), tmp_path / "model", f"{model}:make")
    file = Path(*model.split(".")).with_suffix(".py")
    assert code_files(f"{model}:make", studies)[file.as_posix()] == studies / file
    assert (tmp_path / "model" / file).read_text() == LINEAR
    assert not (tmp_path / "model" / file).is_symlink()


def test_of_a_package_with_very_many_files_only_the_code_comes_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    data = tmp_path / "crowded" / "data"
    data.mkdir(parents=True)
    (tmp_path / "crowded" / "__init__.py").write_text(LINEAR)
    (tmp_path / "crowded" / "unused.py").touch()
    (data / "large.bin").write_bytes(b"0" * 2**21)
    for i in range(1000):
        (data / f"{i}.txt").touch()
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("crowded")
    assert len(code_files("crowded:make", tmp_path)) == 1002
    assert caplog.messages == [f"{data / 'large.bin'} does not come along: it is larger than 1 MiB"]
    caplog.clear()
    (data / "one more.txt").touch()
    found = code_files("crowded:make", tmp_path)
    assert {*found} == {"crowded/__init__.py", "crowded/unused.py"}
    assert caplog.messages == [
        f"of the files in {tmp_path / 'crowded'} only .py come along: it has more than 1,000 others"
    ]


def test_an_export_leaves_nothing_of_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(
        "def make():\n    return [([float(i)], i % 2) for i in range(40)]\n"
    )
    exported(Source("iris", folder=tmp_path))
    (tmp_path / "model" / "model.onnx").write_text("of the first")
    assert exported(Source("own:make", folder=tmp_path)).transformer is None
    assert not (tmp_path / "model" / "model.onnx").exists()


def test_a_model_may_be_exported_to_where_its_code_is(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    code = "from torch import nn\ndef make(config):\n    return nn.Linear(4, config.n_outputs)\n"
    (tmp_path / "model" / "beside.py").write_text(code)
    source = Source("iris", folder=tmp_path / "model")
    write_export(source, source.folder, "beside:make")
    assert (tmp_path / "model" / "beside.py").read_text() == code


def test_an_example_is_of_the_kind_that_was_trained_on() -> None:
    assert example("table") == "examples.csv"
    assert example("images") == "photo.png"
    assert example("arrays", ".pt") == "examples.pt"
    assert example("built-in") == example("code") == "examples.npy"


# The test part


class Shy(nn.Sequential):
    """A network that answers with nothing but zeros until it is in eval mode."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs: torch.Tensor = super().forward(x)  # type: ignore[no-untyped-call]
        return torch.zeros_like(outputs) if self.training else outputs


@pytest.mark.parametrize("name", ["wine", "diabetes"])
def test_a_network_is_judged_by_the_test_part(name: str) -> None:
    task: Task = "regression" if name == "diabetes" else "classification"
    (data,) = load(Source(name, task=task), seed=0)
    config = TrainerConfig.from_mapping({"model": "linear", "init": "glorot_uniform"})
    drawn = torch.Generator().manual_seed(0)
    network = Shy(models.build(config, data.shape, data.n_outputs, drawn))

    asked = ("n_parameters", "train_loss", *(["val_log_loss"] if data.classes else []))
    judged = judge(network, data, Goals(names=asked))

    found = {}
    for part in (data.train, data.val, data.test):
        ((x, y),) = part.batches([len(part)])
        with torch.inference_mode():
            outputs = network.eval()(x)
        if task == "classification":
            wrong = float((outputs.argmax(dim=1) != y).double().mean())
            loss = cross_entropy(outputs, y).item()
            found[part] = {"error": wrong, "accuracy": 1 - wrong, "loss": loss, "log_loss": loss}
        else:
            loss = (outputs.squeeze(1) - y).square().double().mean().item()
            found[part] = {"loss": loss, "rmse": data.target_deviation * loss**0.5}
    for metric, value in found[data.test].items():
        assert judged.pop(f"test_{metric}") == pytest.approx(value, rel=1e-5)
        assert all(found[part][metric] != value for part in (data.train, data.val))
    assert set(judged) == ({"test_mae", "test_r2"} if task == "regression" else set())


# ONNX


class Otherwise(nn.Linear):
    """A network that is exported as another."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        outputs = super().forward(x)
        return outputs * 1.001 if torch.compiler.is_exporting() else outputs


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # PyTorch's own
def test_onnx_that_differs_from_pytorch_is_told_and_not_left(tmp_path: Path) -> None:
    (data,) = load(Source("iris"), seed=0)
    with pytest.raises(DataError) as caught:
        export_onnx(tmp_path, Otherwise(4, 3), data)
    assert str(caught.value) == "the ONNX file's outputs differ from PyTorch's by 0.001."
    assert not [*tmp_path.iterdir()]


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # PyTorch's own
def test_a_network_that_changes_its_input_is_judged_on_the_data_as_it_is(tmp_path: Path) -> None:
    class Halved(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x.div_(2))

    (data,) = load(Source("iris"), seed=0)
    network = Halved(4, 3)
    first = judge(network, data, Goals())
    assert judge(network, data, Goals()) == first
    assert export_onnx(tmp_path, network, data) < 1e-4


class Branching(nn.Linear):
    """A network whose way depends on the numbers, which no graph can have."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x if x.sum().item() > 0 else -x)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # PyTorch's own
def test_what_cannot_be_written_as_onnx_is_told_in_a_sentence(tmp_path: Path) -> None:
    (data,) = load(Source("iris"), seed=0)
    with pytest.raises(DataError) as caught:
        export_onnx(tmp_path, Branching(4, 3), data)
    assert str(caught.value).startswith("PyTorch cannot write the network as ONNX: ")
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*LeafSpec:FutureWarning")  # PyTorch's own
@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # PyTorch's own
def test_a_network_that_is_compiled_is_written_as_onnx(tmp_path: Path) -> None:
    (data,) = load(Source("iris"), seed=0)
    compiled = torch.compile(nn.Linear(4, 3))
    assert isinstance(compiled, nn.Module)
    assert export_onnx(tmp_path, compiled, data) < 1e-4
