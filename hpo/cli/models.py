"""The command about what was trained: export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpo.cli.app import (
    JsonOption,
    StorageOption,
    StudyArgument,
    command,
    only_json,
    print_json,
    stderr,
    stdout,
)
from hpo.cli.studies import find
from hpo.errors import HpoError

if TYPE_CHECKING:
    from hpo.catalog import StudyRecord
    from hpo.trial import TrialRecord


@command("export")
def export(
    study: StudyArgument,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="FOLDER", help="Where; STUDY-model by default."),
    ] = None,
    trial: Annotated[
        int | None, typer.Option("--trial", metavar="N", help="Which; the best by default.")
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Also as ONNX, checked.")] = False,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Export the winner: its weights, or the estimator, and a script that loads them."""
    from hpo.winners import example_for, winner

    record = find(study, storage)
    chosen = _chosen(record, trial)
    folder = to or Path(f"{study}-model")
    with only_json(as_json):
        trained = winner(record, chosen, lambda text: stderr().print(text, markup=False))
        difference = trained.export(folder, onnx=onnx)
    files = sorted(path.name for path in folder.iterdir())
    if as_json:
        said = {"study": study, "trial": chosen.number, "folder": str(folder), "files": files}
        print_json(said | ({"onnx_difference": difference} if onnx else {}))
        return
    stdout().print(f"Trial {chosen.number} of '{study}' is in {folder}: {', '.join(files)}.")
    if difference is not None:
        stdout().print(f"The ONNX file's outputs are PyTorch's to within {difference:.1g}.")
    stderr().print(f"Try it: python {folder / 'predict.py'} {example_for(record)}", markup=False)


def _chosen(record: StudyRecord, number: int | None) -> TrialRecord:
    """The trial of that number, or else the best.

    Raises:
        HpoError: there is none, or it has not come to its end.
    """
    trials = f"See: hpo trials {record.name}"
    if number is None:
        best = record.best()
        if best is None:
            raise HpoError(record.why_no_best(), trials)
        return best
    found = next((trial for trial in record.trials() if trial.number == number), None)
    if found is None or found.state != "COMPLETE":
        state = "there is none" if found is None else f"it is {found.state}"
        raise HpoError(f"trial {number} of '{record.name}' cannot be exported: {state}.", trials)
    return found
