"""What a model is shown of a long history."""

from __future__ import annotations

import random

from optuna.distributions import FloatDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpo.samplers.memory import MOST, Memory

MAXIMIZE = StudyDirection.MAXIMIZE
N_BEST = 25


def _history(n_trials: int) -> list[FrozenTrial]:
    """Trials in all states; of the complete ones, the value is the number."""
    states = (TrialState.COMPLETE, TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    history = []
    for number in range(n_trials):
        state = TrialState.RUNNING if number == n_trials - 1 else states[number % 4]
        trial = create_trial(
            state=state,
            params={"x": 0.5},
            distributions={"x": FloatDistribution(0.0, 1.0)},
            value=float(number) if state is TrialState.COMPLETE else None,
            intermediate_values={1: 0.0} if state is TrialState.PRUNED else {},
        )
        trial.number = trial._trial_id = number
        history.append(trial)
    return history


def _numbers(trials: list[FrozenTrial]) -> list[int]:
    return [trial.number for trial in trials]


def test_a_short_history_is_shown_as_it_is() -> None:
    history = _history(MOST)
    assert Memory(seed=0).recall(history, MAXIMIZE) is history


def test_a_long_history_is_shown_with_its_best_trials_and_the_unfinished_ones() -> None:
    history = _history(2_000)
    shown = Memory(seed=0).recall(history, MAXIMIZE)
    complete = [trial for trial in history if trial.state is TrialState.COMPLETE]
    assert {*_numbers(complete[-N_BEST:]), 1_999} <= {*_numbers(shown)}
    assert len(shown) == MOST + 1  # with the one that is unfinished
    assert _numbers(shown) == sorted(_numbers(shown))


def test_the_others_stand_for_all_of_them() -> None:
    """275 of 1,975, of which half are complete: 4 standard deviations are 0.11."""
    shown = Memory(seed=1).recall(_history(2_000), MAXIMIZE)
    others = [trial for trial in shown if trial.number < 2_000 - 2 * N_BEST]
    complete = sum(trial.state is TrialState.COMPLETE for trial in others)
    early = sum(trial.number < 1_000 for trial in others)
    assert abs(complete / len(others) - 0.5) < 0.12
    assert abs(early / len(others) - 0.5) < 0.14


def test_a_memory_follows_from_seed_and_history_alone() -> None:
    """Not from when, in which order and in how many looks the history was learnt."""
    history = _history(1_000)
    at_once = Memory(seed=2).recall(history, MAXIMIZE)
    bit_by_bit, shuffled = Memory(seed=2), random.Random(0).sample(history, len(history))
    for n_known in range(MOST, len(history), 77):
        bit_by_bit.recall(history[:n_known], MAXIMIZE)
    assert _numbers(bit_by_bit.recall(history, MAXIMIZE)) == _numbers(at_once)
    assert _numbers(Memory(seed=2).recall(shuffled, MAXIMIZE)) == _numbers(at_once)
    assert _numbers(Memory(seed=3).recall(history, MAXIMIZE)) != _numbers(at_once)
