"""`hpo spaces`: the ready-made spaces, listed, shown and drawn."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import termios
from pathlib import Path

import pytest

from hpo.search_spaces import library
from tests.acceptance.harness import HPO, Done, Folder, clean_environment, imported_by

ESCAPE = re.compile(r"\x1b\[[\d;?]*[A-Za-z]")
KINDS = {
    "preset": {"classic", "modern", "schedules"},
    "model": {"mlp", "cnn", "resnet"},
    "momentum": {"increasing_momentum", "cycled_momentum"},
    "initialisation": {"initialisation"},
    "regularisation": {"augmentation", "regularisation"},
    "minibatch": {"batch_size"},
}
STUDY = """\
name: mine
objective: {trainer: classifier, data: digits, metric: val_error, epochs: 12}
space:
  use: [sgd_momentum, warmup]
  optimizer: [adam, sgd]
  learning_rate: 0.1
  schedule: {choice: [linear, step], when: {optimizer: sgd}}
  width: {int: [16, 256], per: depth, why: one for each layer}
  depth: [1, 2, 3]
  require: ["warmup_epochs < epochs"]
"""


def curves(folder: Folder, name: str) -> list[dict[str, list[tuple[float, float]]]]:
    """The curves that are drawn: of each chart, the points by the curve's name."""
    plots = folder.hpo("spaces", "show", name, "--plot", "--json").json["plots"]
    return [
        {title: list(zip(c["x"], c["y"], strict=True)) for title, c in plot["curves"].items()}
        for plot in plots
    ]


def explained(done: Done) -> str:
    assert done.code == 1, done
    assert done.out == ""
    assert done.err.startswith("error: ")
    return done.err


def in_terminal(folder: Folder, columns: int, *arguments: str) -> str:
    """What `hpo` writes to a terminal of so many columns."""
    mine, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    with subprocess.Popen(
        [str(HPO), *arguments], cwd=folder.path, env=clean_environment(), stdout=its, stderr=its
    ) as process:
        os.close(its)
        written = b""
        while chunk := _read(mine):
            written += chunk
    os.close(mine)
    assert process.returncode == 0
    return written.decode().replace("\r\n", "\n")


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux's end of a terminal
        return b""


def test_the_list_has_every_part_with_its_kind_and_reason(folder: Folder) -> None:
    done = folder.hpo("spaces", "list")

    assert done.code == 0
    rows = [re.split(r"\s{2,}", line.strip()) for line in done.out.splitlines()]
    listed = {row[0]: row[1:] for row in rows if len(row) == 3}
    for name in library.names():
        kind, why = listed[name]
        assert why == library.load(name).why
        assert all(name not in names or kind == of for of, names in KINDS.items())
    assert "hpo spaces show NAME" in done.err


def test_the_list_as_json(folder: Folder) -> None:
    listed = folder.hpo("spaces", "list", "--json").json

    assert {each["name"] for each in listed} == set(library.names())
    assert all(each.keys() == {"name", "kind", "why", "source"} for each in listed)
    found = {kind: {e["name"] for e in listed if e["kind"] == kind} for kind in KINDS}
    assert found == KINDS


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("adam", ["{float: [1e-5, 0.1], log: true, prior: 0.001}", "0.01", "how far a step"]),
        ("sgd_momentum", ["optimizer: sgd", "[0.5, 0.9, 0.99]", "10 and 100 times as long"]),
        ("cosine_decay", ["schedule: cosine", "SGDR", "last learning rate as a share"]),
        ("warmup", ["{float: [0.0, 5.0], step: 1.0}", "Goyal", "0 is none"]),
        ("cycled_momentum", ["uses    one_cycle", "momentum_schedule: cycled"]),
        ("mlp", ["per: depth, taper: [constant, pyramid]", "[relu, tanh, gelu]"]),
        ("cnn", ["model: cnn", "taper: [constant, widening]"]),
        ("regularisation", ["Srivastava", "[none, batch]"]),
        ("batch_size", ["{int: [32, 256], powers_of: 2}", "64"]),
        ("modern", ["uses    batch_size, regularisation, warmup, cosine_decay, adamw"]),
    ],
)
def test_a_part_is_shown_whole(folder: Folder, name: str, shown: list[str]) -> None:
    done = folder.hpo("spaces", "show", name)

    assert done.code == 0
    assert done.out.startswith(f"space   {name} ")
    assert library.load(name).why in done.out
    assert library.load(name).source in done.out
    assert [text for text in shown if text not in done.out] == []
    assert done.out.splitlines()[-1] == f"use: [{name}]"


def test_a_parameter_stands_on_one_line_in_a_pipe(folder: Folder) -> None:
    lines = folder.hpo("spaces", "show", "schedules").out.splitlines()

    (line,) = [line for line in lines if line.startswith(" final_lr_fraction ")]
    assert "one_cycle]" in line
    assert line.rstrip().endswith("as a share of the highest")


def test_a_part_as_json(folder: Folder) -> None:
    shown = folder.hpo("spaces", "show", "linear_decay", "--json").json

    assert shown["name"] == "linear_decay"
    assert shown["kind"] == "schedule"
    assert shown["use"] == []
    schedule, fraction = shown["parameters"]
    assert schedule["domain"] == {"fixed": "linear"}
    assert schedule["default"] == "constant"
    assert fraction["domain"] == {"float": [0.001, 0.1], "log": True, "prior": 0.01}
    assert fraction["when"] == {"schedule": "linear"}
    assert fraction["default"] == 0.01
    assert "share of the highest" in fraction["why"]
    assert "plots" not in shown


def test_what_is_shown_can_be_used(folder: Folder) -> None:
    use = folder.hpo("spaces", "show", "modern").out.splitlines()[-1]
    folder.write("study.yaml", re.sub(r"use: .*", use, STUDY).replace("linear", "cosine"))

    assert folder.hpo("check", "study.yaml", "--dry").code == 0


def test_a_study_file_is_shown(folder: Folder) -> None:
    folder.write("study.yaml", STUDY)

    done = folder.hpo("spaces", "show", "study.yaml")

    assert done.code == 0
    assert done.out.startswith("space  study.yaml")
    assert "sgd_momentum, warmup" in done.out
    assert "one for each layer" in done.out
    assert "none here" not in done.out
    assert done.out.splitlines()[-1] == "require  warmup_epochs < epochs"
    assert max(x for x, _ in curves(folder, "study.yaml")[0]["linear"]) == pytest.approx(12, abs=1)


def test_a_file_with_nothing_but_a_space_is_shown(folder: Folder) -> None:
    folder.write("space.yaml", "use: adam\ndepth: [1, 2]\n")

    done = folder.hpo("spaces", "show", "./space.yaml")

    assert done.code == 0
    assert "[1, 2]" in done.out
    assert "adam" in done.out


def test_what_the_trainer_says_is_not_said_of_a_functions_parameters(folder: Folder) -> None:
    folder.write(
        "study.yaml",
        "objective: {function: 'train:train', metric: loss}\nspace: {depth: [1, 2], x: 3}\n",
    )

    shown = folder.hpo("spaces", "show", "study.yaml", "--json").json

    assert [(p["name"], p["default"], p["why"]) for p in shown["parameters"]] == [
        ("depth", None, ""),
        ("x", None, ""),
    ]


def test_a_mistake_in_a_file_has_its_line(folder: Folder) -> None:
    folder.write("study.yaml", STUDY.replace("[16, 256]", "[256, 16]"))

    done = folder.hpo("spaces", "show", "study.yaml")

    assert done.code == 1
    assert done.out == ""
    assert "study.yaml:8: space.width.int: low 256 is above high 16" in done.err


def test_an_unknown_name_gets_the_nearest_and_the_next_command(folder: Folder) -> None:
    message = explained(folder.hpo("spaces", "show", "cosine_deacy"))

    assert "there is no ready-made space 'cosine_deacy'. Did you mean 'cosine_decay'?" in message
    assert "hpo spaces list" in message


def test_a_missing_file_is_a_missing_file(folder: Folder) -> None:
    assert "no such file: nowhere.yaml" in explained(folder.hpo("spaces", "show", "nowhere.yaml"))


def test_without_a_schedule_there_is_nothing_to_draw(folder: Folder) -> None:
    message = explained(folder.hpo("spaces", "show", "adam", "--plot"))

    assert "'adam' has no schedule to draw" in message
    assert "one_cycle" in message
    assert "mlp" not in message


def test_a_schedule_that_there_is_not_is_explained(folder: Folder) -> None:
    folder.write("space.yaml", "schedule: [linear, stepp]\n")

    assert "Did you mean 'step'?" in explained(folder.hpo("spaces", "show", "space.yaml", "--plot"))


def test_one_cycle_climbs_and_falls(folder: Folder) -> None:
    ((points,),) = [chart.values() for chart in curves(folder, "one_cycle")]

    peak = max(points, key=lambda point: point[1])
    assert points[0] == pytest.approx((0, 0.04))
    assert peak == pytest.approx((9, 1), rel=0.01)
    assert points[-1] == pytest.approx((30, 1e-4), rel=0.01, abs=1e-3)


def test_all_schedules_are_drawn_each_with_its_own_shape(folder: Folder) -> None:
    (chart,) = curves(folder, "schedules")

    ends = {name: (points[0][1], points[-1][1]) for name, points in chart.items()}
    firsts = {name: 0.04 if name == "one_cycle" else 1.0 for name in _LASTS}
    assert {name: first for name, (first, _) in ends.items()} == pytest.approx(firsts)
    assert {name: last for name, (_, last) in ends.items()} == pytest.approx(_LASTS, abs=0.006)
    middle = {name: dict(points)[15.0] for name, points in chart.items()}
    assert middle["step"] == pytest.approx(0.1)
    assert middle["linear"] == pytest.approx(0.505)
    assert middle["exponential"] == pytest.approx(0.1)
    assert middle["inverse_time"] == pytest.approx(1 / 6)


# With the power 1 and tau of 3 epochs, 1 / (1 + 30 / 3); two tenths; all others their 1%.
_LASTS = {
    "constant": 1.0,
    "linear": 0.01,
    "inverse_time": 1 / 11,
    "step": 0.01,
    "exponential": 0.01,
    "polynomial": 0.01,
    "cosine": 0.01,
    "cosine_restarts": 0.01,
    "one_cycle": 0.01,
}


def test_a_warm_up_is_drawn(folder: Folder) -> None:
    (chart,) = curves(folder, "modern")

    points = chart["cosine"]
    assert points[0][1] < 0.02
    assert max(points, key=lambda point: point[1])[0] == pytest.approx(3, abs=0.1)
    assert points[-1][1] == pytest.approx(0.01, abs=0.001)


def test_momentum_is_drawn_against_the_rate(folder: Folder) -> None:
    rates, momenta = curves(folder, "cycled_momentum")

    (momentum,), (rate,) = momenta.values(), rates.values()
    assert momentum[-1][1] == pytest.approx(0.95, abs=0.001)
    assert min(momentum, key=lambda p: p[1])[0] == max(rate, key=lambda p: p[1])[0]
    (momenta,) = curves(folder, "increasing_momentum")
    ends = [momenta["increasing"][place][1] for place in (0, -1)]
    assert ends == [0.5, pytest.approx(0.99, abs=0.001)]


def test_a_known_learning_rate_is_drawn_as_it_is(folder: Folder) -> None:
    folder.write("study.yaml", STUDY)

    (chart,) = curves(folder, "study.yaml")  # its schedules are for sgd, the second optimizer

    assert chart.keys() == {"linear", "step"}
    assert max(rate for _, rate in chart["linear"]) == pytest.approx(0.1)
    done = folder.hpo("spaces", "show", "study.yaml", "--plot")
    assert "learning rate\n1 linear   2 step\n" in done.out


def test_the_drawing_is_plain_text_in_a_pipe(folder: Folder) -> None:
    done = folder.hpo("spaces", "show", "linear_decay", "--plot")

    assert done.code == 0
    assert "\x1b" not in done.out
    drawn = done.out[done.out.index("learning rate, as a share") :].splitlines()
    assert max(map(len, drawn)) <= 80
    assert drawn[-1] == "with final_lr_fraction 0.01"
    assert drawn[-2].strip() == "epochs"
    # On a straight line, each row of the drawing begins where the one above it ends.
    rows = [line[4:-1] for line in drawn if "\u2502" in line or "\u2524" in line]
    starts = [len(row) - len(row.lstrip()) for row in rows]
    assert starts == sorted(starts)
    assert starts[0] == 0
    assert starts[-1] > 60


def test_what_falls_by_powers_of_ten_is_drawn_on_a_log_scale(folder: Folder) -> None:
    out = folder.hpo("spaces", "show", "step_decay", "--plot").out

    assert "on a log scale" in out
    assert re.search(r"^0\.01┤", out, re.MULTILINE)
    assert re.search(r"^ +1┤", out, re.MULTILINE)


@pytest.mark.parametrize("name", ["schedules", "cycled_momentum"])
def test_a_png_is_an_image_with_something_on_it(folder: Folder, name: str) -> None:
    from matplotlib.image import imread

    done = folder.hpo("spaces", "show", name, "--png", "curve.png")

    assert done.code == 0
    assert done.err == "Written: curve.png\n"
    assert "as a share of the highest\n" not in done.out  # not drawn twice
    pixels = imread(folder.path / "curve.png")
    height, width, _ = pixels.shape
    assert 600 <= width <= 2000
    assert 300 <= height <= 2000
    colours = {tuple(pixel) for pixel in pixels[::3, ::3].reshape(-1, pixels.shape[2])}
    assert len(colours) > 50
    assert 0.5 < float((pixels[..., :3].min(axis=-1) > 0.99).mean()) < 0.99  # mostly white


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("nowhere/a.png", "there is no folder nowhere.\n  Make it: mkdir -p nowhere"),
        (".", "it is a folder."),
    ],
)
def test_a_png_that_cannot_be_written_is_explained(folder: Folder, path: str, message: str) -> None:
    assert message in explained(folder.hpo("spaces", "show", "one_cycle", "--png", path))


@pytest.mark.parametrize("columns", [60, 80, 160])
def test_a_terminal_of_any_width_shows_all(folder: Folder, columns: int) -> None:
    written = ESCAPE.sub("", in_terminal(folder, columns, "spaces", "show", "mlp"))

    assert max(map(len, written.splitlines())) <= columns
    # However it is wrapped, every word is there.
    words = " ".join(written.split())
    for part in ("int: [32, 512]", "powers_of: 2", "pyramid]}", "nonlinearity", "use: [mlp]"):
        assert part in words


def test_in_a_terminal_curves_have_colours(folder: Folder) -> None:
    written = in_terminal(folder, 80, "spaces", "show", "schedules", "--plot")

    plain = ESCAPE.sub("", written)
    drawn = plain[plain.index("learning rate, as a share") :]
    assert max(map(len, drawn.splitlines())) <= 80
    assert "\u2501\u2501 cosine_restarts" in drawn
    colours = re.findall(r"\x1b\[38;5;(\d+)m\u2501", written)
    assert len(set(colours)) == 9


def test_help_says_what_there_is(folder: Folder) -> None:
    assert "spaces" in folder.hpo("--help").out
    assert {"list", "show"} <= set(folder.hpo("spaces", "--help").out.split())
    assert {"--plot", "--png", "--json"} <= set(folder.hpo("spaces", "show", "-h").out.split())


@pytest.mark.parametrize(
    ("arguments", "allowed"),
    [
        (["spaces", "list"], []),
        (["spaces", "list", "--json"], []),
        (["spaces", "show", "modern"], []),
        (["spaces", "show", "modern", "--plot"], ["plotext"]),
    ],
    ids=" ".join,
)
def test_nothing_is_imported_before_it_is_needed(
    tmp_path: Path, arguments: list[str], allowed: list[str]
) -> None:
    heavy = ["torch", "optuna", "mlflow", "sklearn", "sqlalchemy", "matplotlib", "plotext", "numpy"]
    assert imported_by(arguments, heavy, tmp_path)[0] == allowed
