"""Tables in CSV and Parquet files: columns of numbers, dates and words, with gaps."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Collection, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from hpo.trainers.data.examples import InMemory, assemble
from hpo.trainers.data.looks import DECIMAL_COMMA, Look, as_dates, useless
from hpo.trainers.data.parts import Data
from hpo.trainers.data.source import (
    Source,
    delimiter,
    open_text,
    parquet_columns,
    target_of,
    text_columns,
    unreadable,
)
from hpo.trainers.data.targets import missing
from hpo.trainers.errors import DataError, did_you_mean

N_CATEGORIES = 32
"""A column of words becomes so many columns at most; the last is for all rarer words."""

_log = logging.getLogger(__name__)
_STRANGE = ("mixed", "bytes", "timedelta64", "complex")
_CALLED = {"numbers": "numbers", "dates": "dates as 2020-12-31", "truths": "true and false"}
_TRUTHS = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}


def load_table(source: Source, seed: int) -> tuple[Data, ...]:
    """See `hpo.trainers.data.load`."""
    frame = _read(source)
    target = target_of(source, list(frame.columns))
    if n_missing := int(frame[target].isna().sum()):
        raise missing(source, n_missing, len(frame))
    x, y = frame.drop(columns=target), frame[target]
    if source.task == "classification" and types.is_integer_dtype(y):
        y = _with_zeros(source.path, frame.columns.get_loc(target), y)
    _check(source.name, x)
    numbers = y.astype(float) if types.infer_dtype(y) == "decimal" else y
    # What a column is does not depend on which rows are trained on.
    looks = {name: Look.at(x[name]) for name in x}
    examples = InMemory(x, partial(fit_columns, source.name, looks))
    return assemble(source, examples, numbers.to_numpy(), seed=seed)


def read_table(path: Path, as_text: Collection[str] = ()) -> pd.DataFrame:
    """The rows of a CSV or Parquet file.

    Args:
        path: The file.
        as_text: Columns of a CSV file that are text whatever they look like.

    Raises:
        OSError: it cannot be read.
        ValueError: it is something else.
    """
    if path.suffix.lower() == ".parquet":
        parquet_columns(path)  # of which pyarrow does not say in a sentence that two are one
        frame = pd.read_parquet(path)
        named = [name for name in frame.index.names if name is not None]
        return (frame.reset_index(level=named) if named else frame).rename(columns=str)
    text_columns(path)  # of which pandas would rename one of two that are called alike
    separator, frame = _read_csv(path, dtype=dict.fromkeys(as_text, str))
    frame = frame.rename(columns=str)
    if separator != ";":
        return frame
    return frame.apply(lambda column: column if column.name in as_text else _as_numbers(column))


def _read_csv(path: Path, **options: Any) -> tuple[str, pd.DataFrame]:
    """What separates the columns of a CSV file, and its rows."""
    with open_text(path) as lines:
        separator, first = delimiter(lines.readline()), lines.readline()
    frame = _parsed(path, separator, **options)
    n_more = 0 if isinstance(frame.index, pd.RangeIndex) else frame.index.nlevels
    if n_more and first.rstrip("\r\n ").endswith(separator):
        n = len(frame.columns)
        # Rows longer than the header begin with their names, as R writes them; pandas takes rows
        # that end in a separator for such, which shifts all columns and leaves the last empty.
        if frame.iloc[:, max(0, n - n_more) :].isna().all(axis=None):
            frame = _parsed(path, separator, index_col=False, usecols=range(n), **options)
    return separator, frame


def _parsed(path: Path, separator: str, **options: Any) -> pd.DataFrame:
    with open_text(path) as lines:
        return pd.read_csv(
            lines,
            sep=separator,
            skipinitialspace=True,
            na_values=["?"],
            low_memory=False,  # else a column's type may change within a long file
            **options,
        )


def _with_zeros(path: Path, place: int, y: pd.Series) -> pd.Series:
    """Classes as they are written, if they are whole numbers with zeros in front, such as 01."""
    if path.suffix.lower() == ".parquet" or not isinstance(y.index, pd.RangeIndex):
        return y
    _, frame = _read_csv(path, dtype=str, usecols=[place], index_col=False)
    text = frame.iloc[:, 0].str.strip()
    return text if len(text) == len(y) and text.str.fullmatch(r"0\d+").any() else y


def _as_numbers(column: pd.Series) -> pd.Series:
    """A column of text as numbers, if all that it has are such with decimal commas."""
    if not (types.is_object_dtype(column) or types.is_string_dtype(column)):
        return column
    text = column.dropna().astype(str).str.strip()
    if text.empty or not text.str.fullmatch(DECIMAL_COMMA).all():
        return column
    return text.str.replace(",", ".").astype(float).reindex(column.index)


def read_rows(path: Path, transformer: ColumnTransformer) -> pd.DataFrame:
    """Rows to answer for, each column read as what it was in training.

    What a column looks like depends on the rows that happen to be in the file: words may all be
    numbers, and true and false be written 1 and 0.

    Args:
        path: A CSV or Parquet file; it may have other columns, too.
        transformer: What `fit_columns` made.

    Returns:
        The columns that were trained on.

    Raises:
        DataError: the file cannot be read, has no rows, lacks a column, or has a value of another
            kind in one.
    """
    kinds = kinds_of(transformer)
    frame = _read(Source(str(path)), [name for name, kind in kinds.items() if kind == "words"])
    for name, kind in kinds.items():
        if name not in frame:
            guess = did_you_mean(name, frame.columns)
            raise DataError(f"{str(path)!r} has no column {name!r}, which was trained on. {guess}")
        others = _others(frame[name], kind)
        if len(others):
            raise DataError(
                f"the column {name!r} of {str(path)!r} has {others.iloc[0]!r} in row "
                f"{others.index[0]}; it had {_CALLED[kind]} in training. Correct it, or leave it "
                "empty."
            )
    _check(str(path), frame[[*kinds]])
    return frame[[*kinds]]


def kinds_of(transformer: ColumnTransformer) -> dict[str, str]:
    """What each column was in training: words, truths (true and false), numbers or dates."""
    found = {name: kind for kind, _, names in transformer.transformers_ for name in names
             if kind != "remainder"}  # fmt: skip
    if "words" in found.values():
        found |= dict.fromkeys(transformer.named_transformers_["words"][0].truths_, "truths")
    return found


def _others(column: pd.Series, kind: str) -> pd.Series:
    """The values of a column that are not of that kind."""
    found = column.dropna()
    if kind == "numbers" and types.is_datetime64_any_dtype(found):
        return found  # which pandas would take as nanoseconds
    if kind == "numbers":
        return found[pd.to_numeric(found, errors="coerce").isna()]
    if kind == "dates":
        return found[as_dates(found).isna()]
    return found[[_truth(value) is None for value in found]] if kind == "truths" else found[:0]


def _read(source: Source, as_text: Collection[str] = ()) -> pd.DataFrame:
    try:
        frame = read_table(source.path, as_text)
    except (OSError, ValueError, EOFError, zlib.error) as error:  # pandas' are ValueErrors
        raise DataError(unreadable(source, error)) from error
    if not len(frame):
        raise DataError(f"{source.name!r} has no rows.")
    return frame


def _check(what: str, x: pd.DataFrame) -> None:
    """Refuses what cannot be a feature: infinity, and values that are not words, numbers or dates.

    Raises:
        DataError: with the column and the first such value.
    """
    for name, column in x.items():
        found = column.dropna()
        if types.is_float_dtype(column):
            infinite = np.isinf(found.to_numpy(dtype=float))
            if infinite.any():
                row = found.index[infinite.argmax()]
                where = f"in {int(infinite.sum())} rows, the first of them row {row}"
                raise DataError(f"the column {name!r} of {what!r} is infinite {where}.")
        elif not types.is_bool_dtype(column) and types.infer_dtype(found) in _STRANGE:
            raise DataError(
                f"the column {name!r} of {what!r} has values such as {found.iloc[0]!r}; "
                "a feature is a number, a date, or text."
            )


def fit_columns(name: str, looks: Mapping[str, Look], train: pd.DataFrame) -> ColumnTransformer:
    """A transformer from data frames to numbers, fitted on the rows of the training part.

    Numbers and dates: a gap becomes the median, and a further column tells of it; then all are
    standardised. Words, true and false: a column of 0 and 1 for each, a gap being a word of its
    own; what is not among the training rows counts with the rare words, or is 0 in all columns.

    Args:
        name: Of the data set, for messages.
        looks: What each column is, by all of its rows.
        train: The rows, without the target.

    Raises:
        DataError: no column is of use.
    """
    columns: dict[str, list[str]] = {"numbers": [], "dates": [], "words": []}
    for column in train:
        look = looks[column]
        if reason := useless(train[column], look):
            _warn_once(f"the column {column!r} of {name!r} is left out: {reason}.")
            continue
        columns[look.kind].append(column)
        if look.doubt:
            _warn_once(f"the column {column!r} of {name!r} is taken as words: {look.doubt}.")
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
        "words": make_pipeline(Words(), words),
    }
    used = [(kind, steps[kind], names) for kind, names in columns.items() if names]
    return ColumnTransformer(used, sparse_threshold=0).fit(train)


def _standardised(numbers: Callable[[pd.DataFrame], pd.DataFrame]) -> object:
    imputer = SimpleImputer(strategy="median", add_indicator=True)
    return make_pipeline(FunctionTransformer(numbers), imputer, StandardScaler())


def _floats(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype(float)


def _days(frame: pd.DataFrame) -> pd.DataFrame:
    """Days since 1970."""
    epoch, day = pd.Timestamp(0, tz="UTC"), pd.Timedelta(days=1)
    return frame.apply(lambda column: (as_dates(column) - epoch) / day)


class Words(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Columns as text, the same whether a value was read as text, a number, or true and false."""

    def fit(self, frame: pd.DataFrame, y: object = None) -> Words:  # noqa: ARG002 - scikit-learn's
        """Learns which columns are of true and false."""
        self.truths_ = [
            name for name in frame if types.infer_dtype(frame[name].dropna()) == "boolean"
        ]
        return self

    def transform(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Each value as text; a gap is the word `missing`."""
        filled = frame.astype(object).where(frame.notna(), "missing")
        return filled.apply(lambda column: column.map(self._word(column.name))).astype(object)

    def _word(self, name: object) -> Callable[[object], str]:
        if name in self.truths_:
            return lambda value: _text(value if (truth := _truth(value)) is None else truth)
        return _text


def _truth(value: object) -> bool | None:
    """True or false, however it is written; None for other values."""
    return _TRUTHS.get(str(value).lower())


def _text(value: object) -> str:
    """A value as it would stand in a file; 12.0 is 12, which gaps in its column made a float."""
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


@cache
def _warn_once(message: str) -> None:
    """Warns; the folds of a data set have mostly the same to say."""
    _log.warning(message)
