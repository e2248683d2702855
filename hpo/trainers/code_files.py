"""The files of the user's own code, which go along with what it has made."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256
from pathlib import Path

_INSTALLED = {"site-packages", "dist-packages"}
_STANDARD = Path(os.__file__).resolve().parent
_NOT_CODE = {"__pycache__", "hpo-runs"}
_MOST_BYTES = 2**20
"""A larger file of a package is left behind: data, most likely."""
_MOST_FILES = 1000
"""If a package has more small files beside its code, they are left behind: data again."""

_log = logging.getLogger(__name__)


def code_files(name: str, folder: Path) -> dict[str, Path]:
    """What must lie somewhere for `package.module:name` to be imported from there.

    These are the package's modules that were imported, the other modules that were imported from
    `folder` or from where the package lies, and all small files of the package. What is installed
    needs none. A package in several folders lies where the module was found.

    Args:
        name: It has been imported; the colon may be a dot.
        folder: The study's.

    Returns:
        Files by their path there.
    """
    module = _module_of(name)
    package, place = module.partition(".")[0], _place_of(module)
    if place is None:
        return {}
    found = _imported(package, place, folder)
    if (place / package).is_dir():
        small = {each.relative_to(place).as_posix(): each for each in _small(place / package)}
        found = small | found  # what was imported rather than what lies where it would be
    return found


@cache
def digests(name: str, folder: Path) -> Mapping[str, str]:
    """What tells the user's own modules that were imported from what they may become.

    It stays what it was in this process, as Python stays with what it has imported.

    Args:
        name: As in `code_files`, and so is `folder`.
        folder: The study's.

    Returns:
        The SHA-256 of files, in hexadecimal, by their path as in `code_files`.
    """
    module = _module_of(name)
    place = _place_of(module)
    files = {} if place is None else _imported(module.partition(".")[0], place, folder)
    return {there: sha256(file.read_bytes()).hexdigest() for there, file in files.items()}


def _imported(package: str, place: Path, folder: Path) -> dict[str, Path]:
    """The files of modules that were imported: a package's, and others from there or `folder`."""
    near = (place.resolve(), folder.resolve())
    found = {}
    for each, file in _own_modules():
        root = _root_of(each, file)
        if root is None:
            continue
        there = file.relative_to(root)
        lies = (file.resolve(), root.resolve() / there)  # which symlinks make two places
        of_package = each.partition(".")[0] == package
        if of_package or any(path.is_relative_to(base) for path in lies for base in near):
            found[there.as_posix()] = file
    return found


def _module_of(name: str) -> str:
    """The module in `package.module:name`; of `package.module.name`, one that was imported."""
    if ":" in name:
        return name.partition(":")[0]
    module = name.rpartition(".")[0] or name
    while module not in sys.modules and "." in module:
        module = module.rpartition(".")[0]
    return module


def _place_of(module: str) -> Path | None:
    """The folder on Python's path that a module was imported from; None where it was installed."""
    name, beside = module, None
    while name:  # or else, the one above it: a module may be in Python under another name
        file = _file_of(name)
        if file is not None and _is_own(file.resolve()):
            if root := _root_of(name, file):
                return root
            beside = file.parent
        name = name.rpartition(".")[0]
    return beside


def _is_own(path: Path) -> bool:
    return _INSTALLED.isdisjoint(path.parts) and not path.is_relative_to(_STANDARD)


def _own_modules() -> Iterator[tuple[str, Path]]:
    """The names and files of modules in Python that are neither installed nor hpo's."""
    for name in list(sys.modules):
        file = _file_of(name)
        if file is None or file.suffix != ".py" or name.partition(".")[0] == "hpo":
            continue
        if name != "__main__" and _is_own(file.resolve()):
            yield name, file


def _file_of(module: str) -> Path | None:
    """The file that a module was imported from, under the name it was found by."""
    file = getattr(sys.modules.get(module), "__file__", None)
    return Path(file).absolute() if file and Path(file).is_file() else None


def _root_of(module: str, file: Path) -> Path | None:
    """The folder on Python's path that a module was found in."""
    stem = file.name.partition(".")[0]  # of a compiled one, x.cpython-314-darwin.so, too
    parts = [*module.split("."), *(["__init__"] if stem == "__init__" else [])]
    root = file.parents[len(parts) - 1] if len(parts) <= len(file.parents) else None
    return root if file.with_name(stem).parts[-len(parts) :] == tuple(parts) else None


def _small(package: Path) -> Iterator[Path]:
    """The files in and below a package's folder, but data and what hpo has written."""
    others: list[Path] = []
    large: list[Path] = []
    for where, folders, names in os.walk(package):
        folders[:] = [each for each in folders if _is_code(Path(where) / each)]
        for file in (Path(where) / name for name in names if not name.startswith(".")):
            if file.suffix == ".pyc" or not file.is_file():
                continue
            if file.stat().st_size > _MOST_BYTES:
                large.append(file)
            elif file.suffix == ".py":
                yield file
            elif len(others) <= _MOST_FILES:
                others.append(file)
    too_many = len(others) > _MOST_FILES
    for file in large:
        if file.suffix == ".py" or not too_many:
            _log.warning("%s does not come along: it is larger than 1 MiB", file)
    if too_many:
        more = f"more than {_MOST_FILES:,} others"
        _log.warning("of the files in %s only .py come along: it has %s", package, more)
    else:
        yield from others


def _is_code(folder: Path) -> bool:
    is_export = all((folder / name).exists() for name in ("config.json", "predict.py"))
    return not (folder.name.startswith(".") or folder.name in _NOT_CODE or is_export)
