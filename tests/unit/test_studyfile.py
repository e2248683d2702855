"""Study files as text: where a mistake stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpo import spec, studyfile
from hpo.errors import SpecError


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: {b: 1\n", "s.yaml:1: not valid YAML: { is never closed."),
        ("a: 1\nb: [1, 2\n", "s.yaml:2: not valid YAML: [ is never closed."),
        ('a: "x\nb: 2\n', 's.yaml:1: not valid YAML: " is never closed.'),
        ("a: {b: [\n", "s.yaml:1: not valid YAML: a bracket or brace is never closed."),
        ("a: 1\nb: 2\na: 3\n", "s.yaml:3: not valid YAML: duplicate key 'a', which line 1 has"),
        ("a:\n  b: 1\n  b: 3\n", "s.yaml:3: not valid YAML: duplicate key 'b', which line 2 has"),
    ],
)
def test_what_is_not_closed_or_said_twice_is_named_with_its_line(text: str, said: str) -> None:
    with pytest.raises(SpecError) as raised:
        studyfile.parse(text, "s.yaml", Path())

    assert str(raised.value).startswith(said)


def test_a_setting_that_is_wrong_is_not_missing_as_well() -> None:
    objective = {"trainer": "classifier", "data": "digits", "metric": "val_coverage"}
    space = {"learning_rate": {"float": [0.1, 1]}}

    def mistakes(**settings: object) -> list[str]:
        values = {"objective": {**objective, **settings}, "space": space}
        with pytest.raises(SpecError) as raised:
            spec.check(studyfile.StudyFile("s.yaml", Path(), values))
        return [".".join(map(str, mistake.path)) for mistake in raised.value.mistakes]

    assert mistakes(required_accuracy=99) == ["objective.required_accuracy"]
    assert mistakes() == mistakes(required_accuracy=None) == ["objective.metric"]


@pytest.mark.parametrize(("text", "read"), [("90s", 90), ("1h30m", 5400), ("0.5", 0.5)])
def test_durations_on_a_command_line(text: str, read: float) -> None:
    assert spec.seconds(text) == read


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (1e-5, "0.001s"),
        (0.25, "0.25s"),
        (36, "36s"),
        (90, "1.5m"),
        (3599, "60m"),
        (358_560, "100h"),
    ],
)
def test_durations_are_written_as_a_command_line_has_them(seconds: float, text: str) -> None:
    assert spec.as_duration(seconds) == text
    assert spec.seconds(text) == pytest.approx(seconds, rel=0.05, abs=0.001)


@pytest.mark.parametrize("text", ["0", "0s", "-1", "inf", "nan"])
def test_a_duration_is_above_0(text: str) -> None:
    with pytest.raises(ValueError, match=f"{text} must be a duration above 0, such as 90s"):
        spec.seconds(text)
