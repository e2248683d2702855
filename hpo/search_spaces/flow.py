"""Values as people write them in YAML, on one line."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

# Bare in YAML 1.2, and in the 1.1 of other tools (where `yes` and `off` are booleans).
_BARE = re.compile(
    r"(?!(?:true|false|null|yes|no|on|off|y|n)$)[a-z_][\w./-]*", re.IGNORECASE | re.ASCII
)


def flow(value: object) -> str:
    """Writes a scalar, list or mapping in YAML's flow style: `{float: [0.1, 1.0], log: true}`."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{flow(key)}: {flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(flow, value)) + "]"
    if isinstance(value, str):
        return value if _BARE.fullmatch(value) else _quoted(value)
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value)


def _quoted(text: str) -> str:
    """Text in double quotes; unprintable characters, such as U+0085, by number, as YAML demands."""
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in quoted)
