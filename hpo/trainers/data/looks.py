"""What a column of a table is, by all of its rows, and what it seems to be instead."""

from __future__ import annotations

import re
from dataclasses import dataclass

import pandas as pd
from pandas.api import types

_ISO_DATE = r"\d{4}-\d{2}-\d{2}([T ].*)?"
DECIMAL_COMMA = r"[+-]?\d+(,\d+)?([eE][+-]?\d+)?"
_WITH_SIGNS = r"(?=.*[,%$€£])[$€£]?\s?[+-]?\d+([.,]\d+)*\s?[%$€£]?"
_DATE = (
    r"(\d{1,2}[./-]\d{1,2}[./-]\d{4}|\d{4}[./-]\d{1,2}[./-]\d{1,2}|\d{1,2}/\d{1,2}/\d{2})([T ,].*)?"
)
_LIKE_NUMBERS = r"\W*\d[^A-Za-z]*([eET ].*)?"
_FIRST = 1000
"""So many texts tell whether it is worth while to look at all: a million take seconds."""
_MOST = 0.9
"""The share of a column's texts from which on they tell what all were meant to be."""
_IDENTIFIER = r"(.*[_\W])?(?i:id|uuid|guid)|.*[a-z](Id|ID)|(?i:index)"


@dataclass(frozen=True)
class Look:
    """What a column looks like.

    Args:
        kind: numbers, dates or words.
        doubt: What its words seem to be instead, and how to write them so; None where they do not.
    """

    kind: str
    doubt: str | None

    @classmethod
    def at(cls, column: pd.Series) -> Look:
        """Looks at all rows of a column."""
        kind = _kind(column)
        return cls(kind, _doubt(column.dropna()) if kind == "words" else None)


def _doubt(found: pd.Series) -> str | None:
    """See `Look`; of a column without gaps."""
    inferred = types.infer_dtype(found)
    if inferred == "integer":  # of Python's, which NumPy has no type for
        return (
            f"its whole numbers, such as {max(found, key=abs)}, have more than 64 bits. Write a "
            "decimal point behind them if they measure something"
        )
    if inferred != "string" or found.iloc[:_FIRST].str.fullmatch(_LIKE_NUMBERS).mean() < 0.5:
        return None
    plain = pd.to_numeric(found, errors="coerce").notna()
    numbers = plain | found.str.fullmatch(DECIMAL_COMMA)
    iso = found.str.fullmatch(_ISO_DATE) & as_dates(found).notna()
    for called, those in (("numbers", numbers), ("dates", iso)):
        if _MOST <= (share := those.mean()) < 1:
            return (
                f"{int(100 * share)}% of its values are {called}, and {found[~those].iloc[0]!r} is "
                "not. Correct such cells, or leave them empty"
            )
    if (dates := found.str.fullmatch(_DATE)).mean() >= _MOST and len(found[dates & ~iso]):
        first = found[dates & ~iso].iloc[0]
        return f"it looks like dates, such as {first!r}. Write them as 2020-12-31"
    signs = found.str.fullmatch(_WITH_SIGNS)
    if signs.any() and (signs | plain).mean() >= _MOST:
        first = found[signs].iloc[0]
        return f"it has numbers such as {first!r}. Write 1234.5, or 1234,5 between semicolons"
    return None


def useless(column: pd.Series, look: Look) -> str | None:
    """Why a column tells nothing; None where it may.

    Args:
        column: Its training rows.
        look: What it is by all of them.
    """
    n_values = column.nunique()
    if str(column.name).startswith("Unnamed: ") and n_values == len(column):
        return "it has no name, and numbers the rows"  # as pandas writes tables unless told not to
    if n_values == 0 or (n_values == 1 and column.notna().all()):
        return "it is empty" if n_values == 0 else "it has one value in all training rows"
    if n_values < len(column):
        return None
    is_named_so = re.fullmatch(_IDENTIFIER, str(column.name))
    if is_named_so and types.infer_dtype(column) == "integer":
        return "it has another number in each row, and is named as identifiers are"
    if look.kind == "words":
        doubt = None if is_named_so else look.doubt
        return doubt or "it has another text in each row, as identifiers do"
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
    return bool(text.str.fullmatch(_ISO_DATE).all()) and bool(as_dates(found).notna().all())


def as_dates(column: pd.Series) -> pd.Series:
    """Dates of ISO form as such; what is none becomes a gap."""
    return pd.to_datetime(column, format="ISO8601", errors="coerce", utc=True)
