"""How values and counts are written, and that tables show what looks like rich's markup."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console, RenderableType

import hpo
from hpo.catalog import StudyRecord
from hpo.reports import leaderboard, studies, trials, why
from hpo.words import counted, number, shortened


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (None, ""),
        (0.123456, "0.1235"),
        (1234567.0, "1234567"),
        (1234567, "1234567"),
        (1e12, "1e+12"),
        (True, "True"),
        ("[a]x", "[a]x"),
    ],
)
def test_a_value_in_four_digits(value: object, said: str) -> None:
    assert number(value) == said


def test_how_many_there_are() -> None:
    said = [counted(n, "free parameter") for n in (0, 1, 1200)]
    assert said == ["0 free parameters", "1 free parameter", "1,200 free parameters"]


def test_a_long_text_is_shortened() -> None:
    assert shortened("x" * 1_000) == "x" * 1_000
    assert shortened("x" * 1_001) == "x" * 994 + " [...]"
    assert shortened("abcdefghijk", 10) == "abcd [...]"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyRecord:
    """A study of one trial in which all that can looks like markup."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gives.py").write_text(
        'def train(trial):\n    return {"[red]loss": 1.0, "[red]size": 2.0}\n', encoding="utf-8"
    )
    file = {
        "name": "s",
        "objective": {"function": "gives:train", "metric": "[red]loss"},
        "space": {"[b]y": ["[a]x", "[/a]x"]},
        "search": {"trials": 1, "sampler": "random"},
        "tracking": "none",
    }
    return hpo.run(file).study


def printed(what: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_what_looks_like_markup_is_shown_as_it_is(study: StudyRecord) -> None:
    ranked, metric = study.ranked(), study.metric
    value = str(ranked[0].params["[b]y"])
    shown = {
        "why": printed(why.why_table(study, why.why(study, 0))),
        "leaderboard": printed(leaderboard.leaderboard(ranked, metric)),
        "compact": printed(leaderboard.leaderboard(ranked, metric, compact=True)),
        "best": printed(leaderboard.best_table(ranked[0], metric)),
        "trials": printed(trials.trials_table(ranked, [metric])),
        "narrow": printed(trials.trials_list(ranked, [metric])),
        "Markdown": leaderboard.as_markdown(study),
    }
    for name, text in shown.items():
        assert all(word in text for word in ("[b]y", value, "[red]loss")), name
        assert "\\" not in text, name
    for table in (studies.studies_table([study]), studies.overview(study)):
        assert "[red]loss" in printed(table)
