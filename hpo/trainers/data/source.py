"""Which data a trial is trained on: what a study file says of it, before anything is loaded."""

import csv
import gzip
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Literal, TypeAlias

from hpo.trainers.errors import DataError, Problem, did_you_mean
from hpo.trainers.fields import is_code
from hpo.trainers.goals import Task

Form: TypeAlias = Literal["built-in", "code", "images", "table", "arrays"]

TABLES = (".csv", ".csv.gz", ".tsv", ".tsv.gz", ".parquet")
ARRAYS = (".npz", ".pt")
IMAGES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
PARTS = ("train", "val", "test")
_CALLED = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""What folders of the parts are called, in any case."""
_LIKE_Y = ("y", "label", "labels", "target", "targets", "class", "classes")
"""What else arrays of targets are called, in any case."""
_LEVEL = r"__index_level_\d+__"
_SHOWN = 20
"""How many columns or files a message names."""


@dataclass(frozen=True)
class Description:
    """What is known of a data set before it is loaded.

    Args:
        task: What it is for.
        n_train: Examples in the training part, however it is split; None where nobody knows yet.
        image_shape: Channels, height and width of an example; None where it is a row of a table,
            or where nobody knows yet.
    """

    task: Task | None
    n_train: int | None = None
    image_shape: tuple[int, int, int] | None = None


BUILT_IN: Mapping[str, Description] = MappingProxyType(
    {
        "breast_cancer": Description("classification", 341),
        "diabetes": Description("regression", 264),
        "digits": Description("classification", 1077, (1, 8, 8)),
        "iris": Description("classification", 90),
        "wine": Description("classification", 106),
    }
)
"""The data sets that scikit-learn carries."""


@dataclass(frozen=True)
class Source:
    """A data set by name, path, or the code that makes it.

    Args:
        name: A built-in name; the path of a CSV, Parquet, npz or pt file or of a folder of images;
            or `package.module:callable`, which returns a `torch.utils.data.Dataset`.
        task: What it is to be used for.
        target: The column (CSV, Parquet) or array (npz, pt) to predict.
        positive: Of two classes, the one that is looked for; None is the last.
        image_size: The pixels that images of a folder get on each side; None leaves them.
        folds: Into how many parts the data beside the test part is split, each of which is the
            validation part once; None is one split.
        integers: Whether features that are integers, but for bytes, stay what they are, int64, as
            the user's own network takes them; else all become float32.
        folder: Where a relative path starts, and where code is looked for first.
    """

    name: str
    task: Task = "classification"
    target: str | None = None
    positive: str | None = None
    image_size: int | None = None
    folds: int | None = None
    integers: bool = False
    folder: Path = Path()

    @property
    def path(self) -> Path:
        """The path of a file or folder."""
        return self.folder / self.name

    @property
    def form(self) -> Form | None:
        """What kind of data it is; None where that cannot be told."""
        if self.name in BUILT_IN:
            return "built-in"
        if is_code(self.name):
            return "code"
        lower = self.name.lower().rstrip("/")
        if self.path.is_dir() and not lower.endswith(TABLES):
            return "images" if self.name else None
        forms: dict[Form, tuple[str, ...]] = {"table": TABLES, "arrays": ARRAYS}
        return next((form for form, ends in forms.items() if lower.endswith(ends)), None)


def names() -> tuple[str, ...]:
    """The data sets that are built in."""
    return tuple(BUILT_IN)


def describe(name: str) -> Description:
    """What is known of a built-in data set without loading it.

    Raises:
        DataError: there is no such data set.
    """
    if name not in BUILT_IN:
        raise DataError(f"there is no data set {name!r}. {did_you_mean(name, BUILT_IN)}")
    return BUILT_IN[name]


def mistakes_of(source: Source) -> Iterator[Problem]:
    """What is wrong with a source, as far as it can be told at once, without loading it.

    Yields:
        Problems whose path is the attribute at fault, `name` being called `data`.
    """
    name, form = source.name, source.form
    if form in (None, "table", "arrays") and not (name and source.path.exists()):
        yield Problem(("data",), _not_there(source))
        return
    if form is None:
        known = ", ".join((*TABLES, *ARRAYS))
        yield Problem(("data",), f"{name!r} is neither a folder of images nor one of {known}.")
        return
    if form == "table" and source.path.is_dir():
        yield Problem(("data",), _in_parts(name))
        return
    if source.target is not None and form not in ("table", "arrays"):
        message = f"{name!r} has its own targets; `target` is for tables and arrays. Remove it."
        yield Problem(("target",), message)
    if source.image_size is not None and form != "images":
        message = f"{name!r} is not a folder of images, which `image_size` is for. Remove it."
        yield Problem(("image_size",), message)
    if form == "built-in" and BUILT_IN[name].task != source.task:
        others = ", ".join(each for each, known in BUILT_IN.items() if known.task == source.task)
        message = f"{name!r} is for {BUILT_IN[name].task}. For {source.task} there is: {others}."
        yield Problem(("data",), message)
    elif form == "images" and source.task == "regression":
        yield Problem(("data",), f"the folder {name!r} has classes; regression needs numbers.")
    yield from _mistakes_inside(source, form)


def _mistakes_inside(source: Source, form: Form) -> Iterator[Problem]:
    """What can be told by the names inside a file or folder."""
    try:
        if form == "images":
            image_classes(source)
        elif form == "table":
            target_of(source, header(source))
        elif form == "arrays" and source.path.suffix.lower() == ".npz":
            with zipfile.ZipFile(source.path) as arrays:
                chosen(source, [name.removesuffix(".npy") for name in arrays.namelist()])
    except TargetError as error:
        yield Problem(("target",), str(error))
    except DataError as error:
        yield Problem(("data",), str(error))
    except (OSError, ValueError, EOFError, csv.Error, zipfile.BadZipFile, zlib.error) as error:
        yield Problem(("data",), unreadable(source, error))


class TargetError(DataError):
    """What is to be predicted is not there."""


def unreadable(source: Source, error: Exception) -> str:
    """The sentence about a file that a library cannot read."""
    if isinstance(error, UnicodeDecodeError):
        return f"{source.name!r} is not text in UTF-8; save it as such."
    return f"{source.name!r} cannot be read: {str(error).strip().rstrip('.')}."


def _not_there(source: Source) -> str:
    folder = source.path.parent
    beside = folder.iterdir() if folder.is_dir() else ()
    files = (path for path in beside if path.name.lower().endswith((*TABLES, *ARRAYS)))
    near = [*BUILT_IN, *(str(Path(source.name).parent / path.name) for path in files)]
    guess = did_you_mean(source.name, near)
    is_path = source.form is not None or Path(source.name).name != source.name
    if source.name and is_path:
        there = "" if guess.startswith("Known") else f" {guess}"
        return f"there is no file {source.name!r} (looked in {source.folder}).{there}"
    if guess.startswith("Known"):
        guess = f"{did_you_mean('', BUILT_IN)} Others are given by their path."
    return f"there is no data set {source.name!r}. {guess}"


def _in_parts(name: str) -> str:
    """The sentence about a folder of a table's parts, as Spark and Dask write them."""
    how = ""
    if name.lower().rstrip("/").endswith(".parquet"):
        how = f": pandas.read_parquet({name!r}).to_parquet('table.parquet')"
    return f"{name!r} is a folder, perhaps of a table's parts. Make one file of them{how}."


def header(source: Source) -> list[str]:
    """The names of a table's columns, from its first line or, of Parquet, its schema."""
    if source.path.suffix.lower() == ".parquet":
        return parquet_columns(source.path)
    if not (names := text_columns(source.path)):
        raise DataError(f"{source.name!r} is empty.")
    return names


def text_columns(path: Path) -> list[str]:
    """The names of the columns in a CSV file, by its first line; none where that is empty.

    Raises:
        OSError: it cannot be read.
        ValueError: two columns have one name, of which pandas would call the second `y.1`.
    """
    with open_text(path) as lines:
        first = next(iter(lines), "")
    if not first.strip():
        return []
    names = next(csv.reader([first], delimiter=delimiter(first), skipinitialspace=True), [])
    _refuse_twice(filter(None, names))
    return names


def parquet_columns(path: Path) -> list[str]:
    """The names of the columns in a Parquet file, those that pandas' index has among them.

    Raises:
        OSError: it cannot be read.
        ValueError: it is something else, or two columns have one name.
    """
    import pyarrow.parquet

    schema = pyarrow.parquet.read_schema(path)
    said = schema.pandas_metadata or {}
    indices = said.get("index_columns", ())
    # An index that counts is no column there, but may have a name.
    counting = [each.get("name") for each in indices if isinstance(each, dict)]
    # One without a name is called __index_level_0__ there; so is one that has a column's name.
    called = {each.get("field_name"): each.get("name") for each in said.get("columns", ())}
    unnamed = {each for each in indices if isinstance(each, str) and re.fullmatch(_LEVEL, each)}
    stored = [called.get(name) if name in unnamed else name for name in schema.names]
    names = [str(name) for name in (*stored, *counting) if name is not None]
    _refuse_twice(names)
    return names


def _refuse_twice(names: Iterable[str]) -> None:
    if twice := [name for name, n in Counter(names).items() if n > 1]:
        raise ValueError(f"several of its columns are called {twice[0]!r}; rename all but one")


def open_text(path: Path) -> IO[str]:
    """A text file, compressed or not, with or without a byte order mark."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path, "rt", encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def delimiter(first: str) -> str:
    """What separates the columns of a first line: comma, semicolon or tab, the most frequent.

    Where there is none of these, it is the bar.
    """
    found = max(",;\t", key=first.count)
    return found if found in first or "|" not in first else "|"


def target_of(source: Source, columns: Collection[str]) -> str:
    """The column of a table to predict.

    Raises:
        TargetError: it is not said, or not there.
    """
    if source.target is not None and source.target in columns:
        return source.target
    shown = [*columns][:_SHOWN] + ["..."] * (len(columns) > _SHOWN)
    if source.target is None:
        raise TargetError(
            f"name the column of {source.name!r} to predict. Its columns: {', '.join(shown)}."
        )
    guess = did_you_mean(source.target, columns)
    if len(columns) == 1 and source.path.suffix.lower() != ".parquet":
        guess = f"It has one, {shown[0]!r}. Columns are separated by commas, semicolons, tabs or |."
    elif guess.startswith("Known"):
        guess = did_you_mean("", shown)
    raise TargetError(f"{source.name!r} has no column {source.target!r}. {guess}")


def chosen(source: Source, arrays: Collection[str]) -> dict[str, tuple[str, str]]:
    """The names of the arrays with features and targets, by part; `all` if they are in one.

    Raises:
        TargetError: the targets are not there.
        DataError: it is not clear which array has the features.
    """
    pairs = {
        part: (x, f"y_{part}")
        for part in PARTS
        for x in (f"X_{part}", f"x_{part}")
        if {x, f"y_{part}"} <= {*arrays}
    }
    if "train" in pairs and source.target is None:
        return pairs
    y = source.target or "y"
    if y not in arrays:
        guess = None if source.target else _perhaps_targets(arrays)
        hint = guess or did_you_mean(y, arrays)
        raise TargetError(f"{source.name!r} has no array {y!r}. {hint}")
    return {"all": (features_of(source, arrays), y)}


def _perhaps_targets(arrays: Collection[str]) -> str | None:
    """What to do about targets that are not called `y`; None where nothing looks like them."""
    for name in arrays:
        if name.lower() == "y_train" != name:
            return f"It has {name!r}; save it as 'y_train', beside 'x_train'."
    near = [name for name in arrays if name.lower() in _LIKE_Y]
    return f"Did you mean `target: {near[0]}`?" if near else None


def features_of(source: Source, arrays: Collection[str]) -> str:
    """The name of the array with features: `x` or the like, or the only one beside the targets.

    Raises:
        DataError: it is not clear which one it is.
    """
    y = source.target or "y"
    others = [name for name in arrays if name != y]
    named = [name for name in ("x", "X", "features", "data", "images") if name in others]
    if not named and len(others) != 1:
        message = f"{source.name!r} must have an array 'x' beside {y!r}."
        raise DataError(f"{message} It has: {', '.join(arrays)}.")
    return (named or others)[0]


def image_classes(source: Source) -> dict[str, dict[str, Path]]:
    """Folders of images by part, `all` if there is one, and class.

    Raises:
        DataError: there are none.
    """
    folders, name = _folders(source.path), source.name.rstrip("/")
    of_parts = _of_parts(name, folders)
    parts = {part: _folders(folder) for part, folder in of_parts.items()} or {"all": folders}
    if "all" in parts and (nested := _nested(name, folders)) is not None:
        raise DataError(f"all of {name!r} is one folder; take `data: {nested}`, where classes are.")
    for part, classes in parts.items():
        where = f"{name}/{of_parts[part].name}" if part in of_parts else name
        if not classes:
            raise DataError(f"{where!r} has no folders, one of images for each class.")
        for each, path in classes.items():
            if not any(images_in(path)):
                known = ", ".join(IMAGES)
                raise DataError(f"the folder '{where}/{each}' has no images. Known: {known}.")
    return parts


def _nested(name: str, folders: Mapping[str, Path]) -> str | None:
    """Where several folders lie that all seem to be classes; None where those at hand may be."""
    while len(folders) == 1:
        ((only, path),) = folders.items()
        name, folders = f"{name}/{only}", _folders(path)
        if len(folders) > 1 and any(any(images_in(each)) for each in folders.values()):
            return name
    return None


def _of_parts(name: str, folders: Mapping[str, Path]) -> dict[str, Path]:
    """Which of some folders are parts, in the order of `PARTS`; none without one for training.

    Raises:
        DataError: two are one part, or one may be a part or not.
    """
    called = {each: _CALLED[each.lower()] for each in folders if each.lower() in _CALLED}
    only_parts = len(called) == len(folders)
    with_classes = any(_folders(folders[each]) for each in called if called[each] == "train")
    if "train" not in folders and not (only_parts and with_classes):  # a class "Train", perhaps
        return {}
    found: dict[str, Path] = {}
    for each, part in called.items():
        if part in found:
            both = f"{found[part].name!r} and {each!r}"
            raise DataError(f"{name!r} has two folders of one part, {both}. Put them together.")
        if each not in PARTS and not only_parts and _folders(folders[each]):
            other = next(other for other in folders if other not in called)
            raise DataError(
                f"{name!r} has {each!r} beside {other!r}, which is no part. Call it {part!r}."
            )
        found[part] = folders[each]
    return {part: found[part] for part in PARTS if part in found}


def images_in(folder: Path) -> Iterator[Path]:
    """All image files in and below a folder, in no order, but hidden ones."""
    return (
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGES
        and not any(map(_is_hidden, path.relative_to(folder).parts))
    )


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"  # which macOS puts into archives


def _folders(path: Path) -> dict[str, Path]:
    found = (each for each in path.iterdir() if each.is_dir() and not _is_hidden(each.name))
    return {each.name: each for each in sorted(found)}
