"""Commands about the database of studies: db export, db import, db upgrade."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, BinaryIO

import typer

from hpo.cli.app import (
    JsonOption,
    StorageOption,
    StudyArgument,
    command,
    group,
    print_json,
    stderr,
    stdout,
)
from hpo.cli.studies import find
from hpo.errors import HpoError
from hpo.words import counted

db = group("db", "Move studies between databases, and bring a database up to date.")


@command("export", of=db)
def export(
    study: StudyArgument,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Where to; stdout by default."),
    ] = None,
    storage: StorageOption = None,
) -> None:
    """Write a study as lines of JSON, which `hpo db import` reads."""
    from hpo.transfer import export_study

    record = find(study, storage)
    lines = export_study(record)
    if output is None:
        sys.stdout.writelines(lines)
    else:
        _write(output, lines)
        stderr().print(f"Written: {output}", markup=False)
    if record.directory is not None:
        stderr().print(
            f"Its metrics and checkpoints are not in it; they are in {record.directory}",
            markup=False,
        )


@command("import", of=db)
def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="An export; - for stdin.")],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NEW", help="Import it as a copy, called so.")
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option("--directory", metavar="FOLDER", help="Its metrics and checkpoints here."),
    ] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Make a study from what `hpo db export` wrote: all of it, or nothing."""
    from hpo.places import storage_url
    from hpo.storage import open_storage
    from hpo.transfer import import_study

    with _opened(file) as lines:
        to = open_storage(storage_url(storage))
        source = "stdin" if file == "-" else file
        brought = import_study(to, lines, name=name, directory=directory, source=source)
    where = str(brought.directory) if brought.directory else None
    if as_json:
        counts = {"n_trials": brought.n_trials, "n_put_back": brought.n_put_back}
        print_json({"study": brought.name, **counts, "storage": to.url, "directory": where})
    else:
        n_trials = counted(brought.n_trials, "trial")
        said = f"Imported study '{brought.name}' with {n_trials} into {to.url}."
        stdout().print(said, markup=False)
    if brought.n_put_back:
        n = brought.n_put_back
        stderr().print(f"{n} of them ran when it was exported; now they wait to be taken up again.")
    if brought.directory and not brought.directory.is_dir():
        stderr().print(
            f"Its metrics and checkpoints are not here yet; they belong into {where}",
            markup=False,
        )


@command("upgrade", of=db)
def upgrade(storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """Bring a database that an older hpo or Optuna made up to date."""
    from hpo import storage as storages
    from hpo.places import storage_url

    url = storage_url(storage)
    storages.demand_file(url)
    before, after = storages.upgrade(url)
    if as_json:
        print_json({"storage": storages.masked(url), "from": before, "to": after})
    elif before == after:
        stdout().print(f"Nothing to do: {storages.masked(url)} is of {after}.", markup=False)
    else:
        stdout().print(f"{storages.masked(url)}: from {before} to {after}.", markup=False)


def _write(path: Path, lines: Iterable[str]) -> None:
    """Writes a file so that, whatever happens, it is there whole or as it was before.

    Raises:
        HpoError: it cannot be written.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe or device, which no file may replace
            with path.open("w", encoding="ascii") as file:
                file.writelines(lines)
        else:
            _replace(path.resolve(), lines)
    except OSError as error:
        message = f"cannot write {path}: {error.strerror}."
        raise HpoError(message, "Name another file with --output.") from error


def _replace(path: Path, lines: Iterable[str]) -> None:
    unfinished = path.with_name(f"{path.name}.unfinished-{os.getpid()}")
    try:
        with unfinished.open("w", encoding="ascii") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    """The file of that name, or all of stdin.

    Raises:
        HpoError: it cannot be read.
    """
    if file == "-":
        # Read to its end before it is imported: the database stays locked only while it works.
        with tempfile.TemporaryFile() as spooled:
            shutil.copyfileobj(sys.stdin.buffer, spooled)
            spooled.seek(0)
            yield spooled
        return
    try:
        with Path(file).open("rb") as opened:
            yield opened
    except OSError as error:
        message = f"cannot read {file}: {error.strerror}."
        raise HpoError(message, "Write one: hpo db export STUDY --output FILE") from error
