"""Tables in CSV and Parquet files: columns of numbers, dates and words, with gaps."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
from pandas.api import types
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from trainers.data.examples import InMemory, assemble
from trainers.data.parts import Data
from trainers.data.source import Source, delimiter, open_text, target_of, unreadable
from trainers.data.targets import missing
from trainers.errors import DataError

N_CATEGORIES = 32
"""A column of words becomes so many columns at most; the last is for all rarer words."""

_log = logging.getLogger(__name__)
_STRANGE = ("mixed", "bytes", "timedelta64", "complex")
_ISO_DATE = r"\d{4}-\d{2}-\d{2}([T ].*)?"


def load_table(source: Source, seed: int) -> tuple[Data, ...]:
    """See `trainers.data.load`."""
    frame = _read(source)
    target = target_of(source, list(frame.columns))
    if n_missing := int(frame[target].isna().sum()):
        raise missing(source, n_missing, len(frame))
    x, y = frame.drop(columns=target), frame[target]
    _check(source, x)
    numbers = y.astype(float) if types.infer_dtype(y) == "decimal" else y
    examples = InMemory(x, partial(fit_columns, source.name))
    return assemble(source, examples, numbers.to_numpy(), seed=seed)


def read_table(path: Path) -> pd.DataFrame:
    """The rows of a CSV or Parquet file.

    Raises:
        OSError: If it cannot be read.
        ValueError: If it is something else.
    """
    if path.suffix.lower() == ".parquet":
        return pd.read_parquet(path).rename(columns=str)
    with open_text(path) as lines:
        separator = delimiter(lines.readline())
        lines.seek(0)
        frame = pd.read_csv(lines, sep=separator, skipinitialspace=True, na_values=["?"])
    return frame.rename(columns=str)


def _read(source: Source) -> pd.DataFrame:
    try:
        frame = read_table(source.path)
    except (OSError, ValueError, EOFError, zlib.error) as error:  # pandas' are ValueErrors
        raise DataError(unreadable(source, error)) from error
    if not len(frame):
        raise DataError(f"{source.name!r} has no rows.")
    return frame


def _check(source: Source, x: pd.DataFrame) -> None:
    """Refuses what cannot be a feature: infinity, and values that are no words, numbers or dates.

    Raises:
        DataError: With the column and the first such value.
    """
    for name, column in x.items():
        found = column.dropna()
        if types.is_float_dtype(column):
            infinite = np.isinf(found.to_numpy(dtype=float))
            if infinite.any():
                row = found.index[infinite.argmax()]
                where = f"in {int(infinite.sum())} rows, the first of them row {row}"
                raise DataError(f"The column {name!r} of {source.name!r} is infinite {where}.")
        elif not types.is_bool_dtype(column) and types.infer_dtype(found) in _STRANGE:
            raise DataError(
                f"The column {name!r} of {source.name!r} has values such as {found.iloc[0]!r}; "
                "a feature is a number, a date, or text."
            )


def fit_columns(name: str, train: pd.DataFrame) -> ColumnTransformer:
    """A transformer from data frames to numbers, fitted on the rows of the training part.

    Numbers and dates: a gap becomes the median, and a further column tells of it; then all are
    standardised. Words, true and false: a column of 0 and 1 for each, a gap being a word of its
    own; what is not among the training rows counts with the rare words, or is 0 in all columns.

    Args:
        name: Of the data set, for messages.
        train: The rows, without the target.

    Raises:
        DataError: If no column is of use.
    """
    columns: dict[str, list[str]] = {"numbers": [], "dates": [], "words": []}
    for column in train:
        if reason := _useless(train[column]):
            _warn_once(f"The column {column!r} of {name!r} is left out: {reason}.")
        else:
            columns[_kind(train[column])].append(column)
    if not any(columns.values()):
        raise DataError(f"{name!r} has no column that tells anything beside the target.")
    words = OneHotEncoder(
        handle_unknown="infrequent_if_exist",
        max_categories=N_CATEGORIES,
        sparse_output=False,
        dtype=np.float32,
    )
    steps = {
        "numbers": _standardised(_floats),
        "dates": _standardised(_days),
        "words": make_pipeline(FunctionTransformer(_words), words),
    }
    used = [(kind, steps[kind], names) for kind, names in columns.items() if names]
    return ColumnTransformer(used, sparse_threshold=0).fit(train)


def _standardised(numbers: Callable[[pd.DataFrame], pd.DataFrame]) -> object:
    imputer = SimpleImputer(strategy="median", add_indicator=True)
    return make_pipeline(FunctionTransformer(numbers), imputer, StandardScaler())


def _useless(column: pd.Series) -> str | None:
    """Why a column tells nothing; None where it may."""
    n_values = column.nunique()
    if str(column.name).startswith("Unnamed: ") and n_values == len(column):
        return "it has no name, and numbers the rows"  # as pandas writes tables unless told not to
    if n_values == 0 or (n_values == 1 and column.notna().all()):
        return "it is empty" if n_values == 0 else "it has one value in all training rows"
    if n_values == len(column) and _kind(column) == "words":
        return "it has another text in each row, as identifiers do"
    return None


def _kind(column: pd.Series) -> str:
    """Whether a column is of numbers, dates or words."""
    if types.is_bool_dtype(column):
        return "words"
    if types.is_numeric_dtype(column) or types.infer_dtype(column.dropna()) == "decimal":
        return "numbers"
    dates = types.is_datetime64_any_dtype(column) or types.infer_dtype(column.dropna()) == "date"
    return "dates" if dates or _dates_as_text(column.dropna()) else "words"


def _dates_as_text(found: pd.Series) -> bool:
    text = found.astype(str)
    return bool(text.str.fullmatch(_ISO_DATE).all()) and bool(_as_dates(found).notna().all())


def _as_dates(column: pd.Series) -> pd.Series:
    return pd.to_datetime(column, format="ISO8601", errors="coerce", utc=True)


def _floats(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype(float)


def _days(frame: pd.DataFrame) -> pd.DataFrame:
    """Days since 1970."""
    epoch, day = pd.Timestamp(0, tz="UTC"), pd.Timedelta(days=1)
    return frame.apply(lambda column: (_as_dates(column) - epoch) / day)


def _words(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype(object).where(frame.notna(), "missing").astype(str).astype(object)


@cache
def _warn_once(message: str) -> None:
    """Warns; the folds of a data set have mostly the same to say."""
    _log.warning(message)
