"""Where a command's metrics are."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from hpo.objectives import readings
from hpo.objectives.readings import JsonLines, Reading


@pytest.mark.parametrize("step", ["1.5", "-1", "99999999999", "NaN"])
def test_a_step_that_is_none_is_no_metric_either(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    readings._say_that_steps_are_whole.cache_clear()
    (tmp_path / "out").write_text(f'{{"step": {step}, "loss": 1}}\n' * 2, encoding="utf-8")

    with caplog.at_level(logging.WARNING):
        found = list(JsonLines(tmp_path / "out").read(last=True))

    assert found == [Reading(None, {"loss": 1.0})] * 2
    assert caplog.text.count("a 'step' that is not a whole number from 0 to 2147483647") == 1


def test_an_epoch_may_be_a_fraction_beside_a_step(tmp_path: Path) -> None:
    (tmp_path / "out").write_text('{"step": 3, "epoch": 0.5, "loss": 1}\n', encoding="utf-8")

    assert list(JsonLines(tmp_path / "out").read(last=False)) == [
        Reading(3, {"epoch": 0.5, "loss": 1.0})
    ]
