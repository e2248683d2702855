"""What an error tells: the next thing to type, with the study's name as soon as it is known."""

from __future__ import annotations

import signal

from hpo.errors import HpoError, StorageError


def test_a_next_step_names_the_study_once_it_is_known() -> None:
    error = StorageError("it was away.", "When it is back: hpo resume {study}")
    assert str(error) == "it was away. When it is back: hpo resume STUDY"
    assert error.for_study("digits") is error
    assert str(error) == "it was away. When it is back: hpo resume digits"


def test_other_braces_stay_as_they_are() -> None:
    error = HpoError("no baseline.", "Give one: --set 'baseline={}', of {study} or {x}")
    assert error.for_study("s").next_step == "Give one: --set 'baseline={}', of s or {x}"


def test_an_interrupted_command_exits_as_shells_do() -> None:
    error = HpoError("no room.")
    assert error.exit_code == 1
    assert error.interrupted_by(signal.SIGTERM).exit_code == 128 + signal.SIGTERM
    assert HpoError("no room.").exit_code == 1
