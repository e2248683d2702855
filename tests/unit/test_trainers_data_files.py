"""Tables and arrays in files."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from hpo.cli.described import described
from hpo.trainers.data import Source, load, mistakes_of
from hpo.trainers.data.parts import Data, Tensors
from hpo.trainers.data.source import parquet_columns
from hpo.trainers.data.splits import splits
from hpo.trainers.data.tables import N_CATEGORIES, read_rows, read_table
from hpo.trainers.errors import DataError

N = 60


def tensors(part: object) -> Tensors:
    assert isinstance(part, Tensors)
    return part


def one(source: Source, seed: int = 0) -> Data:
    (data,) = load(source, seed=seed)
    return data


def people() -> pd.DataFrame:
    """Every kind of column, each with gaps where it can have them."""
    rng = np.random.default_rng(0)
    gaps = np.arange(N) % 7 == 0
    frame = pd.DataFrame(
        {
            "age": rng.normal(40, 9, N),
            "children": rng.integers(0, 4, N),
            "city": rng.choice(["Bonn", "Köln", "Ulm"], N),
            "member": rng.random(N) < 0.5,
            "since": pd.Timestamp("2020-01-01") + pd.to_timedelta(rng.integers(0, 999, N), "D"),
            "name": [f"person {i}" for i in range(N)],
            "planet": "earth",
            "nothing": np.full(N, np.nan),
            "buys": np.where(rng.random(N) < 0.4, "yes", "no"),
        }
    )
    return frame.assign(**{name: frame[name].mask(gaps) for name in ("age", "city", "since")})


@pytest.fixture(autouse=True)
def said_anew() -> None:
    from hpo.trainers.data.tables import _warn_once

    _warn_once.cache_clear()


@pytest.mark.parametrize("suffix", [".csv", ".csv.gz", ".tsv", ".parquet"])
def test_a_table_has_numbers_words_dates_and_gaps(
    tmp_path: Path, suffix: str, caplog: pytest.LogCaptureFixture
) -> None:
    frame, path = people(), tmp_path / f"people{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, sep="\t" if suffix == ".tsv" else ",", index=False)
    data = one(Source(path.name, target="buys", folder=tmp_path))
    assert data.classes == ("no", "yes")
    # age and its gaps, children; since and its gaps; three cities and the gap; true and false.
    assert data.shape == (2 + 1 + 2 + 4 + 2,)
    x = tensors(data.train).x
    assert x.dtype == torch.float32
    assert x[:, :5].mean(dim=0).abs().max() < 1e-5
    assert (x[:, :5].std(dim=0, correction=0) - 1).abs().max() < 1e-4
    assert (x[:, 5:9].sum(dim=1) == 1).all()
    assert caplog.messages == [
        (
            f"the column 'name' of '{path.name}' is left out: it has another text in each row, as "
            "identifiers do."
        ),
        f"the column 'planet' of '{path.name}' is left out: it has one value in all training rows.",
        f"the column 'nothing' of '{path.name}' is left out: it is empty.",
    ]


@pytest.mark.parametrize("folds", [None, 3])
def test_rows_outside_the_training_part_change_no_feature_of_it(
    tmp_path: Path, folds: int | None
) -> None:
    frame = people()
    frame.to_parquet(tmp_path / "a.parquet")
    y = (frame["buys"] == "yes").to_numpy(dtype=np.int64)
    train = next(splits(y, ("no", "yes"), seed=4, folds=folds))[0]
    others = np.setdiff1d(np.arange(N), train)
    frame.loc[others, "age"] = 1e9
    frame.loc[others, "children"] = -5
    frame.loc[others, "city"] = "Atlantis"
    frame.loc[others, "since"] = pd.Timestamp("1970-01-01")
    frame.loc[others, "planet"] = "mars"
    frame.loc[others, "nothing"] = 3.0
    frame.to_parquet(tmp_path / "b.parquet")
    a, b = (
        load(Source(name, target="buys", folds=folds, folder=tmp_path), seed=4)[0]
        for name in ("a.parquet", "b.parquet")
    )
    assert torch.equal(tensors(a.train).x, tensors(b.train).x)
    assert tensors(b.val).x.isfinite().all()
    assert not torch.equal(tensors(a.val).x, tensors(b.val).x)
    assert (tensors(b.val).x[:, 5:9] == 0).all()  # no training row is of Atlantis


def test_the_transformer_of_a_table_takes_rows_as_they_are_in_the_file(tmp_path: Path) -> None:
    frame = people()
    frame.to_csv(tmp_path / "people.csv", index=False)
    data = one(Source("people.csv", target="buys", folder=tmp_path))
    joblib.dump(data.transformer, tmp_path / "transformer.joblib")
    transformer = joblib.load(tmp_path / "transformer.joblib")
    x = transformer.transform(pd.read_csv(tmp_path / "people.csv"))
    y = (frame["buys"] == "yes").to_numpy(dtype=np.int64)
    ((train, _, _),) = splits(y, data.classes, seed=0)
    assert np.array_equal(x[train].astype(np.float32), tensors(data.train).x)
    unlabelled = frame.drop(columns=["buys", "name"]).astype({"since": str})[:1]
    assert transformer.transform(unlabelled.assign(city="Atlantis")).shape == (1, *data.shape)


def test_a_table_is_described_by_its_columns(tmp_path: Path) -> None:
    people().assign(buys=np.arange(N) % 12).to_parquet(tmp_path / "a.parquet")
    assert described(one(Source("a.parquet", target="buys", folder=tmp_path))) == (
        "60 examples, 5 features (2 of numbers, 1 of dates, 1 of words, 1 of true and false), "
        "12 classes of 5 examples"
    )


def test_classes_that_are_nearly_called_alike_are_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lines = ["y,a", *(f"{['no', 'yes', 'No', 'no '][i % 4]},{i % 7}" for i in range(N))]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    assert one(Source("a.csv", target="y", folder=tmp_path)).classes == ("No", "no", "no ", "yes")
    assert caplog.messages == [
        (
            "the target 'y' of 'a.csv' has the classes 'No', 'no', 'no ', which differ by case or "
            "spaces alone: write them alike if they are one."
        )
    ]


def test_rare_words_share_a_column(tmp_path: Path) -> None:
    words = [f"word {i}" for i in range(50) for _ in range(4)]
    frame = pd.DataFrame({"word": words, "y": np.arange(200) % 2})
    frame.to_csv(tmp_path / "words.csv", index=False)
    data = one(Source("words.csv", target="y", folder=tmp_path))
    assert data.shape == (N_CATEGORIES,)
    unseen = data.transformer.transform(pd.DataFrame({"word": ["unheard of"]}))
    assert unseen.tolist() == [[0.0] * (N_CATEGORIES - 1) + [1.0]]


def test_a_german_table_and_question_marks_are_understood(tmp_path: Path) -> None:
    lines = ["age; city; buys", *(f"{'?' if i % 5 == 0 else i}; Ulm{i % 2}; {i % 2}"
             for i in range(40))]  # fmt: skip
    (tmp_path / "a.csv").write_text("\n".join(lines), encoding="utf-8-sig")
    data = one(Source("a.csv", target="buys", folder=tmp_path))
    assert data.shape == (2 + 2,)
    assert data.classes == ("0", "1")


def test_columns_between_bars_are_read(tmp_path: Path) -> None:
    frame = people()
    frame.to_csv(tmp_path / "bars.csv", sep="|", index=False)
    frame.to_csv(tmp_path / "commas.csv", index=False)
    bars, commas = (
        one(Source(f"{name}.csv", target="buys", folder=tmp_path)) for name in ("bars", "commas")
    )
    assert torch.equal(tensors(bars.train).x, tensors(commas.train).x)


def test_decimal_commas_between_semicolons_are_numbers(tmp_path: Path) -> None:
    rows = [f"{i},5;{'' if i % 4 else f'-0,{i:02}'};{i % 3};{i},25" for i in range(40)]
    (tmp_path / "a.csv").write_text("\n".join(["a;b;c;y", *rows]))
    data = one(Source("a.csv", "regression", target="y", folder=tmp_path))
    assert data.shape == (1 + 2 + 1,)
    x, y = tensors(data.train).x, tensors(data.train).y
    assert torch.allclose(x[:, 0], y, atol=1e-5)
    (tmp_path / "new.csv").write_text("b;c;a\n-0,5;2;7\n;0;0,25\n")
    rows = read_rows(tmp_path / "new.csv", data.transformer)
    assert rows["a"].tolist() == [7, 0.25]
    assert rows["b"][0] == -0.5


@pytest.mark.parametrize(
    "text",
    [
        "a,p,y\n" + "".join(f'{i % 4},"{i % 3},5",{i % 2}\n' for i in range(30)),
        "a;p;y\n" + "".join(f"{i % 4};1.{i % 3}00,5;{i % 2}\n" for i in range(30)),
    ],
)
def test_numbers_that_are_taken_as_words_are_told(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "a.csv").write_text(text)
    assert one(Source("a.csv", target="y", folder=tmp_path)).shape == (1 + 3,)
    (message,) = caplog.messages
    assert message.startswith(
        "the column 'p' of 'a.csv' is taken as words: it has numbers such as '"
    )
    assert message.endswith(",5'. Write 1234.5, or 1234,5 between semicolons.")


STRAY = "of its values are {}, and {!r} is not. Correct such cells, or leave them empty."
LIKE_DATES = "it looks like dates, such as {!r}. Write them as 2020-12-31."
WITH_SIGNS = "it has numbers such as {!r}. Write 1234.5, or 1234,5 between semicolons."


@pytest.mark.parametrize(
    ("value", "stray", "doubt"),
    [
        ("{n}.5", "-", "98% " + STRAY.format("numbers", "-")),
        ("{n}", "unknown", "98% " + STRAY.format("numbers", "unknown")),
        ("{n}", "$1,000", "98% " + STRAY.format("numbers", "$1,000")),
        ("2020-{month:02}-{day:02}", "n/k", "98% " + STRAY.format("dates", "n/k")),
        ("{day}.{month}.2019", "31.12.2019", LIKE_DATES.format("31.12.2019")),
        ("{month}/{day}/2020", "12/1/2020 14:30", LIKE_DATES.format("12/1/2020 14:30")),
        ("2020/{month:02}/{day:02}", "-", LIKE_DATES.format("2020/01/02")),
        ("2020-{month}-{day:02}", "2020-1-01", LIKE_DATES.format("2020-1-01")),
        ("{n}%", "0.5%", WITH_SIGNS.format("0.5%")),
        ("${n},000", "100", WITH_SIGNS.format("$1,000")),
        ("192.168.0.{n}", "10.0.0.1", None),
        ("word {n}", "12", None),
        ("{n} Main Street", "1.2.3", None),
    ],
)
@pytest.mark.parametrize("is_distinct", [True, False])
def test_what_words_seem_to_be_is_told(
    tmp_path: Path,
    value: str,
    stray: str,
    doubt: str | None,
    is_distinct: bool,  # noqa: FBT001 - pytest's
    caplog: pytest.LogCaptureFixture,
) -> None:
    n = [i if is_distinct else i % 9 for i in range(1, N)]
    words = [stray, *(value.format(n=i, month=i // 28 + 1, day=i % 28 + 1) for i in n)]
    rows = [f"{i % 5},{json.dumps(word)},{i % 2}" for i, word in enumerate(words)]
    (tmp_path / "a.csv").write_text("\n".join(["b,a,y", *rows]))
    one(Source("a.csv", target="y", folder=tmp_path))
    told = f"the column 'a' of 'a.csv' is {'left out' if is_distinct else 'taken as words'}: "
    if is_distinct:
        doubt = doubt or "it has another text in each row, as identifiers do."
    assert caplog.messages == ([told + doubt] if doubt else [])


@pytest.mark.parametrize("name", ["size", "customer_id"])
def test_whole_numbers_of_more_than_64_bits_are_told(
    tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [f"{i % 5},{10**20 + i},{i % 2}" for i in range(N)]
    (tmp_path / "a.csv").write_text("\n".join([f"b,{name},y", *rows]))
    one(Source("a.csv", target="y", folder=tmp_path))
    assert caplog.messages == [
        f"the column {name!r} of 'a.csv' is left out: "
        + (
            "it has another number in each row, and is named as identifiers are."
            if name == "customer_id"
            else f"its whole numbers, such as {10**20 + N - 1}, have more than 64 bits. Write a "
            "decimal point behind them if they measure something."
        )
    ]


def trained(tmp_path: Path) -> Any:
    """The transformer of a table of words that are mostly numbers, truths, dates and numbers."""
    frame = pd.DataFrame(
        {
            "code": ["abc" if i % 3 == 0 else ["007", "12"][i % 2] for i in range(N)],
            "flag": [None if i % 7 == 0 else i % 2 == 0 for i in range(N)],
            "day": [f"2020-01-{i % 28 + 1:02}" for i in range(N)],
            "size": np.arange(N) / 4,
            "y": np.arange(N) % 2,
        }
    )
    frame.to_csv(tmp_path / "train.csv", index=False)
    return one(Source("train.csv", target="y", folder=tmp_path)).transformer


def test_an_answer_does_not_depend_on_the_other_rows_of_a_file(tmp_path: Path) -> None:
    transformer = trained(tmp_path)
    (tmp_path / "all.csv").write_text(
        "code,flag,day,size\n12,True,2020-01-02,1\n007,False,2020-01-03,2\nabc,,2020-01-04,3\n"
    )
    x = transformer.transform(read_rows(tmp_path / "all.csv", transformer))
    for row, text in enumerate(
        ("12,1,2020-01-02,1.0", "007,0,2020-01-03,2", "abc,,2020-01-04,3\n,1,,")
    ):
        (tmp_path / "one.csv").write_text(f"code,flag,day,size\n{text}\n")
        alone = transformer.transform(read_rows(tmp_path / "one.csv", transformer))
        assert np.array_equal(alone[0], x[row])
    (tmp_path / "gap.csv").write_text("size,day,flag,code\n2,2020-01-03,FALSE,007\n,,,\n")
    beside_a_gap = transformer.transform(read_rows(tmp_path / "gap.csv", transformer))
    assert np.array_equal(beside_a_gap[0], x[1])
    numbers = pd.DataFrame({"code": [12, None], "flag": [1, 0], "day": "2020-01-02", "size": 1})
    numbers.to_parquet(tmp_path / "numbers.parquet")
    read = read_rows(tmp_path / "numbers.parquet", transformer)
    assert np.array_equal(transformer.transform(read)[0], x[0])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("code,flag,day\nabc,1,2020-01-02\n",
         "has no column 'size', which was trained on. Known: code, flag, day."),
        ("code,flag,day,sizes\nabc,1,2020-01-02,1\n",
         "has no column 'size', which was trained on. Did you mean 'sizes'?"),
        ("code,flag,day,size\n", "has no rows."),
        ("", "cannot be read: No columns to parse from file."),
        ("code,flag,day,size\nabc,1,,1\nabc,1,,old\n",
         "has 'old' in row 1; it had numbers in training. Correct it, or leave it empty."),
        ("code,flag,day,size\nabc,yes,,1\n",
         "has 'yes' in row 0; it had true and false in training. Correct it, or leave it empty."),
        ("code,flag,day,size\nabc,1,1.2.20,1\n", ("has '1.2.20' in row 0; it had dates as "
         "2020-12-31 in training. Correct it, or leave it empty.")),
        ("code,flag,day,size\nabc,1,,inf\n", "is infinite in 1 rows, the first of them row 0."),
    ],
)  # fmt: skip
def test_rows_unlike_those_of_training_are_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "new.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        read_rows(tmp_path / "new.csv", trained(tmp_path))
    assert str(caught.value).endswith(f"'{tmp_path / 'new.csv'}' {message}")


@pytest.mark.parametrize("folds", [None, 3])
def test_one_word_makes_words_of_all_dates_wherever_it_falls(
    tmp_path: Path, folds: int | None
) -> None:
    days = [f"2020-01-{i % 5 + 1:02}" for i in range(N)]
    path = tmp_path / "a.csv"
    for row in range(0, N, 7):
        lines = [f"{'n/k' if i == row else day},{i % 2}" for i, day in enumerate(days)]
        path.write_text("\n".join(["day,y", *lines]))
        for data in load(Source("a.csv", target="y", folds=folds, folder=tmp_path), seed=0):
            assert data.shape[0] in (5, 6)  # a column for each day, and one where it is trained on
            assert read_rows(path, data.transformer)["day"][row] == "n/k"


def test_dates_are_no_numbers(tmp_path: Path) -> None:
    day = pd.Timestamp("2020-01-01")
    frame = pd.DataFrame({"code": ["abc"], "flag": True, "day": day, "size": day})
    frame.to_parquet(tmp_path / "new.parquet")
    with pytest.raises(DataError, match=r"'size' .* in row 0; it had numbers in training"):
        read_rows(tmp_path / "new.parquet", trained(tmp_path))


def test_numbers_of_other_types_are_numbers(tmp_path: Path) -> None:
    from decimal import Decimal

    frame = pd.DataFrame(
        {
            "nullable": pd.array([None, 1, 2] * 10, dtype="Int64"),
            "price": [Decimal(i) for i in range(30)],
            "day": [pd.Timestamp("2020-01-01").date() + pd.Timedelta(days=i) for i in range(30)],
            "y": [Decimal(i) / 2 for i in range(30)],
        }
    )
    frame.to_parquet(tmp_path / "a.parquet")
    data = one(Source("a.parquet", "regression", target="y", folder=tmp_path))
    assert data.shape == (2 + 1 + 1,)
    x, y = tensors(data.train).x, tensors(data.train).y
    for column in (x[:, 1], x[:, 3]):
        assert torch.allclose(column, y, atol=1e-5)  # both rise evenly from row to row


def test_the_rows_numbers_are_no_feature(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    frame = pd.DataFrame({"a": np.arange(30) % 4, "y": np.arange(30) % 2})
    frame.to_csv(tmp_path / "a.csv")
    assert one(Source("a.csv", target="y", folder=tmp_path)).shape == (1,)
    assert caplog.messages == [
        "the column 'Unnamed: 0' of 'a.csv' is left out: it has no name, and numbers the rows."
    ]


@pytest.mark.parametrize(
    ("name", "n_left_out"),
    [("id", 1), ("ID", 1), ("customer_id", 1), ("PassengerId", 1), ("index", 1), ("paid", 0),
     ("body_index", 0)],
)  # fmt: skip
def test_numbers_that_are_named_as_identifiers_are_no_feature(
    tmp_path: Path, name: str, n_left_out: int, caplog: pytest.LogCaptureFixture
) -> None:
    source = table(tmp_path, **{name: np.arange(30)})
    assert one(source).shape == (2 - n_left_out,)
    assert caplog.messages == n_left_out * [
        (
            f"the column {name!r} of 'a.parquet' is left out: it has another number in each row, "
            "and is named as identifiers are."
        )
    ]
    assert one(table(tmp_path, **{name: np.arange(30) // 2})).shape == (2,)


@pytest.mark.parametrize("first", [0, 1])
def test_a_named_index_of_pandas_is_a_column(tmp_path: Path, first: int) -> None:
    n = np.arange(30)
    rows = {"rooms": 30 - n if first else n, "floor": n % 4, "y": n % 2}
    frame = pd.DataFrame(rows).set_index("rooms")  # from 0 on, it is stored as a range
    frame.to_parquet(tmp_path / "a.parquet")
    assert one(Source("a.parquet", target="y", folder=tmp_path)).shape == (2,)
    by_index = Source("a.parquet", "regression", target="rooms", folder=tmp_path)
    assert not [*mistakes_of(by_index)]
    assert one(by_index).shape == (2,)
    frame.set_index([n, "floor"]).to_parquet(tmp_path / "a.parquet")  # one level has no name
    assert one(Source("a.parquet", "regression", target="floor", folder=tmp_path)).shape == (1,)


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (["01", " 02", "10"], ("01", "02", "10")),
        (["1", "2", "10"], ("1", "2", "10")),
        (["0", "1", "2"], ("0", "1", "2")),
        (["1.0", "2.0", "3.0"], ("1", "2", "3")),
        (["+1", "-1", "0"], ("-1", "0", "1")),
        (["true", "false", "true"], ("False", "True")),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_zeros_in_front_are_a_part_of_a_classs_name(
    tmp_path: Path, labels: list[str], names: tuple[str, ...], suffix: str
) -> None:
    lines = ["a;y;b", *(f"{i};{labels[i % 3]};{i}" for i in range(60))]
    pd.Series(lines).to_csv(tmp_path / f"a{suffix}", index=False, header=False)
    data = one(Source(f"a{suffix}", target="y", positive=names[-1], folder=tmp_path))
    assert data.classes == names


def test_columns_of_one_name_are_told(tmp_path: Path) -> None:
    rows = pa.table([np.arange(30), np.arange(30), np.arange(30) % 2], names=["a", "a", "y"])
    pq.write_table(rows, tmp_path / "a.parquet")
    with pytest.raises(DataError) as caught:
        one(Source("a.parquet", target="y", folder=tmp_path))
    assert str(caught.value) == (
        "'a.parquet' cannot be read: several of its columns are called 'a'; rename all but one."
    )


@pytest.mark.parametrize("end", [",", ",,", ", ", ";", "\t"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_separator_at_the_end_of_each_row_shifts_no_column(
    tmp_path: Path, end: str, newline: str
) -> None:
    between = end[0]
    rows = [[f"0{i % 2 + 1}", f"{i % 7}", f"{i / 4}"] for i in range(30)]
    for name, at_end in (("plain.csv", ""), ("ends.csv", end)):
        lines = [
            between.join(["sold", "rooms", "price"]),
            *(between.join(r) + at_end for r in rows),
        ]
        (tmp_path / name).write_text(newline.join(lines), newline="")
    plain, ends = (
        one(Source(n, target="sold", folder=tmp_path)) for n in ("plain.csv", "ends.csv")
    )
    assert ends.classes == ("01", "02")
    assert torch.equal(tensors(ends.train).x, tensors(plain.train).x)
    assert torch.equal(tensors(ends.train).y, tensors(plain.train).y)
    assert read_rows(tmp_path / "ends.csv", ends.transformer)["price"].tolist() == [
        i / 4 for i in range(30)
    ]


@pytest.mark.parametrize("last", ["2", "NA", ""])
def test_names_of_rows_as_r_writes_them_are_no_column(tmp_path: Path, last: str) -> None:
    rows = [f"{i},{i % 7},{last if i % 5 == 0 else i % 3}" for i in range(1, 31)]
    (tmp_path / "a.csv").write_text("\n".join(["y,b", *rows]))
    frame = read_table(tmp_path / "a.csv")
    assert frame["y"].tolist() == [i % 7 for i in range(1, 31)]


@pytest.mark.parametrize("name", ["a", "y"])
def test_columns_of_one_name_are_told_in_text_too(tmp_path: Path, name: str) -> None:
    # Pandas calls the second one y.1, and what is to be predicted would be a feature.
    rows = [f"{i % 7},{i % 2},{i % 2 if name == 'y' else i % 5}" for i in range(30)]
    (tmp_path / "a.csv").write_text("\n".join([f"a, y,{name}", *rows]))
    source = Source("a.csv", target="y", folder=tmp_path)
    (problem,) = mistakes_of(source)
    assert problem.message == (
        f"'a.csv' cannot be read: several of its columns are called {name!r}; rename all but one."
    )
    with pytest.raises(ValueError, match=f"several of its columns are called {name!r}"):
        read_table(tmp_path / "a.csv")


def test_columns_without_a_name_may_be_several(tmp_path: Path) -> None:
    rows = [f"{i % 7},{i % 2},{i % 3},{i % 5}" for i in range(30)]
    (tmp_path / "a.csv").write_text("\n".join([",y,,b", *rows]))
    assert one(Source("a.csv", target="y", folder=tmp_path)).shape == (3,)


@pytest.mark.parametrize("start", [0, None])
def test_an_index_that_is_called_as_a_column_is_told(tmp_path: Path, start: int | None) -> None:
    n = np.arange(30)
    index = pd.Index(n[::-1].copy(), name="a") if start is None else pd.RangeIndex(30, name="a")
    frame = pd.DataFrame({"a": n, "y": n % 2}, index=index)
    frame.to_parquet(tmp_path / "a.parquet")
    source = Source("a.parquet", target="y", folder=tmp_path)
    (problem,) = mistakes_of(source)
    assert problem.path == ("data",)
    assert problem.message == (
        "'a.parquet' cannot be read: several of its columns are called 'a'; rename all but one."
    )
    with pytest.raises(DataError) as caught:
        one(source)
    assert str(caught.value) == problem.message


@pytest.mark.parametrize(
    ("index", "names"),
    [
        (np.arange(30)[::-1].copy(), []),
        (pd.RangeIndex(30), []),
        (pd.RangeIndex(30, name="rooms"), ["rooms"]),
        (pd.RangeIndex(30, name=""), [""]),
        (pd.MultiIndex.from_arrays([np.arange(30), np.arange(30)], names=[None, "b"]), ["b"]),
    ],
)
def test_the_columns_of_a_parquet_file_are_those_that_are_read(
    tmp_path: Path, index: Any, names: list[str]
) -> None:
    columns = {"__index_level_5__": np.arange(30), "y": np.arange(30) % 2}
    pd.DataFrame(columns, index=index).to_parquet(tmp_path / "a.parquet")
    found = parquet_columns(tmp_path / "a.parquet")
    assert sorted(found) == sorted([*columns, *names])
    assert sorted(found) == sorted(read_table(tmp_path / "a.parquet").columns)


def test_words_that_say_missing_are_told_where_they_are_targets(tmp_path: Path) -> None:
    lines = ["a,y", *(f"{i % 7},{['None', 'NA', 'b'][i % 3]}" for i in range(60))]
    (tmp_path / "a.csv").write_text("\n".join(lines))
    with pytest.raises(DataError) as caught:
        load(Source("a.csv", target="y", folder=tmp_path), seed=0)
    assert str(caught.value) == (
        "the target 'y' of 'a.csv' is missing in 40 of 60 rows. Fill them in, or leave them out. "
        "In text, ?, NA, None, null and the like say so; a class needs another name."
    )


def table(tmp_path: Path, **columns: Any) -> Source:
    columns = {"a": np.arange(30) % 4, "y": np.arange(30) % 2, **columns}
    pd.DataFrame(columns).to_parquet(tmp_path / "a.parquet")
    return Source("a.parquet", target="y", folder=tmp_path)


@pytest.mark.parametrize(
    ("y", "names"),
    [
        (np.arange(40) % 3 + 9, ("9", "10", "11")),
        (np.arange(40) % 3 * 5.0, ("0", "5", "10")),
        (np.arange(40) % 2 == 0, ("False", "True")),
        (["b", "a"] * 20, ("a", "b")),
        (pd.Categorical(["b", "a"] * 20), ("a", "b")),
        (pd.array([10, 2] * 20, dtype="Int64"), ("2", "10")),
    ],
)
def test_classes_are_sorted_as_what_they_are(tmp_path: Path, y: Any, names: tuple[str]) -> None:
    data = one(table(tmp_path, a=np.arange(40), y=y))
    assert data.classes == names
    assert tensors(data.train).y.dtype == torch.int64


@pytest.mark.parametrize(
    ("columns", "settings", "message"),
    [
        ({"y": [0, 1, None] * 10}, {},
         ("the target 'y' of 'a.parquet' is missing in 10 of 30 rows. Fill them in, or leave them "
         "out.")),
        ({"y": ["yes"] * 30}, {},
         "the target 'y' of 'a.parquet' is always 'yes'; two classes are the least."),
        ({"y": np.arange(30) / 4}, {},
         ("the target 'y' of 'a.parquet' has numbers such as 0.25, which are not classes. To "
         "predict numbers use `trainer: regressor`.")),
        ({"y": np.arange(30)}, {},
         ("the target 'y' of 'a.parquet' has 30 different numbers in 30 examples, too many for "
         "classes. To predict numbers use `trainer: regressor`.")),
        ({"y": ["yes", "no"] * 15}, {"task": "regression"},
         ("the target 'y' of 'a.parquet' has values such as 'yes'; regression needs numbers. For "
         "classes use `trainer: classifier`.")),
        ({"y": ["0.5", *["2"] * 28, "n/k"]}, {"task": "regression"},
         ("the target 'y' of 'a.parquet' has values such as 'n/k'; regression needs numbers. For "
         "classes use `trainer: classifier`.")),
        ({"y": [2.5] * 30}, {"task": "regression"},
         "the target 'y' of 'a.parquet' is always 2.5; there is nothing to predict."),
        ({"y": [np.inf, 1.0] * 15}, {"task": "regression"},
         "the target 'y' of 'a.parquet' is missing or infinite in 15 of 30 examples."),
        ({"y": ["yes", "no"] * 15}, {"positive": "yse"},
         "positive: there is no class 'yse'. Did you mean 'yes'?"),
        ({"y": ["yes", "no"] * 14 + ["maybe"] * 2}, {},
         ("the label 'maybe' appears 2 times among the 30 examples to split; 3 is the least. Leave "
         "it out, or merge it with another.")),
        ({"a": [1.0, -np.inf, 2.0] * 10}, {},
         "the column 'a' of 'a.parquet' is infinite in 10 rows, the first of them row 1."),
        ({"a": [[1, 2]] * 30}, {},
         ("the column 'a' of 'a.parquet' has values such as array([1, 2]); a feature is a number, "
         "a date, or text.")),
        ({"a": pd.to_timedelta(range(30), unit="s")}, {},
         ("the column 'a' of 'a.parquet' has values such as Timedelta('0 days 00:00:00'); a "
         "feature is a number, a date, or text.")),
        ({"a": 1}, {}, "'a.parquet' has no column that tells anything beside the target."),
        ({"a": [], "y": []}, {}, "'a.parquet' has no rows."),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_table_is_told(
    tmp_path: Path, columns: dict[str, Any], settings: dict[str, Any], message: str
) -> None:
    from dataclasses import replace

    with pytest.raises(DataError) as caught:
        load(replace(table(tmp_path, **columns), **settings), seed=0)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "'a.csv' is empty."),
        ("a,y\n1,2\n1,2,3\n", ("'a.csv' cannot be read: Error tokenizing data. C error: Expected 2 "
         "fields in line 3, saw 3.")),
        ("a,y\n", "'a.csv' has no rows."),
    ],
)  # fmt: skip
def test_a_broken_csv_file_is_told(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(DataError) as caught:
        load(Source("a.csv", target="y" if text else None, folder=tmp_path), seed=0)
    assert str(caught.value) == message


def save(path: Path, **arrays: Any) -> Path:
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    else:
        torch.save({name: torch.as_tensor(array) for name, array in arrays.items()}, path)
    return path


RNG = np.random.default_rng(0)
LABELS = np.arange(40) % 2
PHOTOS = RNG.integers(0, 255, (40, 5, 6, 3), dtype=np.uint8)


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
@pytest.mark.parametrize(
    ("x", "shape"),
    [
        (RNG.normal(3, 2, (40, 7)), (7,)),
        (RNG.normal(3, 2, 40), (1,)),
        (PHOTOS[..., 0], (1, 5, 6)),
        (PHOTOS, (3, 5, 6)),
        (PHOTOS.transpose(0, 3, 1, 2).copy(), (3, 5, 6)),
        (PHOTOS.astype(np.float32) / 255, (3, 5, 6)),
    ],
)
def test_arrays_are_tables_or_images(
    tmp_path: Path, suffix: str, x: Any, shape: tuple[int, ...]
) -> None:
    save(tmp_path / f"a{suffix}", x=x, y=LABELS)
    data = one(Source(f"a{suffix}", folder=tmp_path))
    train = tensors(data.train).x
    assert data.shape == shape == train.shape[1:]
    dims = (0, 2, 3) if len(shape) == 3 else (0,)
    assert train.mean(dim=dims).abs().max() < 1e-5
    assert (train.std(dim=dims, correction=0) - 1).abs().max() < 1e-4
    ((rows, _, _),) = splits(LABELS, data.classes, seed=0)
    raw = x[rows] if x.ndim > 1 else x[rows, None]
    joblib.dump(data.transformer, tmp_path / "transformer.joblib")
    again = joblib.load(tmp_path / "transformer.joblib").transform(raw)
    assert np.allclose(again, train)


@pytest.mark.parametrize(
    ("x", "n_warnings"),
    [
        (np.arange(480.0).reshape(40, 6, 2), 1),
        (np.arange(480.0).reshape(40, 2, 6), 1),
        (np.arange(360.0).reshape(40, 3, 3), 0),
        (PHOTOS[..., 0], 0),  # bytes are pixels
        (PHOTOS / 255, 0),  # three channels
    ],
)
def test_floats_that_may_be_series_are_warned_of(
    tmp_path: Path, x: Any, n_warnings: int, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "a.npz", x=x, y=LABELS)
    load(Source("a.npz", folds=2, folder=tmp_path), seed=0)
    told = (
        f"the examples of 'a.npz', floats of shape {x.shape[1:]}, are taken for greyscale images, "
        "standardised by one mean and deviation. Series and the like arrive as they are from a "
        "Dataset of your own, `data: package.module:make`."
    )
    assert caplog.messages == [told] * n_warnings


def test_the_channels_of_an_image_are_where_they_were(tmp_path: Path) -> None:
    save(tmp_path / "last.npz", x=PHOTOS, y=LABELS)
    save(tmp_path / "first.npz", x=PHOTOS.transpose(0, 3, 1, 2), y=LABELS)
    last, first = (one(Source(name, folder=tmp_path)) for name in ("last.npz", "first.npz"))
    assert torch.equal(tensors(last.train).x, tensors(first.train).x)
    ((rows, _, _),) = splits(LABELS, last.classes, seed=0)
    red = tensors(last.train).x[:, 0].numpy()
    assert np.corrcoef(red.ravel(), PHOTOS[rows][..., 0].ravel())[0, 1] > 0.9999


@pytest.mark.parametrize("suffix", [".npz", ".pt"])
@pytest.mark.parametrize("shape", [(40,), (40, 5), (40, 5, 2), (40, 2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.int64, np.int16])
def test_integers_in_arrays_stay_what_they_are_where_they_may(
    tmp_path: Path, suffix: str, shape: tuple[int, ...], dtype: type
) -> None:
    most = np.iinfo(dtype).max
    ids: Any = (most - np.arange(math.prod(shape)).reshape(shape)).astype(dtype)
    save(tmp_path / f"a{suffix}", x=ids, y=LABELS)
    data = one(Source(f"a{suffix}", integers=True, folder=tmp_path))
    ((rows, _, _),) = splits(LABELS, data.classes, seed=0)
    assert data.dtype == torch.int64
    assert data.transformer is None
    assert data.shape == (shape[1:] or (1,))
    assert np.array_equal(tensors(data.train).x.reshape(-1, *shape[1:]), ids[rows])


@pytest.mark.parametrize("x", [PHOTOS, PHOTOS[..., 0, 0], PHOTOS > 99, PHOTOS[:, 0, 0] / 1])
def test_bytes_truths_and_floats_in_arrays_are_standardised_all_the_same(
    tmp_path: Path, x: Any
) -> None:
    save(tmp_path / "a.npz", x=x, y=LABELS)
    source = Source("a.npz", folder=tmp_path)
    one_way, other = one(source), one(replace(source, integers=True))
    assert other.dtype == torch.float32
    assert one_way.digest == other.digest


def test_parts_in_a_file_are_respected(tmp_path: Path) -> None:
    # As in the file of MNIST that Keras gives away.
    x = np.arange(100.0)[:, None]
    y = np.arange(100) % 2
    save(tmp_path / "a.npz", x_train=x[:60], y_train=y[:60], x_test=x[60:], y_test=y[60:])
    data = one(Source("a.npz", folder=tmp_path))
    test = data.transformer.inverse_transform(tensors(data.test).x)[:, 0]
    assert np.allclose(test, np.arange(60, 100))
    assert (len(data.train), len(data.val)) == (45, 15)
    save(tmp_path / "c.npz", X_train=x[:60], y_train=y[:60], X_test=x[60:], y_test=y[60:])
    assert one(Source("c.npz", folder=tmp_path)).digest == data.digest
    save(tmp_path / "b.pt", x_train=x[:50], y_train=y[:50], x_val=x[50:], y_val=y[50:])
    data = one(Source("b.pt", folder=tmp_path))
    assert (len(data.train), len(data.val), len(data.test)) == (40, 50, 10)


def test_two_tensors_are_features_and_targets(tmp_path: Path) -> None:
    x = torch.arange(20.0)[:, None]
    torch.save((x, x * 2), tmp_path / "a.pt")
    data = one(Source("a.pt", "regression", folder=tmp_path))
    assert torch.allclose(tensors(data.train).x[:, 0], tensors(data.train).y)


def test_the_target_names_the_array(tmp_path: Path) -> None:
    save(tmp_path / "a.npz", images=PHOTOS, ids=np.arange(40), kind=LABELS)
    data = one(Source("a.npz", target="kind", folder=tmp_path))
    assert data.shape == (3, 5, 6)


class Payload:
    """Anything but numbers."""


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.where(np.arange(80).reshape(40, 2) == 7, np.nan, 1.0), "y": LABELS},
         ("'x' of 'a.npz' is NaN or infinite in 1 place, the first of them [3, 1]. Fill them in: "
         "only tables in files are filled in here.")),
        ({"x": np.zeros((39, 2)), "y": LABELS}, "'x' of 'a.npz' has 39 examples, and 40 targets."),
        ({"x": np.zeros((40, 2)), "y": np.zeros((40, 2))},
         "the target of 'a.npz' has the shape (40, 2); it must have one value for each example."),
        ({"x": np.zeros((40, 2)), "y": np.eye(3)[LABELS]},
         ("the target of 'a.npz' has the shape (40, 3); it must have one value for each example. "
         "Of one-hot rows, save y.argmax(axis=1).")),
        ({"x": np.full((40, 2), "a"), "y": LABELS},
         "'x' of 'a.npz' is of type <U1; features must be numbers."),
        ({"x": np.zeros((40, 1, 2, 3, 4)), "y": LABELS},
         ("'x' of 'a.npz' has the shape (40, 1, 2, 3, 4); it must be (n, columns), (n, height, "
         "width), (n, channels, height, width) or (n, height, width, channels). Series and the "
         "like arrive as they are from a Dataset of your own, `data: package.module:make`.")),
        ({"x": np.array([Payload()] * 40), "y": LABELS},
         "'a.npz' cannot be read: it holds other objects than tensors, numbers and text."),
        ({"x_train": np.zeros((40, 2)), "y_train": LABELS, "x_test": np.zeros((40, 3)),
          "y_test": LABELS},
         "the examples in the parts of 'a.npz' differ in shape: (2,) and (3,)."),
        ({"x_train": np.zeros((40, 2)), "y_train": LABELS, "x_test": np.zeros((40, 2)),
          "y_test": LABELS[:, None]},
         "the targets in the parts of 'a.npz' differ in shape: () and (1,)."),
        ({"x": np.zeros((40, 2)), "y": np.where(LABELS, np.nan, 1.0)},
         "the target of 'a.npz' is missing or infinite in 20 of 40 examples."),
    ],
)  # fmt: skip
def test_what_is_wrong_in_arrays_is_told(
    tmp_path: Path, arrays: dict[str, Any], message: str
) -> None:
    save(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError) as caught:
        load(Source("a.npz", folder=tmp_path), seed=0)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("held", "message"),
    [
        (torch.zeros(3), ("'a.pt' cannot be read: it holds a Tensor of shape (3,); it must hold "
         "two tensors, x and y, or a dict of tensors.")),
        (([[1.0], [2.0]], [0, 1]), ("'a.pt' cannot be read: it holds a tuple of 2, among them a "
         "list of 2; it must hold two tensors")),
        ({"x": torch.zeros(3), "y": "no"}, ("'a.pt' cannot be read: it holds a dict of x, y, among "
         "them a str; it must hold two tensors")),
        (torch.utils.data.TensorDataset(torch.zeros(3)), ("'a.pt' cannot be read: it holds a "
         "TensorDataset; save its tensors: torch.save(dataset.tensors, 'a.pt').")),
        (Payload(),
         "'a.pt' cannot be read: it holds other objects than tensors, numbers and text."),
        ({"x": torch.zeros(3)}, "'a.pt' has no array 'y'. Known: x."),
    ],
)  # fmt: skip
def test_what_is_wrong_in_tensors_is_told(tmp_path: Path, held: Any, message: str) -> None:
    torch.save(held, tmp_path / "a.pt")
    with pytest.raises(DataError) as caught:
        load(Source("a.pt", folder=tmp_path), seed=0)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("content", [b"asdasdasd", b"hello", b"", b"PK\x03\x04 and no more"])
def test_a_file_of_tensors_that_is_none_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(
        DataError, match=r"^'a\.pt' cannot be read: torch\.save has not written it so\.$"
    ):
        load(Source("a.pt", folder=tmp_path), seed=0)


def test_short_floats_are_numbers(tmp_path: Path) -> None:
    x = torch.arange(40.0)[:, None]
    torch.save({"x": x.bfloat16(), "y": torch.arange(40) % 2}, tmp_path / "a.pt")
    torch.save({"x": x, "y": torch.arange(40) % 2}, tmp_path / "b.pt")
    a, b = (one(Source(name, folder=tmp_path)) for name in ("a.pt", "b.pt"))
    assert torch.equal(tensors(a.train).x, tensors(b.train).x)
