"""Built-in data sets, splits, and what is told of a source before it is loaded."""

import dataclasses
import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_diabetes, load_digits

from hpo.cli.described import described
from hpo.trainers.data import Source, describe, load, load_data, mistakes_of, names
from hpo.trainers.data.memory import room
from hpo.trainers.data.parts import Data, HostTensors, Tensors
from hpo.trainers.data.source import image_classes
from hpo.trainers.data.splits import splits
from hpo.trainers.devices import choose
from hpo.trainers.errors import ConfigError, DataError

CPU = torch.device("cpu")


def built_in(name: str) -> Source:
    return Source(name, task=describe(name).task or "classification")


def tensors(part: object) -> Tensors:
    assert isinstance(part, Tensors)
    return part


def generator(seed: int | None) -> torch.Generator | None:
    return None if seed is None else torch.Generator().manual_seed(seed)


def same(a: Data, b: Data) -> bool:
    ones, others = tensors(a.train), tensors(b.train)
    return torch.equal(ones.x, others.x) and torch.equal(ones.y, others.y)


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("seed", [0, 5])
def test_what_is_described_is_what_is_loaded(name: str, seed: int) -> None:
    described, (data,) = describe(name), load(built_in(name), seed=seed)
    assert data.name == name
    assert data.task == described.task
    assert len(data.train) == described.n_train
    if described.image_shape:
        assert data.shape == described.image_shape
    for part in map(tensors, (data.train, data.val, data.test)):
        assert part.x.shape == (len(part), *data.shape)
        assert part.x.dtype == torch.float32
        assert part.x.isfinite().all()
        if data.task == "classification":
            assert part.y.dtype == torch.int64
            assert set(part.y.tolist()) == set(range(data.n_outputs))
        else:
            assert part.y.dtype == torch.float32


@pytest.mark.parametrize("name", names())
def test_only_the_training_part_sets_mean_and_deviation(name: str) -> None:
    (data,) = load(built_in(name), seed=0)
    x = tensors(data.train).x
    mean, deviation = x.mean(dim=0), x.std(dim=0, correction=0)
    constant = deviation == 0
    assert mean.abs().max() < 1e-5
    assert (deviation[~constant] - 1).abs().max() < 1e-4
    assert tensors(data.val).x.mean(dim=0).abs().max() > 1e-3
    assert constant.any() == (name == "digits")  # the corner pixels of digits are never inked


def test_the_transformer_maps_raw_examples_to_features() -> None:
    (data,) = load(Source("wine"), seed=0)
    train = tensors(data.train).x
    raw = data.transformer.inverse_transform(train.numpy())
    assert np.allclose(data.transformer.transform(raw), train, atol=1e-4)


def test_a_number_to_predict_is_standardised_by_the_training_part() -> None:
    (data,) = load(built_in("diabetes"), seed=1)
    y = tensors(data.train).y
    assert data.n_outputs == 1
    assert abs(y.mean()) < 1e-5
    assert abs(y.std(correction=0) - 1) < 1e-5
    everything = torch.cat([tensors(part).y for part in (data.train, data.val, data.test)])
    restored = (everything * data.target_deviation + data.target_mean).sort().values
    assert np.allclose(restored, np.sort(load_diabetes().target), atol=1e-3)


def test_the_classes_of_a_built_in_set_keep_their_numbers() -> None:
    (data,) = load(Source("breast_cancer"), seed=0)
    assert data.classes == ("malignant", "benign")


def test_the_rows_of_an_image_are_in_order() -> None:
    bunch = load_digits()
    image = bunch.data[7].reshape(describe("digits").image_shape)[0]
    assert (image == bunch.images[7]).all()


def test_the_parts_are_disjoint_complete_and_stratified() -> None:
    y = np.random.default_rng(0).choice(4, size=1003, p=[0.6, 0.3, 0.08, 0.02])
    (parts,) = splits(y, "abcd", seed=5)
    assert sorted(np.concatenate(parts)) == list(range(len(y)))
    for part, share in zip(parts, (0.6, 0.2, 0.2), strict=True):
        expected = np.bincount(y) * share
        assert np.abs(np.bincount(y[part]) - expected).max() < 2


def test_a_seed_splits_as_it_always_did() -> None:
    # Results of earlier versions can be compared with today's only on equal parts.
    (parts,) = splits(np.arange(40) % 4, "abcd", seed=7)
    assert parts[1].tolist() == [26, 4, 0, 33, 29, 19, 15, 30]
    assert parts[2].tolist() == [22, 17, 27, 12, 31, 37, 8, 34]


@pytest.mark.parametrize("classes", ["abc", ""])
def test_folds_share_the_test_part_and_validate_on_every_other_example(classes: str) -> None:
    y = np.arange(100) % 3
    found = list(splits(y, classes, seed=3, folds=4))
    assert len(found) == 4
    for train, val, test in found:
        assert test.tolist() == found[0][2].tolist()
        assert sorted(np.concatenate([train, val, test])) == list(range(100))
        if classes:
            assert np.ptp(np.bincount(y[val])) <= 1
    assert sorted(np.concatenate([val for _, val, _ in found])) == sorted(
        set(range(100)) - {*found[0][2].tolist()}
    )


def test_each_fold_is_transformed_by_its_own_training_part() -> None:
    folds = load(Source("iris", folds=3), seed=0)
    assert len({tuple(data.transformer.mean_) for data in folds}) == 3
    for data in folds:
        assert tensors(data.train).x.mean(dim=0).abs().max() < 1e-5
    tests = [data.transformer.inverse_transform(tensors(data.test).x.numpy()) for data in folds]
    assert np.allclose(tests[0], tests[1], atol=1e-4)


def test_parts_that_the_data_gives_stay_what_they_are() -> None:
    y, test, val = np.arange(60) % 2, np.arange(50, 60), np.arange(40, 50)
    (found,) = splits(y, "ab", seed=0, given={"test": test, "val": val})
    assert [part.tolist() for part in found] == [list(range(40)), val.tolist(), test.tolist()]
    (found,) = splits(y, "ab", seed=0, given={"test": test})
    assert found[2].tolist() == test.tolist()
    assert sorted([*found[0], *found[1]]) == list(range(50))
    folds = list(splits(y, "ab", seed=0, given={"test": test, "val": val}, folds=5))
    assert sorted(np.concatenate([val for _, val, _ in folds])) == list(range(50))


@pytest.mark.parametrize(
    ("y", "folds", "message"),
    [
        ([0] * 9 + [1], None, "the label 'b' appears once among the 10 examples to split; 3 is"),
        ([0] * 9 + [1] * 2, None, "the label 'b' appears 2 times among the 11"),
        ([0] * 9 + [1] * 5, 5, "the label 'b' appears 5 times among the 14 examples to split; 6"),
        ([0, 1, 2] * 50, 99, ("the label 'a' appears 50 times among the 150 examples to split; 100 "
         "is the least with objective.folds 99. Give fewer folds: up to 40 will do. Or leave it")),
        ([*range(10)] * 3, None, ("30 examples of 10 classes are too few to split off 20% with one "
         "of each class: at least 50 are needed.")),
        ([0, 1], None, "2 examples are too few to split; 3 is the least."),
    ],
)  # fmt: skip
def test_too_few_examples_of_a_class_are_told(
    y: list[int], folds: int | None, message: str
) -> None:
    with pytest.raises(DataError, match=f"^{message}"):
        list(splits(np.array(y), "abcdefghij", seed=0, folds=folds))


@pytest.mark.parametrize("n", [5, 7, 50])
def test_as_many_folds_as_are_told_can_be_made(n: int) -> None:
    y = np.array([0, 1] * n)
    with pytest.raises(DataError) as caught:
        list(splits(y, "ab", seed=0, folds=n))
    most = int(str(caught.value).partition("up to ")[2].partition(" ")[0])
    for seed in range(5):
        assert len(list(splits(y, "ab", seed=seed, folds=most))) == most


def test_a_class_that_cannot_be_learned_is_told() -> None:
    y, test = np.array([0, 1] * 10 + [2, 0]), np.array([20, 21])
    with pytest.raises(DataError) as caught:
        list(splits(y, "abc", seed=0, given={"test": test}))
    assert str(caught.value) == "the label 'c' is in the test part, and in no training one."


@pytest.mark.parametrize("n", range(3, 40))
def test_every_class_that_is_frequent_enough_can_be_split(n: int) -> None:
    y = np.array([0] * 30 + [1] * n)
    for seed in range(5):
        (parts,) = splits(y, "ab", seed=seed)
        assert sum(map(len, parts)) == len(y)


def test_numbers_need_one_example_for_each_part() -> None:
    (parts,) = splits(np.array([0.1, 0.2, 0.3]), seed=0)
    assert [len(part) for part in parts] == [1, 1, 1]
    with pytest.raises(DataError, match=r"too few to split; 4 is the least with objective.folds 3"):
        list(splits(np.array([0.1, 0.2, 0.3]), seed=0, folds=3))


def test_seeds_decide_the_split() -> None:
    one, equal, other = (load(Source("iris"), seed=seed)[0] for seed in (3, 3, 4))
    assert same(one, equal)
    assert not same(one, other)
    assert same(*(load(Source("iris"), seed=2**63)[0] for _ in range(2)))


@pytest.mark.parametrize(
    ("source", "told"),
    [
        (Source("breast_cancer", positive="malignant"),
         "569 examples, 30 features, classes malignant (212, positive), benign (357)"),
        (Source("breast_cancer"),
         "569 examples, 30 features, classes malignant (212), benign (357, positive)"),
        (Source("iris", folds=3),
         "150 examples, 4 features, classes setosa (50), versicolor (50), virginica (50)"),
        (Source("diabetes", "regression"), "442 examples, 10 features, target from 25 to 346"),
    ],
)  # fmt: skip
def test_data_is_described_in_a_line(source: Source, told: str) -> None:
    assert described(load(source, seed=0)[0], source.positive) == told


def test_images_are_described_by_their_size() -> None:
    told = described(load(Source("digits"), seed=0)[0])
    assert told.startswith("1,797 examples, images of 1 channel, 8 x 8, classes 0 (178), 1 (182),")


def test_a_data_set_is_loaded_once() -> None:
    assert load_data(Source("iris"), 0) is load_data(Source("iris"), 0)
    assert load_data(Source("iris"), 0) is not load_data(Source("iris"), 1)


def test_moving_to_where_it_is_copies_nothing() -> None:
    (data,) = load(Source("iris"), seed=0)
    moved = data.to(CPU)
    assert tensors(moved.train).x.data_ptr() == tensors(data.train).x.data_ptr()


def test_a_digest_tells_data_apart_wherever_it_is() -> None:
    (data,) = load(Source("iris"), seed=0)
    part = tensors(data.train)
    changed = part.x.clone()
    changed[3, 1] += 1e-3
    assert data.digest == load(Source("iris"), seed=0)[0].digest
    assert data.digest == data.to(torch.device("meta")).digest  # where there is nothing to read
    for other in (Tensors(changed, part.y), Tensors(part.x, part.y.flip(0))):
        assert dataclasses.replace(data, train=other).digest != data.digest
    assert load(Source("iris"), seed=1)[0].digest != data.digest


def test_a_digest_tells_the_unit_of_a_regressions_target() -> None:
    (data,) = load(built_in("diabetes"), seed=0)
    assert dataclasses.replace(data, target_deviation=100.0).digest != data.digest


def test_what_a_device_has_no_room_for_stays_on_the_host(monkeypatch: pytest.MonkeyPatch) -> None:
    (data,) = load(Source("digits"), seed=0)
    there = torch.device("meta")  # the one device besides the CPU that any machine has
    assert isinstance(data.to(there).train, Tensors)
    monkeypatch.setattr("hpo.trainers.data.parts.room", lambda device: 2**17)  # noqa: ARG005
    moved = data.to(there)
    assert isinstance(moved.train, HostTensors)
    assert isinstance(moved.test, Tensors)
    x, _ = next(iter(moved.train.batches([77, 1000])))
    assert x.device == there
    assert x.shape == (77, *data.shape)


def test_a_tensor_on_the_host_gives_the_same_minibatches() -> None:
    part = tensors(load(Source("iris"), seed=0)[0].train)
    on_host = HostTensors(part.x, part.y, CPU)
    for seed in (None, 1):
        ours, others = ([*each.batches([40, 40, 10], generator(seed))] for each in (part, on_host))
        assert all(map(torch.equal, sum(ours, ()), sum(others, ())))
    assert on_host.to(CPU) is on_host
    assert isinstance(on_host.to(torch.device("meta")), Tensors)
    assert len(on_host) == 90


def test_a_tensor_on_the_host_is_pinned_on_its_way_to_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def pin(tensor: torch.Tensor) -> torch.Tensor:
        raise RuntimeError(f"{len(tensor)} were pinned")

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    x, y = torch.zeros(9, 2), torch.zeros(9)
    with pytest.raises(RuntimeError, match="4 were pinned"):
        next(HostTensors(x, y, torch.device("cuda")).batches([4, 5]))
    assert len([*HostTensors(x, y, CPU).batches([4, 5])]) == 2


def test_there_is_room_for_data_in_memory() -> None:
    assert 2**20 < room(CPU) < 2**50


@pytest.mark.parametrize("version", [1, 2])
def test_a_container_has_the_memory_that_it_was_given(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = {
        1: ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "memory/memory.stat"),
        2: ("memory.max", "memory.current", "memory.stat"),
    }[version]
    (tmp_path / "memory").mkdir()
    stat = {
        1: "cache 9\ntotal_active_file 500\ntotal_inactive_file 2000\n",
        2: "anon 7\ninactive_file 2000\nactive_file 500\n",
    }[version]
    for name, text in zip(names, ("9000\n", "4000\n", stat), strict=True):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr("hpo.trainers.data.memory._CGROUP", tmp_path)
    assert room(CPU) == (9000 - 4000 + 2500) // 4
    (tmp_path / names[0]).write_text("max\n" if version == 2 else "9223372036854771712\n")
    assert room(CPU) > 2**20


def test_data_beyond_all_memory_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_table(*_: object) -> None:
        np.empty(2**60, np.uint8)

    monkeypatch.setattr("hpo.trainers.data.tables.load_table", load_table)
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(
        DataError, match=r"^'a\.csv' does not fit into memory\. Folders of images, a"
    ):
        load(Source("a.csv", target="y", folder=tmp_path), seed=0)


def test_an_unknown_data_set_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"there is no data set 'digit'\. Did you mean 'digits'\?"):
        load(Source("digit"), seed=0)
    with pytest.raises(DataError, match=r"Known: breast_cancer, diabetes, digits, iris, wine\."):
        load(Source("imagenet"), seed=0)
    with pytest.raises(DataError, match=r"there is no data set 'digit'\. Did you mean 'digits'\?"):
        describe("digit")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "people.csv").write_text("age,city,income\n1,a,2\n")
    (tmp_path / "german.csv").write_text("\ufeffage;city\n1;a\n", encoding="utf-8")
    (tmp_path / "german.tsv.gz").write_bytes(gzip.compress(b"age\tcity\n1\ta\n"))
    (tmp_path / "broken.csv.gz").write_bytes(b"age,city\n")
    (tmp_path / "broken.npz").write_bytes(b"no zip")
    (tmp_path / "broken.parquet").write_bytes(b"no parquet")
    (tmp_path / "latin.csv").write_bytes(b"gr\xf6\xdfe,x\n")
    (tmp_path / "wide.csv").write_text(",".join(f"c{i}" for i in range(50)))
    (tmp_path / "spaces.csv").write_text("a b c\n1 2 3\n")
    (tmp_path / "report.xlsx").write_text("")
    np.savez(tmp_path / "arrays.npz", x=np.zeros(3), labels=np.zeros(3))
    np.savez(tmp_path / "capital.npz", X_train=np.zeros(3), Y_train=np.zeros(3))
    np.savez(tmp_path / "strange.npz", a=np.zeros(3), b=np.zeros(3))
    np.savez(tmp_path / "unclear.npz", a=np.zeros(3), b=np.zeros(3), y=np.zeros(3))
    for name in ("empty", "flat", "hollow/cat", "images/cat", "parts/train", ".git/cat",
                 "twice/train/cat", "twice/Training/cat", "called/TRAIN", "spark.parquet",
                 "dask.csv"):  # fmt: skip
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "flat" / "a.png").touch()
    (tmp_path / "images" / "cat" / "a.PNG").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("source", "path", "message"),
    [
        (Source("digit"), "data", "there is no data set 'digit'. Did you mean 'digits'?"),
        (Source("data/poeple.csv"), "data",
         "there is no file 'data/poeple.csv' (looked in FOLDER). Did you mean 'data/people.csv'?"),
        (Source("germn.csv"), "data",
         "there is no file 'germn.csv' (looked in FOLDER). Did you mean 'german.csv'?"),
        (Source("nowhere/x.npz"), "data",
         "there is no file 'nowhere/x.npz' (looked in FOLDER)."),
        (Source("foo.csv"), "data", "there is no file 'foo.csv' (looked in FOLDER)."),
        (Source(""), "data", ("there is no data set ''. Known: breast_cancer, diabetes, digits, "
         "iris, wine. Others are given by their path.")),
        (Source("report.xlsx"), "data", ("'report.xlsx' is neither a folder of images nor one of "
         ".csv, .csv.gz, .tsv, .tsv.gz, .parquet, .npz, .pt.")),
        (Source("digits", target="x"), "target",
         "'digits' has its own targets; `target` is for tables and arrays. Remove it."),
        (Source("images", target="x"), "target",
         "'images' has its own targets; `target` is for tables and arrays. Remove it."),
        (Source("m:f", target="x"), "target",
         "'m:f' has its own targets; `target` is for tables and arrays. Remove it."),
        (Source("digits", image_size=8), "image_size",
         "'digits' is not a folder of images, which `image_size` is for. Remove it."),
        (Source("diabetes"), "data", ("'diabetes' is for regression. For classification there is: "
         "breast_cancer, digits, iris, wine.")),
        (Source("digits", "regression"), "data",
         "'digits' is for classification. For regression there is: diabetes."),
        (Source("images", "regression"), "data",
         "the folder 'images' has classes; regression needs numbers."),
        (Source("data/people.csv"), "target", ("name the column of 'data/people.csv' to predict. "
         "Its columns: age, city, income.")),
        (Source("data/people.csv", target="incme"), "target",
         "'data/people.csv' has no column 'incme'. Did you mean 'income'?"),
        (Source("german.csv", target="town"), "target",
         "'german.csv' has no column 'town'. Known: age, city."),
        (Source("spaces.csv", target="b"), "target", ("'spaces.csv' has no column 'b'. It has one, "
         "'a b c'. Columns are separated by commas, semicolons, tabs or |.")),
        (Source("german.tsv.gz", target="ages"), "target",
         "'german.tsv.gz' has no column 'ages'. Did you mean 'age'?"),
        (Source("wide.csv"), "target", "name the column of 'wide.csv' to predict. Its columns: "
         + ", ".join(f"c{i}" for i in range(20)) + ", ...."),
        (Source("broken.csv.gz", target="x"), "data",
         "'broken.csv.gz' cannot be read: Not a gzipped file (b'ag')."),
        (Source("latin.csv", target="x"), "data",
         "'latin.csv' is not text in UTF-8; save it as such."),
        (Source("broken.npz"), "data", "'broken.npz' cannot be read: File is not a zip file."),
        (Source("broken.parquet", target="x"), "data", "'broken.parquet' cannot be read: "),
        (Source("arrays.npz"), "target",
         "'arrays.npz' has no array 'y'. Did you mean `target: labels`?"),
        (Source("capital.npz"), "target", ("'capital.npz' has no array 'y'. It has 'Y_train'; save "
         "it as 'y_train', beside 'x_train'.")),
        (Source("strange.npz"), "target", "'strange.npz' has no array 'y'. Known: a, b."),
        (Source("arrays.npz", target="label"), "target",
         "'arrays.npz' has no array 'label'. Did you mean 'labels'?"),
        (Source("unclear.npz"), "data",
         "'unclear.npz' must have an array 'x' beside 'y'. It has: a, b, y."),
        (Source("empty"), "data", "'empty' has no folders, one of images for each class."),
        (Source("flat"), "data", "'flat' has no folders, one of images for each class."),
        (Source("parts"), "data", "'parts/train' has no folders, one of images for each class."),
        (Source("twice"), "data", ("'twice' has two folders of one part, 'Training' and 'train'. "
         "Put them together.")),
        (Source("spark.parquet/", target="y"), "data", ("'spark.parquet/' is a folder, perhaps of "
         "a table's parts. Make one file of them: pandas.read_parquet('spark.parquet/').to_parquet("
         "'table.parquet').")),
        (Source("dask.csv", target="y"), "data",
         "'dask.csv' is a folder, perhaps of a table's parts. Make one file of them."),
        (Source("called"), "data", "the folder 'called/TRAIN' has no images. Known: .bmp, "),
        (Source("hollow"), "data", "the folder 'hollow/cat' has no images. Known: .bmp, "),
        (Source("hollow/"), "data", "the folder 'hollow/cat' has no images. Known: .bmp, "),
    ],
)  # fmt: skip
def test_a_mistake_is_told_before_anything_is_loaded(
    folder: Path, source: Source, path: str, message: str
) -> None:
    (problem,) = mistakes_of(dataclasses.replace(source, folder=folder))
    message = message.replace("FOLDER", str(folder))
    assert problem.path == (path,)
    assert problem.message == message or (
        message[-1] in " ," and problem.message.startswith(message)
    )


@pytest.mark.parametrize(
    "source",
    [
        Source("iris"),
        Source("diabetes", "regression"),
        Source("my.package:make", "regression"),
        Source("german.csv", target="city"),
        Source("german.tsv.gz", target="city"),
        Source("arrays.npz", target="labels"),
        Source("images", image_size=32),
    ],
)
def test_a_source_without_mistakes_has_none(folder: Path, source: Source) -> None:
    assert not list(mistakes_of(dataclasses.replace(source, folder=folder)))


def images(folder: Path, *paths: str) -> Source:
    """A folder of images that are empty files; a path with a slash at its end is a folder."""
    for path in paths:
        file = folder / "pets" / path
        (file if path.endswith("/") else file.parent).mkdir(parents=True, exist_ok=True)
        if not path.endswith("/"):
            file.touch()
    return Source("pets", folder=folder)


@pytest.mark.parametrize(
    ("paths", "message"),
    [
        (["train/cat/a.png", "train/dog/a.png", "val/cat/"],
         "the folder 'pets/val/cat' has no images. Known: "),
        (["train/cat/a.png", "train/dog/a.png", "test/a.png"], "'pets/test' has no folders, one "),
        (["Training/cat/a.png", "Training/dog/a.png", "Testing/a.png"],
         "'pets/Testing' has no folders, one "),
        (["train/cat/a.png", "Test/a.png"], "'pets/Test' has no folders, one "),
        (["train/cat/a.png", "Test/a.png", "more/a.png"], "'pets/Test' has no folders, one "),
        (["train/cat/a.png", "Test/cat/a.png", "more/a.png"],
         "'pets' has 'Test' beside 'more', which is no part. Call it 'test'."),
        (["all/cat/a.png", "all/dog/a.png", "__MACOSX/all/cat/._a.png"],
         "all of 'pets' is one folder; take `data: pets/all`, where classes are."),
        (["all/pets/cat/a.png", "all/pets/dog/a.png", "all/more/"],
         "all of 'pets' is one folder; take `data: pets/all`, where classes are."),
        (["all/pets/train/cat/a.png", "all/pets/test/cat/a.png"],
         "all of 'pets' is one folder; take `data: pets/all/pets`, where classes are."),
        (["Training/cat/a.png", "TRAIN/cat/a.png"],
         "'pets' has two folders of one part, 'TRAIN' and 'Training'. Put them together."),
    ],
)  # fmt: skip
def test_a_part_that_cannot_be_taken_is_told_by_its_name(
    tmp_path: Path, paths: list[str], message: str
) -> None:
    with pytest.raises(DataError) as caught:
        image_classes(images(tmp_path, *paths))
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        (["Training/cat/a.png", "Valid/cat/a.png", "TEST/cat/a.png"],
         {"train": ["cat"], "val": ["cat"], "test": ["cat"]}),
        (["train/cat/a.png", "Test/cat/a.png"], {"train": ["cat"], "test": ["cat"]}),
        (["train/cat/a.png", "more/a.png"], {"train": ["cat"]}),
        (["bus/a.png", "car/a.png", "Train/2020/a.png"], {"all": ["Train", "bus", "car"]}),
        (["bus/a.png", "Train/2020/a.png", "Training/a.png"],
         {"all": ["Train", "Training", "bus"]}),
        (["Test/a.png", "Train/a.png"], {"all": ["Test", "Train"]}),
        (["cat/a.png", "test/cat/a.png"], {"all": ["cat", "test"]}),
        (["cat/a.png", "dog/2020/a.png", "__MACOSX/cat/a.png"], {"all": ["cat", "dog"]}),
        (["cat/2020/a.png"], {"all": ["cat"]}),
    ],
)  # fmt: skip
def test_folders_are_parts_or_classes_and_none_is_lost(
    tmp_path: Path, paths: list[str], found: dict[str, list[str]]
) -> None:
    parts = image_classes(images(tmp_path, *paths))
    assert {part: [*classes] for part, classes in parts.items()} == found


def test_several_mistakes_are_told_at_once(folder: Path) -> None:
    source = Source("diabetes", target="x", image_size=3, folder=folder)
    assert [problem.path for problem in mistakes_of(source)] == [
        ("target",), ("image_size",), ("data",),
    ]  # fmt: skip


def test_a_positive_class_that_is_none_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"no class 'begnin'\. Did you mean 'benign'\?"):
        load(Source("breast_cancer", positive="begnin"), seed=0)


def test_devices_are_chosen_by_name() -> None:
    assert choose("cpu") == CPU
    assert choose("auto").type in {"cuda", "mps", "cpu"}


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "cpu:1", "cuda:", "cuda:x", ""])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"device: there is no device .* It has: .*cpu\."):
        choose(name)
