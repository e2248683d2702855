"""Commands with placeholders: what is wrong with them, and what runs."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from hpo.templates import (
    command_problems,
    file_problem,
    fill,
    pattern_problems,
    placeholders,
    program,
)

ABOUT = {"trial": "7", "seed": "1", "directory": "/t 7", "device": "cpu", "config": "/t 7/c.json"}
NASTY = [
    "; rm -rf /",
    "$(touch pwned)",
    "`id`",
    "a'b\"c",
    "two\nlines",
    " -x ",
    "*",
    "\\",
    "",
    "{x}",
]


@pytest.mark.parametrize(
    ("command", "config", "arguments"),
    [
        ("train --lr {lr}", {"lr": 1e-05}, ["train", "--lr", "1e-05"]),
        ("train --lr={lr} 'a b'", {"lr": 0.1}, ["train", "--lr=0.1", "a b"]),
        (["train", "{x} {y}"], {"x": 1, "y": "é"}, ["train", "1 é"]),
        ("t {w} {on}", {"w": [64, 32], "on": True}, ["t", "64,32", "true"]),
        ("t {args}", {"lr": 0.1, "on": False, "no": None}, ["t", "--lr=0.1", "--on=false"]),
        ("t {args}", {}, ["t"]),
        ("t {on:--on} {off:--off}", {"on": True, "off": False}, ["t", "--on"]),
        ("t {on:--on}", {"on": None}, ["t"]),
        ("t --w {w:*} x", {"w": [64, 32]}, ["t", "--w", "64", "32", "x"]),
        ("t --w {w:*} x", {"w": 64}, ["t", "--w", "64", "x"]),
        ("t --w {w:*} x", {"w": None}, ["t", "x"]),
        (
            "t {flags}",
            {"lr": 0.1, "on": True, "no": False, "nil": None, "w": (4, 2)},
            ["t", "--lr=0.1", "--on", "--w", "4", "2"],
        ),
        ("t {flags}", {"w": []}, ["t"]),
        ("t {directory}/m {trial}", {}, ["t", "/t 7/m", "7"]),
        ("t {seed}", {"seed": 9}, ["t", "9"]),
        ("t --ab {a b} {x} '{a b} 1'", {"a b": 2, "x": 3}, ["t", "--ab", "2", "3", "2 1"]),
        ("t {it's:--on} {it's}", {"it's": True}, ["t", "--on", "true"]),
        ("t {seed}", {"seed": None}, ["t"]),
        ("""t '{{"a": {{"lr": {lr}}}}}' {{}}""", {"lr": 1}, ["t", '{"a": {"lr": 1}}', "{}"]),
    ],
)
def test_placeholders_become_values(
    command: Any, config: dict[str, Any], arguments: list[str]
) -> None:
    assert command_problems(command, config) == []
    assert fill(command, config, ABOUT) == arguments


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("t --momentum {gone} x", ["t", "x"]),
        ("t -m {gone}", ["t"]),
        ("t --verbose --momentum={gone}", ["t", "--verbose"]),
        ("t --a=1 {gone}", ["t", "--a=1"]),
        ("t -- {gone}", ["t", "--"]),
        ("t --lr {lr} {gone}", ["t", "--lr", "0.1"]),
    ],
)
def test_an_argument_without_a_value_is_left_out_with_its_flag(
    command: str, arguments: list[str]
) -> None:
    assert fill(command, {"lr": 0.1}, ABOUT) == arguments
    assert fill(command, {"lr": 0.1, "gone": None}, ABOUT) == arguments


@pytest.mark.parametrize("value", NASTY)
def test_a_value_is_one_argument_whatever_stands_in_it(value: str) -> None:
    assert fill("t {x} {y}", {"x": value, "y": value}, ABOUT) == ["t", value, value]
    assert fill("t --x={x}", {"x": value}, ABOUT) == ["t", f"--x={value}"]


@pytest.mark.parametrize("value", NASTY)
def test_a_value_is_one_argument_of_a_shells_text_too(value: str) -> None:
    text = "for x in a{x} {args}; do printf '%s\\0' \"$x\"; done; echo ${{HOME}}$(echo {x})"
    assert command_problems(text, ["x"], for_shell=True) == []

    run = subprocess.run(
        fill(text, {"x": value}, ABOUT, for_shell=True),
        capture_output=True,
        env={"HOME": "~"},
        check=True,
    )

    first, second, *_ = run.stdout.split(b"\0")
    assert [first.decode(), second.decode()] == [f"a{value}", f"--x={value}"]


def test_what_has_no_value_is_the_empty_text_in_a_shell() -> None:
    command = fill("printf '<%s>' {x} {trial} {args}", {"x": None}, ABOUT, for_shell=True)

    run = subprocess.run(command, capture_output=True, text=True, check=True)

    assert run.stdout == "<><7>"


def test_in_a_shell_too_a_placeholder_may_be_no_argument_or_several() -> None:
    text = "printf '<%s>' {on:--on} {off:--off} {w:*} {flags}"
    config = {"on": True, "off": False, "w": ["a b", "$c"]}

    run = subprocess.run(
        fill(text, config, ABOUT, for_shell=True), capture_output=True, text=True, check=True
    )

    assert run.stdout == "<--on><a b><$c><--on><--w><a b><$c>"


@pytest.mark.parametrize(
    ("command", "shell", "said"),
    [
        (
            "t {lerning_rate}",
            False,
            "{lerning_rate} is no parameter. Did you mean 'learning_rate'?",
        ),
        ("t {x.y}", False, "write it twice: {{ or }}"),
        ("awk '{print $1}'", True, "{print $1} is no parameter; where a brace is meant"),
        ("t {learning_rate", False, "where a brace is meant"),
        ("t 'a", False, "no closing quotation"),
        ("  ", False, "it is empty"),
        ("", True, "it is empty"),
        ([], False, "it is empty"),
        (["t"], True, "a shell reads one text"),
        ("t --all={args}", False, "{args} is not one argument"),
        ('t "run {learning_rate}"', True, "{learning_rate} is quoted by hpo"),
        ("t 'it\\' \"{seed}\"", True, "{seed} is quoted by hpo"),
        ("t '{args}'", True, "{args} is quoted by hpo"),
        ("t --x={x:*}", False, "{x:*} is not one argument"),
        ("t no{x:--x}", False, "{x:--x} is not one argument"),
        ("t {y:--y}", False, "{y} is no parameter"),
        ("t {x:.3f}", False, "{x:.3f} is not a placeholder: {x} is the value"),
        ("t {x:}", False, "{x:} is not a placeholder"),
        ("t '{x:--a b}'", False, "{x:--a b} is not a placeholder"),
        ("t {seed:*}", False, "{seed:*} is not a placeholder"),
        ("t {args:*}", False, "{args:*} is not a placeholder"),
        ("t {x:02d}", True, "{x:02d} is not a placeholder"),
        ("t '{x:*}'", True, "{x:*} is quoted by hpo"),
    ],
)
def test_a_problem_is_told_in_a_sentence(command: Any, said: str, *, shell: bool) -> None:
    (problem,) = command_problems(command, ["learning_rate", "x"], for_shell=shell)

    assert said in problem


def test_every_problem_is_told() -> None:
    assert len(command_problems("t {a} {b} {a} '{x}'", ["x"], for_shell=True)) == 3


@pytest.mark.parametrize(
    "text",
    ["t \\' {x} \\'", "t 'a' {x} \"b\"", "t '\\' {x}", 't "it\'s" {x} "\\""', "# don't"],
)
def test_what_stands_beside_a_shells_quotes_is_not_in_them(text: str) -> None:
    assert command_problems(text, ["x"], for_shell=True) == []


def test_the_names_in_a_command_are_listed_once() -> None:
    assert placeholders("t {b} {{c}} {a} {b}") == ["b", "a"]
    assert placeholders(["{b}", "x{a}"]) == ["b", "a"]


def test_the_program_is_known_unless_it_differs_by_trial() -> None:
    assert program("'my script' {x}") == "my script"
    assert program(["./{x}.sh"]) is None


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("/m.jsonl", "in the trial's own folder"),
        ("../m.jsonl", "in the trial's own folder"),
        ("", "in the trial's own folder"),
        ("metrics.jsonl", "hpo itself writes 'metrics.jsonl' there"),
        ("out/m.jsonl", None),
    ],
)
def test_a_metrics_file_has_a_name_of_its_own_in_the_trials_folder(
    file: str, said: str | None
) -> None:
    problem = file_problem(file)

    assert problem is None if said is None else problem and said in problem


def test_a_pattern_has_one_group_and_each_objective_a_pattern() -> None:
    patterns = {"a": "a ([0-9.]+)", "b": "b", "c": "(a)(b)", "d": "("}

    said = list(pattern_problems(patterns, ["a", "loss"]))

    assert [name for name, _ in said] == ["b", "c", "d", None]
    assert "should have one group" in said[0][1]
    assert "it has 2" in said[1][1]
    assert "no regular expression: missing )" in said[2][1]
    assert "no pattern finds 'loss'" in said[3][1]
