"""Folders of images, the user's own data sets, and data that is read while it is trained on."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torch.utils.data import TensorDataset

from hpo.trainers.data import Source, load
from hpo.trainers.data.parts import Data, Part, Tensors
from hpo.trainers.data.splits import splits
from hpo.trainers.data.stream import Stream, workers_for
from hpo.trainers.errors import CodeError, DataError

SIZES = [16, 16, 16, 12]
X, Y = torch.randn(60, 3, generator=torch.Generator().manual_seed(0)), torch.arange(60) % 4


def tensors(part: Part) -> Tensors:
    assert isinstance(part, Tensors)
    return part


def generator(seed: int | None) -> torch.Generator | None:
    return None if seed is None else torch.Generator().manual_seed(seed)


def same_minibatches(a: Part, b: Part, sizes: list[int]) -> bool:
    return all(
        torch.equal(ours, others)
        for seed in (None, 3)
        for one, other in zip(
            a.batches(sizes, generator(seed)),
            b.batches(sizes, generator(seed)),
            strict=True,
        )
        for ours, others in zip(one, other, strict=True)
    )


@pytest.fixture
def without_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """No data set fits into memory."""
    monkeypatch.setattr("hpo.trainers.data.own.room", lambda device: 0)  # noqa: ARG005
    monkeypatch.setattr("hpo.trainers.data.images.room", lambda device: 0)  # noqa: ARG005
    monkeypatch.setattr("hpo.trainers.data.arrays.room", lambda device: 0)  # noqa: ARG005


@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_stream_gives_the_minibatches_that_tensors_give(n_workers: int) -> None:
    rows = torch.randperm(60, generator=torch.Generator().manual_seed(1))
    stream = Stream(TensorDataset(X), Y, rows, n_workers=n_workers)
    part = Tensors(X[rows], Y[rows])
    assert len(stream) == 60
    assert stream.shape == (3,)
    for _ in range(2):  # the workers of the first epoch serve the second
        assert same_minibatches(stream, part, SIZES)
    assert same_minibatches(stream.to(torch.device("cpu")), part, [60])


def test_a_digest_of_streamed_data_is_of_all_of_it() -> None:
    def data(x: torch.Tensor, y: torch.Tensor) -> Data:
        train, val, test = (
            Stream(TensorDataset(x), y, torch.arange(i, i + 20)) for i in (0, 20, 40)
        )
        classes = ("a", "b", "c", "d")
        return Data("mine", "classification", train, val, test, shape=(3,), classes=classes)

    assert data(X, Y).digest == data(X, Y).digest
    assert data(X + 1, Y).digest != data(X, Y).digest
    assert data(X, Y.flip(0)).digest != data(X, Y).digest


def test_streams_can_be_read_at_the_same_time_and_left_halfway() -> None:
    stream = Stream(TensorDataset(X), Y, torch.arange(60), n_workers=1)
    one, other = stream.batches([20] * 3), stream.batches([30] * 2)
    assert torch.equal(next(one)[0], X[:20])
    assert torch.equal(next(other)[0], X[:30])
    assert torch.equal(next(one)[0], X[20:40])
    del one
    assert torch.equal(torch.cat([x for x, _ in stream.batches([15] * 4)]), X)
    assert torch.equal(next(other)[0], X[30:])


def test_a_stream_leaves_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    stream = Stream(TensorDataset(X), Y, torch.arange(60), n_workers=1)
    list(stream.batches(SIZES, torch.Generator().manual_seed(0)))
    assert torch.equal(torch.get_rng_state(), before)


def test_a_stream_scales_bytes_where_they_arrive() -> None:
    pixels = torch.arange(48, dtype=torch.uint8).reshape(4, 3, 2, 2)
    mean, deviation = torch.tensor([[[1.0]], [[2.0]], [[3.0]]]), torch.full((3, 1, 1), 2.0)
    stream = Stream(TensorDataset(pixels), Y[:4], torch.arange(4), scale=(mean, deviation))
    ((x, _),) = stream.batches([4])
    assert torch.equal(x, (pixels.float() - mean) / deviation)


def test_more_examples_are_read_by_workers() -> None:
    def n_workers(n: int) -> int:
        stream = Stream(TensorDataset(torch.zeros(n, 1)), torch.zeros(n), torch.arange(n))
        batches = stream.batches([n])
        next(batches)
        return len(multiprocessing.active_children())

    assert n_workers(1000) == 0
    assert n_workers(1001) == min(4, os.cpu_count() or 1)


def test_minibatches_for_a_gpu_are_pinned() -> None:
    rows = torch.arange(60)
    for device, pinned in (("cpu", False), ("cuda", True)):
        loader, _ = Stream(TensorDataset(X), Y, rows, torch.device(device))._loader()
        assert loader.pin_memory is pinned


def test_few_examples_need_no_workers() -> None:
    assert workers_for(1000) == 0
    assert 1 <= workers_for(1001) <= 4


def test_workers_survive_ctrl_c() -> None:
    # A search that is asked to stop ends its trials in order; their workers must live that long.
    stream = Stream(TensorDataset(X), Y, torch.arange(60), n_workers=1)
    before = {*multiprocessing.active_children()}
    batches = stream.batches([1] * 60)
    next(batches)
    (worker,) = {*multiprocessing.active_children()} - before
    assert worker.pid is not None
    os.kill(worker.pid, signal.SIGINT)
    assert len(list(batches)) == 59
    assert len(list(stream.batches([30, 30]))) == 2
    assert worker.is_alive()


_numbers = count()


def own(tmp_path: Path, body: str, **settings: Any) -> Source:
    """A source whose code is `body`, in a module that no test has imported before."""
    module = f"own_data_{next(_numbers)}"
    (tmp_path / f"{module}.py").write_text(
        "import numpy as np\nimport torch\nfrom PIL import Image\nfrom torch.utils.data import *\n"
        "x, y = torch.arange(180.0).reshape(60, 3), torch.arange(60) % 4\n"
        + textwrap.dedent(body)
    )  # fmt: skip
    return replace(Source(f"{module}:make", folder=tmp_path), **settings)


ONE = """
def make():
    return TensorDataset(x, y)
"""
THREE = """
def make():
    return TensorDataset(x[:30], y[:30]), TensorDataset(x[30:45], y[30:45]), list(zip(x[45:], y))
"""


def test_own_data_is_split_and_left_as_it_is(tmp_path: Path) -> None:
    (data,) = load(own(tmp_path, ONE), seed=2)
    ((rows, _, _),) = splits(Y.numpy(), data.classes, seed=2)
    assert data.classes == ("0", "1", "2", "3")
    assert data.shape == (3,)
    assert data.transformer is None
    assert isinstance(data.train, Tensors)
    assert torch.equal(data.train.x, torch.arange(180.0).reshape(60, 3)[rows])
    assert torch.equal(data.train.y, Y[rows])


def test_own_data_may_come_in_parts(tmp_path: Path) -> None:
    (data,) = load(own(tmp_path, THREE), seed=0)
    assert isinstance(data.val, Tensors)
    assert isinstance(data.test, Tensors)
    assert data.val.x[:, 0].tolist() == [3.0 * row for row in range(30, 45)]
    assert len(data.test) == 15
    (data,) = load(own(tmp_path, "def make():\n return TensorDataset(x, y), TensorDataset(x, y)"),
                   seed=0)  # fmt: skip
    assert (len(data.train), len(data.val), len(data.test)) == (48, 60, 12)


def test_parts_as_random_split_gives_them_are_parts(tmp_path: Path) -> None:
    split = "def make():\n return random_split(TensorDataset(x, y), [{}])"
    (data,) = load(own(tmp_path, split.format("40, 10, 10")), seed=0)
    assert (len(data.train), len(data.val), len(data.test)) == (40, 10, 10)
    with pytest.raises(DataError, match="returns a list of 4; it must return a torch"):
        load(own(tmp_path, split.format("30, 10, 10, 10")), seed=0)


@pytest.mark.parametrize(
    ("shape", "is_told"),
    [("9, 8, 3", True), ("9, 8, 1", True), ("3, 9, 8", False), ("4, 9, 3", False), ("9, 8", False)],
)
def test_images_whose_channels_stand_last_are_told(
    tmp_path: Path,
    shape: str,
    is_told: bool,  # noqa: FBT001 - pytest's
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = own(tmp_path, f"def make():\n return TensorDataset(torch.rand(60, {shape}), y)")
    load(source, seed=0)
    assert caplog.messages == is_told * [
        (
            f"'{source.name}' gives x of shape ({shape}), which a cnn or resnet takes for 9 "
            f"channels of 8 x {shape[-1]}. Of images whose channels stand last, return "
            "x.permute(2, 0, 1)."
        )
    ]
    load(replace(source, integers=True), seed=0)  # a network of one's own knows what it gets
    assert len(caplog.messages) == is_told


def test_own_numbers_are_standardised_and_own_text_names_classes(tmp_path: Path) -> None:
    numbers = "def make():\n return [(np.float32(i), 3.0 * i) for i in range(50)]"
    (data,) = load(own(tmp_path, numbers, task="regression"), seed=0)
    assert isinstance(data.train, Tensors)
    assert data.shape == (1,)
    restored = data.train.y * data.target_deviation + data.target_mean
    assert torch.allclose(restored, 3 * data.train.x[:, 0], atol=1e-4)
    columns = "def make():\n return TensorDataset(x, 3.0 * x[:, :1])"
    (data,) = load(own(tmp_path, columns, task="regression"), seed=0)
    assert isinstance(data.train, Tensors)
    restored = data.train.y * data.target_deviation + data.target_mean
    assert torch.allclose(restored, 3 * data.train.x[:, 0], atol=1e-3)
    words = "def make():\n return [([i], 'ba'[i % 2]) for i in range(50)]"
    assert load(own(tmp_path, words), seed=0)[0].classes == ("a", "b")


@pytest.mark.parametrize("features", ["x.requires_grad_()", "x.to_sparse()"])
def test_own_data_may_be_any_tensors(tmp_path: Path, features: str) -> None:
    body = f"def make():\n    f = {features}\n    return [(f[i], y[i]) for i in range(60)]"
    (data,) = load(own(tmp_path, body), seed=1)
    (expected,) = load(own(tmp_path, ONE), seed=1)
    assert torch.equal(tensors(data.train).x, tensors(expected.train).x)


@pytest.mark.parametrize("settings", [{}, {"folds": 3}, {"task": "regression"}])
def test_own_data_that_does_not_fit_gives_the_same_minibatches(
    tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = own(tmp_path, ONE, **settings)
    held = load(source, seed=1)
    monkeypatch.setattr("hpo.trainers.data.own.room", lambda device: 0)  # noqa: ARG005
    streamed = load(source, seed=1)
    for one, other in zip(held, streamed, strict=True):
        assert (one.shape, one.classes) == (other.shape, other.classes)
        for part in ("train", "val", "test"):
            ours, others = getattr(one, part), getattr(other, part)
            assert isinstance(ours, Tensors)
            assert isinstance(others, Stream)
            assert same_minibatches(ours, others, [8, len(ours) - 8])
    assert [data.digest for data in held] == [data.digest for data in streamed]
    assert len({data.digest for data in held}) == len(held)


def test_streamed_data_is_read_once_to_tell_it_from_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpo.trainers.data.own.room", lambda device: 0)  # noqa: ARG005
    folds = load(own(tmp_path, ONE, folds=3), seed=1)
    n_read = 0
    batches = Stream.batches

    def counted(self: Stream, sizes: Any, generator: Any = None) -> Any:
        nonlocal n_read
        n_read += sum(sizes)
        return batches(self, sizes, generator)

    monkeypatch.setattr(Stream, "batches", counted)
    moved = [data.to(torch.device("cpu")) for data in folds]
    assert n_read == sum(len(part) for part in (folds[0].train, folds[0].val, folds[0].test))
    assert [data.digest for data in moved] == [data.digest for data in folds]


IDS = "2**40 + torch.arange(180).reshape(60, 3)"


@pytest.mark.parametrize("settings", [{}, {"folds": 3}])
def test_own_integers_stay_what_they_are_where_they_may(
    tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = own(tmp_path, f"def make():\n    return TensorDataset({IDS}, y)", **settings)
    source = replace(source, integers=True)
    held = load(source, seed=1)
    monkeypatch.setattr("hpo.trainers.data.own.room", lambda device: 0)  # noqa: ARG005
    streamed = load(source, seed=1)
    for one, other in zip(held, streamed, strict=True):
        assert one.dtype == other.dtype == torch.int64
        assert isinstance(other.train, Stream)
        few = other.train.subset(torch.arange(9))  # a part of a stream is like the whole
        assert same_minibatches(one.train.subset(torch.arange(9)), few, [5, 4])
        assert same_minibatches(one.train, other.train, [8, len(one.train) - 8])
        assert torch.equal(one.sample(7), other.sample(7))
        ((x, _),) = one.to(torch.device("cpu")).val.batches([len(one.val)])
        assert x.min() >= 2**40
        assert len(torch.unique(x)) == x.numel()


@pytest.mark.parametrize(
    ("x", "dtype"),
    [
        ("torch.arange(60, dtype=torch.int32)", torch.int64),
        ("np.arange(60, dtype=np.uint16)", torch.int64),
        ("range(60)", torch.int64),
        ("torch.arange(60, dtype=torch.uint8)", torch.float32),
        ("torch.arange(60) > 30", torch.float32),
        ("torch.arange(60.0)", torch.float32),
        ("[0.5, *range(59)]", torch.float32),
    ],
)
@pytest.mark.parametrize("integers", [True, False])
def test_bytes_and_truths_are_no_integers(
    tmp_path: Path,
    x: str,
    dtype: torch.dtype,
    integers: bool,  # noqa: FBT001 - pytest's
) -> None:
    source = own(tmp_path, f"def make():\n    return list(zip({x}, y))", integers=integers)
    (data,) = load(source, seed=0)
    assert isinstance(data.train, Tensors)
    assert data.shape == (1,)
    assert data.dtype == data.train.x.dtype == (dtype if integers else torch.float32)


RANDOM = """
    class Noisy(TensorDataset):
        def __getitem__(self, row):
            x, y = super().__getitem__(row)
            return x + torch.randn(3), y
    return Noisy(x, y)
"""
FLOW = "class Flow(IterableDataset):\n        __iter__ = None\n    return Flow()"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("return {'train': TensorDataset(x, y), 'val': [(x, y)]}", ("returns a dict of train, val; "
         "it must return a torch.utils.data.Dataset, or a tuple of them: train, val, and test if "
         "there is one. Return the datasets of a dict as such a tuple.")),
        ("return 3", ("returns an int; it must return a torch.utils.data.Dataset, or a tuple of "
         "them: train, val, and test if there is one.")),
        ("return (i for i in range(3))", ("returns a generator; it must return a torch.utils.data."
         "Dataset, or a tuple of them: train, val, and test if there is one.")),
        (FLOW, ("returns a Flow, an IterableDataset, whose examples cannot be split by their "
         "places. Return list(dataset) if it fits into memory, else a Dataset with __getitem__ and "
         "__len__.")),
        (RANDOM, ("gives another x for example 0 each time. Examples are read once, and tell the "
         "data from others: let them be fixed, and what is random be `flip`, `crop`, `noise`, "
         "`mixup` or a layer of your own model.")),
        ("return x, y.numpy()", ("returns a tuple of arrays; of x and y, return torch.utils.data."
         "TensorDataset(x, y), made of tensors.")),
        ("return []", "returns a list of no length; len() must give how many examples it has."),
        ("return TensorDataset(x)", "gives a tuple of 1; an example is a pair (x, y)."),
        ("return TensorDataset(x, y, y)", "gives a tuple of 3; an example is a pair (x, y)."),
        ("return [{'image': i, 'label': 1} for i in x]", ("gives a dict of image, label; an "
         "example is a pair (x, y). Return two of its values as a tuple.")),
        ("return [(Image.new('RGB', (8, 8)), 1)] * 9", ("x is an Image; it must be a tensor or an "
         "array of numbers. Return torchvision's ToTensor()(x), or np.asarray(x).")),
        ("return [('red', 1)] * 9", "x is a str; it must be a tensor or an array of numbers."),
        ("return TensorDataset(x, x)",
         ("y is a Tensor of shape (3,); it must be one number or text. Of a one-hot y, return "
          "y.argmax().")),
        ("return [(x[:i + 1], i % 2) for i in range(40)]", ("example 1 has the shape (2, 3), and "
         "example 0 (1, 3); all must have one.")),
        ("return TensorDataset(x / 0, y)", ("is NaN or infinite in 180 places, the first of them "
         "[0, 0]. Fill them in: only tables in files are filled in here.")),
    ],
)  # fmt: skip
def test_what_is_wrong_in_own_data_is_told(tmp_path: Path, body: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        load(own(tmp_path, f"def make():\n    {body}"), seed=0)
    assert str(caught.value).endswith(message)


def test_a_transform_that_is_drawn_now_and_then_is_found(tmp_path: Path) -> None:
    """A chance of one half passes 10 examples, each read three times, once in 2^20 times."""
    body = """
    def make():
        class Flipped(TensorDataset):
            def __getitem__(self, row):
                x, y = super().__getitem__(row)
                return (x.flip(-1) if torch.rand(1) < 0.5 else x), y
        return Flipped(x, y)
    """
    for _ in range(10):
        with pytest.raises(DataError, match=r"another x for example \d+ each time"):
            load(own(tmp_path, body), seed=0)


def test_what_is_wrong_in_own_code_is_told(tmp_path: Path) -> None:
    with pytest.raises(CodeError, match=r"has nothing to call named 'make'\."):
        load(own(tmp_path, ""), seed=0)
    with pytest.raises(
        CodeError, match=r":make' fails when called without arguments: ZeroDivisionError: division"
    ):
        load(own(tmp_path, "def make():\n    1 / 0"), seed=0)
    source = own(tmp_path, "def make():\n    return [(x, 1)] * 9 + [(x, None)]")
    with pytest.raises(DataError, match=r"y is a NoneType; it must be one number or text\."):
        load(source, seed=0)


def test_a_float_among_integers_is_told(tmp_path: Path) -> None:
    body = "def make():\n    return [([1, i / 2 if i == 7 else i], i % 2) for i in range(40)]"
    source = own(tmp_path, body)
    assert load(source, seed=0)[0].dtype == torch.float32
    with pytest.raises(DataError, match=r"x of example 7 is of torch.float32, and that of exam"):
        load(replace(source, integers=True), seed=0)


@pytest.mark.usefixtures("without_memory")
def test_an_example_that_a_worker_cannot_read_is_told(tmp_path: Path) -> None:
    source = own(tmp_path, "def make():\n    return [(0.0, 1)] * 1500 + [(0.0, None)]")
    with pytest.raises(DataError, match=r"^'\w+:make': y is a NoneType; it must be one number or"):
        load(source, seed=0)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (
            "[1.0, float('nan')]",
            r"^x of example 7 of '\w+:make' is NaN or infinite in 1 place, the first of them \[1\]",
        ),
        ("[1.0]", r"^example 7 has the shape \(1,\), and example 0 \(2,\); all must have one"),
    ],
)
@pytest.mark.parametrize("room", [0, 2**30])
def test_an_example_of_another_kind_is_told_before_any_training(
    x: str, message: str, room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpo.trainers.data.own.room", lambda device: room)  # noqa: ARG005
    body = f"def make():\n    return [([1.0, 2.0] if i != 7 else {x}, i % 2) for i in range(60)]"
    if room:
        message = message.replace(r"x of example 7 of", "the data of").replace(
            r"\[1\]", r"\[7, 1\]"
        )
    with pytest.raises(DataError, match=message):
        load(own(tmp_path, body), seed=0)


class Broken(TensorDataset):
    """A dataset whose last example cannot be read."""

    def __getitem__(self, row: int) -> Any:
        if row == 59:
            raise OSError("the disk is gone")
        return X[row], row


@pytest.mark.parametrize("n_workers", [0, 1])
def test_an_error_of_a_dataset_is_its_own_and_the_stream_goes_on(n_workers: int) -> None:
    stream = Stream(Broken(X), Y, torch.arange(60), n_workers=n_workers)
    for _ in range(2):
        batches = stream.batches([30, 30])
        assert torch.equal(next(batches)[0], X[:30])
        with pytest.raises(OSError, match="the disk is gone"):
            next(batches)


def paint(path: Path, *, mode: str = "RGB", size: tuple[int, int] = (6, 5), seed: int = 0) -> None:
    """An image of noise, whose red is bright."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 200, (size[1], size[0], 3), dtype=np.uint8)
    pixels[..., 0] += 55
    Image.fromarray(pixels).convert(mode).save(path)


def gallery(tmp_path: Path, **settings: Any) -> Source:
    """Ten images of each of two classes, and other files beside them."""
    for i in range(10):
        paint(tmp_path / "pictures" / "cat" / f"{i}.png", seed=i)
        paint(tmp_path / "pictures" / "dog" / "more" / f"{i}.BMP", seed=10 + i)
    (tmp_path / "pictures" / "cat" / "notes.txt").write_text("all of cats")
    (tmp_path / "pictures" / ".cache").mkdir()
    return Source("pictures", folder=tmp_path, **settings)


def raw(data: Data, part: str) -> Any:
    """The pixels of a part, (n, channels, height, width)."""
    x = getattr(data, part).x.numpy()
    return (x * data.transformer.deviation_ + data.transformer.mean_).round()


def test_a_folder_has_a_class_for_each_folder_in_it(tmp_path: Path) -> None:
    (data,) = load(gallery(tmp_path), seed=0)
    assert data.classes == ("cat", "dog")
    assert data.shape == (3, 5, 6)
    assert (len(data.train), len(data.val), len(data.test)) == (12, 4, 4)
    assert isinstance(data.train, Tensors)
    assert data.train.x.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    assert (data.train.x.std(dim=(0, 2, 3), correction=0) - 1).abs().max() < 1e-4
    ((rows, _, _),) = splits(np.arange(20) // 10, data.classes, seed=0)
    first = rows[0]
    kind, name = ("cat", f"{first}.png") if first < 10 else ("dog/more", f"{first - 10}.BMP")
    with Image.open(tmp_path / "pictures" / kind / name) as image:
        pixels = np.array(image).transpose(2, 0, 1)
    assert np.array_equal(raw(data, "train")[0], pixels)
    assert np.allclose(data.transformer.transform(pixels[None])[0], data.train.x[0])


def test_folders_for_parts_are_respected(tmp_path: Path) -> None:
    for part, n in (("train", 8), ("test", 5)):
        for i in range(n):
            for kind in ("cat", "dog"):
                paint(tmp_path / "pictures" / part / kind / f"{i}.png", seed=i)
    (data,) = load(Source("pictures", folder=tmp_path), seed=0)
    assert (len(data.train), len(data.val), len(data.test)) == (12, 4, 10)
    assert isinstance(data.test, Tensors)
    assert data.test.y.tolist() == [0] * 5 + [1] * 5


def test_grey_images_have_one_channel_and_any_colour_makes_three(tmp_path: Path) -> None:
    for i in range(5):
        for kind in ("a", "b"):
            paint(tmp_path / "grey" / kind / f"{i}.png", mode="L", seed=i)
            paint(tmp_path / "mixed" / kind / f"{i}.png", mode=["L", "P", "RGBA"][i % 3], seed=i)
    shapes = [load(Source(each, folder=tmp_path), seed=0)[0].shape for each in ("grey", "mixed")]
    assert shapes == [(1, 5, 6), (3, 5, 6)]


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif"])
def test_photos_are_upright_as_they_are_shown(tmp_path: Path, suffix: str) -> None:
    pixels = np.zeros((8, 16, 3), dtype=np.uint8)
    pixels[:, :8] = 255  # left; where the camera was held upright, above
    for i in range(10):
        path = tmp_path / "photos" / "ab"[i % 2] / f"{i}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(pixels)
        exif = image.getexif()
        exif[ExifTags.Base.Orientation] = 6
        image.save(path, exif=exif)
    paint(tmp_path / "photos" / "a" / "upright.png", size=(8, 16))
    (data,) = load(Source("photos", folder=tmp_path), seed=0)
    assert data.shape == (3, 16, 8)
    above, below = np.split(raw(data, "val"), 2, axis=2)
    assert np.median(above) > 200
    assert np.median(below) < 50


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    for i in range(10):
        for mode in ("RGBA", "LA", "P"):
            path = tmp_path / "icons" / "ab"[i % 2] / f"{mode}{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            if mode == "P":
                Image.new("P", (4, 4), 0).save(path, transparency=0)
            else:
                Image.new(mode, (4, 4), (0,) * len(mode)).save(path)
    (data,) = load(Source("icons", folder=tmp_path), seed=0)
    assert (raw(data, "train") == 255).all()


def test_folders_of_parts_may_be_called_as_others_call_them(tmp_path: Path) -> None:
    sizes = {"Training": 7, "validation": 4, "Testing": 3}
    for part, n in sizes.items():
        for k in range(n):
            for name in ("cat", "Train"):
                paint(tmp_path / "pictures" / part / name / f"{k}.png", seed=k)
    (data,) = load(Source("pictures", folder=tmp_path), seed=0)
    assert data.classes == ("Train", "cat")
    assert (len(data.train), len(data.val), len(data.test)) == (14, 8, 6)
    classes = Source("pictures/Training", folder=tmp_path)  # of which one is no part
    assert load(classes, seed=0)[0].classes == ("Train", "cat")


def test_hidden_files_are_no_images(tmp_path: Path) -> None:
    source = gallery(tmp_path)
    for name in ("cat/._1.png", "dog/.thumbnails/1.png"):
        (tmp_path / "pictures" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "pictures" / name).write_bytes(b"no image")
    (data,) = load(source, seed=0)
    assert (len(data.train), len(data.val), len(data.test)) == (12, 4, 4)


def test_images_are_scaled_and_cropped_to_the_middle(tmp_path: Path) -> None:
    # Left and right of a white square are black borders.
    for i in range(10):
        pixels = np.zeros((8, 24), dtype=np.uint8)
        pixels[:, 8:16] = 255
        path = tmp_path / "pictures" / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).resize((24 * (i + 1), 8 * (i + 1)), Image.Resampling.NEAREST).save(
            path
        )
    (data,) = load(Source("pictures", image_size=4, folder=tmp_path), seed=0)
    assert data.shape == (1, 4, 4)
    assert (raw(data, "train") > 200).all()


@pytest.mark.parametrize("settings", [{}, {"image_size": 4}, {"folds": 2}])
def test_images_that_do_not_fit_give_the_same_minibatches(
    tmp_path: Path, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = gallery(tmp_path, **settings)
    held = load(source, seed=1)
    monkeypatch.setattr("hpo.trainers.data.images.room", lambda device: 0)  # noqa: ARG005
    streamed = load(source, seed=1)
    for one, other in zip(held, streamed, strict=True):
        assert one.shape == other.shape
        for part in ("train", "val", "test"):
            ours, others = getattr(one, part), getattr(other, part)
            assert isinstance(others, Stream)
            assert same_minibatches(ours, others, [3, len(ours) - 3])
    # However much memory is free, it is the same data to `best --test` and `export`.
    assert [data.digest for data in held] == [data.digest for data in streamed]


def test_what_is_wrong_in_a_folder_of_images_is_told(tmp_path: Path) -> None:
    source = gallery(tmp_path)
    cats = tmp_path / "pictures" / "cat"
    paint(cats / "a.png", size=(7, 7))
    with pytest.raises(DataError) as caught:
        load(source, seed=0)
    assert str(caught.value) == (
        "the images of 'pictures' differ in size: 0.png has 6 x 5, a.png has 7 x 7. Give "
        "`image_size`, the pixels that each side is to have."
    )
    (cats / "a.png").write_text("no image")
    with pytest.raises(DataError, match=r"^the image .*cat/a\.png cannot be read: cannot identify"):
        load(source, seed=0)
    whole = (cats / "1.png").read_bytes()
    (cats / "a.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"^the image .*cat/a\.png cannot be read: .*truncated"):
        load(source, seed=0)
    Image.fromarray(np.zeros((5, 6), dtype=np.uint16)).save(cats / "a.png")
    with pytest.raises(DataError, match=r"cat/a\.png has more than 8 bits a pixel; save it with 8"):
        load(source, seed=0)


@pytest.mark.parametrize("share", [0.0, 0.6])
def test_of_several_images_that_cannot_be_read_all_are_counted(
    tmp_path: Path, share: float
) -> None:
    """Those that are no images, and those of which only the beginning is there."""
    source = gallery(tmp_path)
    paths = sorted((tmp_path / "pictures").rglob("*.png"))
    for path in paths[:4]:
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(DataError) as caught:
        load(source, seed=0)
    said = str(caught.value)
    assert said.startswith("4 of 20 images are of no use: the image ")
    assert [str(path) in said for path in paths[:4]] == [True, True, True, False]
    assert said.endswith("; and so on.")


RNG = np.random.default_rng(0)
LABELS = RNG.permutation(60) % 3
ARRAYS: dict[str, dict[str, Any]] = {
    "table": {"x": RNG.normal(3, 2, (60, 4)).astype(np.float32), "y": LABELS},
    "integers": {"x": RNG.integers(0, 9, (60, 4)), "y": LABELS},
    "by columns": {"x": np.asfortranarray(RNG.normal(3, 2, (60, 4))), "y": LABELS},
    "big-endian": {"x": RNG.normal(3, 2, (60, 4)).astype(">f4"), "y": LABELS},
    "bytes": {"x": RNG.integers(0, 255, (60, 8, 9, 3), np.uint8), "y": LABELS},
    "half": {"x": RNG.normal(0, 2, (60, 2, 8, 9)).astype(np.float16), "y": LABELS},
    "grey": {"x": RNG.normal(0, 2, (60, 8, 9)), "y": RNG.normal(size=60)},
    "parts": {
        "x_train": RNG.integers(0, 255, (40, 6, 6), np.uint8),
        "y_train": LABELS[:40],
        "x_test": RNG.normal(0, 2, (20, 6, 6)),
        "y_test": LABELS[40:],
    },
}
"""What npz and pt files hold."""


@pytest.mark.parametrize("name", ["a.npz", "b.npz", "a.pt"])
@pytest.mark.parametrize("arrays", ARRAYS.values(), ids=list(ARRAYS))
@pytest.mark.parametrize("own", ["standardised", "integers"])
def test_arrays_that_do_not_fit_give_the_same_minibatches(
    arrays: dict[str, Any],
    name: str,
    own: str,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    path = tmp_path / name
    if name == "a.pt":
        native = {k: x.astype(x.dtype.newbyteorder("=")) for k, x in arrays.items()}
        torch.save({k: torch.from_numpy(x) for k, x in native.items()}, path)
    else:
        (np.savez if name == "a.npz" else np.savez_compressed)(path, **arrays)
    numbers = arrays.get("y", LABELS).dtype.kind == "f"
    task: Any = "regression" if numbers else "classification"
    source = Source(name, task, folder=tmp_path, integers=own == "integers")
    in_memory = load(source, seed=1)[0]
    request.getfixturevalue("without_memory")
    streamed = load(source, seed=1)[0]
    assert isinstance(streamed.train, Stream)
    assert (streamed.shape, streamed.dtype) == (in_memory.shape, in_memory.dtype)
    for part in ("train", "val", "test"):
        ours, theirs = getattr(streamed, part), getattr(in_memory, part)
        n = len(theirs)
        assert same_minibatches(ours, theirs, [16] * (n // 16) + [n % 16] * (n % 16 > 0))
    assert streamed.digest == in_memory.digest
    examples = next(iter(arrays.values()))[:5]
    if in_memory.transformer is not None:  # as exported models are given them
        before, after = (d.transformer.transform(examples) for d in (in_memory, streamed))
        assert np.array_equal(before, after)


def test_folds_of_arrays_that_do_not_fit_are_those_of_memory(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    np.savez(tmp_path / "a.npz", **ARRAYS["bytes"])
    source = Source("a.npz", folder=tmp_path, folds=3)
    in_memory = load(source, seed=0)
    request.getfixturevalue("without_memory")
    for ours, theirs in zip(load(source, seed=0), in_memory, strict=True):
        assert ours.digest == theirs.digest
        assert same_minibatches(ours.val, theirs.val, [len(theirs.val)])


@pytest.mark.parametrize("room", [0, 2**30])
@pytest.mark.parametrize(
    ("x", "is_right"),
    [
        (np.where(np.arange(3840).reshape(60, 8, 8) % 77, 1.0, 1e60), False),
        (RNG.normal(size=(60, 3)) * [1, 1e200, 1], False),
        (RNG.normal(size=(60, 3)) * [1, 1e30, 1], True),
    ],
    ids=["pixel", "column", "large"],
)
def test_features_beyond_all_measure_are_told_wherever_they_lie(
    x: Any, is_right: object, room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpo.trainers.data.arrays.room", lambda device: room)  # noqa: ARG005
    np.savez(tmp_path / "a.npz", x=x, y=LABELS)
    source = Source("a.npz", folder=tmp_path)
    if is_right:
        assert load(source, seed=0)[0].shape == (3,)
    else:
        with pytest.raises(DataError, match=r"^some features are too large to calculate with"):
            load(source, seed=0)


@pytest.mark.parametrize("room", [0, 2**30])
def test_an_example_of_nothing_is_no_reason_to_fall(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hpo.trainers.data.own.room", lambda device: room)  # noqa: ARG005
    source = own(tmp_path, "def make():\n    return [(torch.zeros(0), i % 2) for i in range(60)]")
    assert load(source, seed=0)[0].shape == (0,)


def test_arrays_that_do_not_fit_are_left_on_disk(tmp_path: Path) -> None:
    """In a process of its own, which holds less than the file does."""
    x = np.zeros((1000, 180, 180), np.float32)  # 124 MiB
    x[:, 0, 0] = np.arange(len(x))
    np.savez(tmp_path / "a.npz", x=x, y=np.arange(len(x)) % 2)
    torch.save({"x": torch.from_numpy(x), "y": torch.arange(len(x)) % 2}, tmp_path / "a.pt")
    del x
    script = """
        import re, sys
        from pathlib import Path
        import hpo.trainers.data.arrays as arrays
        from hpo.trainers.data import Source, load
        arrays.room = lambda device: 2**20
        def held():
            status = Path("/proc/self/status").read_text()
            return int(re.search(r"RssAnon:\\s+(\\d+) kB", status)[1])
        for name in ("a.npz", "a.pt"):
            before = held()
            data, = load(Source(name, folder=Path(sys.argv[1])), seed=0)
            x, y = next(data.train.batches([64] + [1] * (len(data.train) - 64)))
            print(held() - before, tuple(x.shape))
    """
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    for line in done.stdout.splitlines():
        kib, shape = line.split(maxsplit=1)
        assert shape == "(64, 1, 180, 180)"
        assert int(kib) < 60 * 1024
