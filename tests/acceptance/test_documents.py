"""What the documents say is so."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from hpo import spec, studyfile
from hpo.advice import advise
from hpo.search_spaces import library
from hpo.trainers.config import FIELDS
from hpo.trainers.schedules import SCHEDULES

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "guide.md").read_text(encoding="utf-8")


def _uncommented(text: str) -> str:
    return "".join(line for line in text.splitlines(True) if not line.startswith("#"))


def _ran(code: str, folder: Path) -> str:
    """What the code of a document prints, in a folder of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_readme_shows_the_example_as_it_is() -> None:
    (name, shown) = re.findall(r"<!-- file: (\S+) -->\n```yaml\n(.*?)```", README, re.DOTALL)[0]
    assert shown == _uncommented((ROOT / name).read_text(encoding="utf-8"))


def test_the_readmes_python_runs(tmp_path: Path) -> None:
    (code,) = re.findall(r"<!-- run -->\n```python\n(.*?)```", README, re.DOTALL)

    assert re.match(r"\{'x': 0\.\d+\} \d", _ran(code, tmp_path))


def test_the_readmes_commands_exist() -> None:
    from hpo.cli.app import app

    for module in ("db", "files", "models", "needs", "runs", "spaces", "studies"):
        importlib.import_module(f"hpo.cli.{module}")  # they register their commands

    known = {command.name for command in app.registered_commands}
    known |= {group.name for group in app.registered_groups}
    shown = set(re.findall(r"^\$ hpo ([\w-]+)", README, re.MULTILINE))
    (row,) = re.findall(r"^\| commands \| (.*) \|$", README, re.MULTILINE)
    assert shown <= known
    assert set(re.findall(r"`([\w-]+)`", row)) == known


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.yaml")), ids=str)
def test_an_example_is_a_good_study_file(path: Path) -> None:
    assert spec.load(path).trials


def _keys(schema: dict[str, Any], definitions: dict[str, Any], prefix: str = "") -> set[str]:
    keys: set[str] = set()
    for name, value in schema["properties"].items():
        forms = [value, *value.get("anyOf", [])]
        names = [form.get("$ref", "").rpartition("/")[2] for form in forms]
        inner = [definitions[each] for each in names if each]
        keys |= {key for each in inner for key in _keys(each, definitions, f"{prefix}{name}.")}
        if "$ref" not in value:
            keys.add(prefix + name)
    return keys


def test_the_guide_has_every_key_of_a_study_file() -> None:
    schema = spec.json_schema()
    (section,) = re.findall(r"## A study file\n(.*?)\n## ", GUIDE, re.DOTALL)
    listed = set(re.findall(r"^\| `([a-z_.]+)` \| [^|]*\| ", section, re.MULTILINE))
    assert listed == _keys(schema, schema["$defs"])


def test_the_guide_has_every_ready_made_space_and_field() -> None:
    listed = re.findall(r"^\| `(\w+)` \| ([^|]+) \|$", GUIDE, re.MULTILINE)
    assert {(name, library.load(name).why) for name in library.names()} <= set(listed)
    assert [name for name in FIELDS if f"`{name}`" not in GUIDE] == []


def test_the_guide_has_every_schedule() -> None:
    assert set(re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]*\|$", GUIDE, re.MULTILINE)) >= set(
        SCHEDULES
    )


SPACES = re.findall(r"```yaml\n(space:\n.*?)```", GUIDE, re.DOTALL)


@pytest.mark.parametrize("text", SPACES)
def test_a_space_of_the_guide_is_a_good_one(text: str) -> None:
    assert len(SPACES) >= 4
    values = {
        "name": "guide",
        "objective": {
            "trainer": "classifier",
            "data": "digits",
            "metric": "val_error",
            "epochs": 30,
        },
        **YAML(typ="safe", pure=True).load(text),
    }
    plan = spec.check(studyfile.from_values(values, "the guide", ROOT))
    assert [str(a) for a in advise(plan) if a.level == "warning"] == []


def test_the_guides_python_runs(tmp_path: Path) -> None:
    found = re.findall(r"<!-- run -->\n```python\n(.*?)```", GUIDE, re.DOTALL)
    of_spaces, of_needs, from_python = found

    assert _ran(of_spaces, tmp_path).startswith("batch_size: {int: [32, 256], powers_of: 2}\n")
    said = _ran(from_python, tmp_path).splitlines()
    assert [line.split()[:2] for line in said[:10]] == [[str(i), "COMPLETE"] for i in range(10)]
    assert said[10].split() == ["finished", "trial", "params.x", "value"]
    assert len(said) == 14
    (sentence,) = re.findall(r"^needs.sentence  # '(.*)'$", of_needs, re.MULTILINE)
    assert _ran(f"{of_needs}\nprint(needs.sentence)", tmp_path) == f"{sentence}\n"
