"""The user's own code, by the name under which Python would import it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hpo.trainers.errors import CodeError, did_you_mean

_LEVELS = 3  # folders above the study file's, where a package is looked for, to name it


def find(name: str, folder: Path) -> Callable[..., Any]:
    """Imports ``package.module:name``, looking in `folder` first.

    Raises:
        CodeError: the module cannot be imported, or has nothing of that name to call.
    """
    module_name, _, attribute = name.partition(":")
    package = module_name.partition(".")[0]
    if module_name.endswith(".py"):
        stem = module_name.removesuffix(".py")
        raise CodeError(f"'{name}' names a file; name the module: {stem}:{attribute}.")
    if package == "hpo":
        raise CodeError(
            f"'{module_name}' in {folder} would be a part of hpo itself.",
            "Give the file or package another name.",
        )
    _look_first_in(folder, package)
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        cause = f"{type(error).__name__}: {error}"
        message = f"cannot import '{module_name}' (looked in {folder}): {cause}."
        raise CodeError(message, _how_to_import(module_name, folder)) from error
    found = getattr(module, attribute, None)
    if not callable(found):
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        message = f"'{module_name}' has nothing to call named '{attribute}'."
        raise CodeError(message, did_you_mean(attribute, known) if known else "")
    return found  # type: ignore[no-any-return]  # whatever it is, it can be called


def _how_to_import(module_name: str, folder: Path) -> str:
    """What to type next: where the package is found, or how to see what is wrong with it."""
    package = module_name.partition(".")[0]
    if not is_in(folder, package):
        near = [folder, *list(folder.parents)[:_LEVELS]]
        for place in [part for above in near for part in (above / "src", above)]:
            if is_in(place, package):
                return f"It is in {place}: pip install -e it, or set PYTHONPATH={place}"
    return f"Try it by itself: cd {folder} && python -c 'import {module_name}'"


def is_in(folder: Path, package: str) -> bool:
    """Whether a package or module lies in a folder."""
    return (folder / package).exists() or (folder / f"{package}.py").exists()


def _look_first_in(folder: Path, package: str) -> None:
    """Puts `folder` in front of ``sys.path``, before a `package` that another study imported."""
    sys.path[:] = [str(folder), *(path for path in sys.path if path != str(folder))]
    importlib.invalidate_caches()
    imported = getattr(sys.modules.get(package), "__file__", None)
    if imported and is_in(folder, package) and folder not in Path(imported).parents:
        for name in [n for n in sys.modules if n == package or n.startswith(f"{package}.")]:
            del sys.modules[name]
