"""The files of the user's own code, which go along with what it has made."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

_INSTALLED = {"site-packages", "dist-packages"}
_STANDARD = Path(os.__file__).resolve().parent
_NOT_CODE = {"__pycache__", "hpo-runs"}
_MOST_BYTES = 2**20
"""A larger file of a package is left behind: data, most likely."""

_log = logging.getLogger(__name__)


def code_files(name: str, folder: Path) -> dict[str, Path]:
    """What must lie somewhere for `package.module:name` to be imported from there.

    These are the modules that were imported from `folder`, or from where the package lies, and all
    small files of the package. What is installed needs none.

    Args:
        name: It has been imported; the colon may be a dot.
        folder: The study's.

    Returns:
        Files by their path there.
    """
    package, folder = re.split(r"[.:]", name)[0], folder.resolve()
    place = _place_of(package)
    if place is None:
        return {}
    found = {}
    for module, file in _own_modules():
        root = _root_of(module, file)
        if root is not None and (file.is_relative_to(place) or file.is_relative_to(folder)):
            found[file.relative_to(root).as_posix()] = file
    if (place / package).is_dir():
        found |= {each.relative_to(place).as_posix(): each for each in _small(place / package)}
    return found


def _place_of(package: str) -> Path | None:
    """The folder that a package or module was imported from; None where it was installed."""
    module = sys.modules.get(package)
    paths = [*getattr(module, "__path__", ())] or [getattr(module, "__file__", None)]
    if not paths[0]:
        return None
    path = Path(paths[0]).resolve()
    return path.parent if _is_own(path) and path.suffix in ("", ".py") else None


def _is_own(path: Path) -> bool:
    return _INSTALLED.isdisjoint(path.parts) and not path.is_relative_to(_STANDARD)


def _own_modules() -> Iterator[tuple[str, Path]]:
    """The names and files of modules in Python that are neither installed nor hpo's."""
    for name, module in list(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "")
        if file.suffix != ".py" or not file.is_file() or name.partition(".")[0] == "hpo":
            continue
        if name != "__main__" and _is_own(file.resolve()):
            yield name, file.resolve()


def _root_of(module: str, file: Path) -> Path | None:
    """The folder on Python's path that a module was found in."""
    parts = [*module.split("."), *(["__init__"] if file.stem == "__init__" else [])]
    root = file.parents[len(parts) - 1] if len(parts) <= len(file.parents) else None
    return root if file.with_suffix("").parts[-len(parts) :] == tuple(parts) else None


def _small(package: Path) -> Iterator[Path]:
    """The files in and below a package's folder, but data and what hpo has written."""
    for where, folders, names in os.walk(package):
        folders[:] = [each for each in folders if _is_code(Path(where) / each)]
        for file in (Path(where) / name for name in names if not name.startswith(".")):
            if file.suffix == ".pyc" or not file.is_file():
                continue
            if file.stat().st_size <= _MOST_BYTES:
                yield file
            else:
                _log.warning("%s does not come along: it is larger than 1 MiB", file)


def _is_code(folder: Path) -> bool:
    is_export = all((folder / name).exists() for name in ("config.json", "predict.py"))
    return not (folder.name.startswith(".") or folder.name in _NOT_CODE or is_export)
