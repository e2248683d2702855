"""Runs the parts that are asked for and prints their tables."""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path

from rich.console import Console

from benchmarks.machine import print_header

PARTS = ("forecasts", "prior", "stopping", "sizes")
PACKAGES = ("hpo", "numpy", "scipy", "optuna")


def main() -> None:
    """Parses the command line; each part is a module with ``run(console, data, quick)``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.curves", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the real curves")
    parser.add_argument("--part", choices=PARTS, action="append", help="all without")
    parser.add_argument("--quick", action="store_true", help="a sample of the curves")
    args = parser.parse_args()
    console = Console()
    print_header(console, "Learning curves", packages=PACKAGES, seeds=[0])
    for part in args.part or PARTS:
        module = importlib.import_module(f"benchmarks.curves.{part}")
        module.run(console, args.data, quick=args.quick)


if __name__ == "__main__":
    main()
