"""Tracking URIs: passwords masked, obstacles explained before MLflow meets them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote

# Greedy up to the last @, because passwords with an unquoted @ or / do occur.
_USERINFO_PASSWORD = re.compile(r"(?<=://)([^:/?#@]*):(.+)@")
_QUERY_PASSWORD = re.compile(r"(?i)([?&](?:\w*password|passwd|pwd|\w*token|secret)=)([^&#]+)")
_SQLITE_FILE = re.compile(r"sqlite(?:\+\w+)?:///(?!file:)(?P<path>[^?]+)")


def masked(uri: str) -> str:
    """Returns the URI with `***` for every password in it."""
    without = _USERINFO_PASSWORD.sub(r"\1:***@", uri)
    return _QUERY_PASSWORD.sub(r"\1***", without)


def scrubbed(text: str, uri: str) -> str:
    """Returns somebody else's text about the URI with the URI's passwords masked."""
    text = text.replace(uri, masked(uri))
    found = [*_USERINFO_PASSWORD.findall(uri), *_QUERY_PASSWORD.findall(uri)]
    for _, password in found:
        for secret in {password, unquote(password)}:
            text = text.replace(secret, "***")
    return text


def sqlite_file(uri: str) -> Path | None:
    """Returns the file of a SQLite database; None for any other URI and for `:memory:`."""
    match = _SQLITE_FILE.match(uri)
    return Path(match["path"]) if match and match["path"] != ":memory:" else None


def obstacle(uri: str) -> str | None:
    """Returns why a local database cannot be opened; None if nothing is known against it.

    MLflow would create missing folders, and so hide a misspelt path. A relative path is
    relative to the current folder, which driver and mirror share.
    """
    file = sqlite_file(uri)
    if file is None:
        return None
    folder = file.parent.absolute()
    if not folder.is_dir():
        return f"the folder {folder} does not exist"
    # SQLite writes its journal beside the database, so the folder must be writable as well.
    for path in (folder, file):
        if path.exists() and not os.access(path, os.W_OK):
            return f"{path.absolute()} is not writable"
    return f"{file.absolute()} is a folder" if file.is_dir() else None


def run_url(uri: str, experiment_id: str, run_id: str) -> str | None:
    """Returns where a server shows the run; None where the tracking URI is not a server."""
    if not uri.startswith(("http://", "https://")):
        return None
    server = re.sub(r"(?<=://).*@", "", uri).rstrip("/")
    return f"{server}/#/experiments/{experiment_id}/runs/{run_id}"
