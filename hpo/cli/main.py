"""The `hpo` command."""

from __future__ import annotations

import sys


def main() -> None:
    """Runs the command line; errors that hpo explains exit with 1, Ctrl-C with 130."""
    try:
        _main()
    except KeyboardInterrupt:  # while something was imported, before any command began
        sys.exit(130)


def _main() -> None:
    import logging
    import warnings

    from hpo.cli import db, files, models, needs, runs, spaces, studies  # noqa: F401 - they register
    from hpo.cli.app import app, error_json, explain, print_json
    from hpo.errors import HpoError
    from hpo.search_spaces.errors import SpaceError

    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    for level in (logging.WARNING, logging.ERROR):
        logging.addLevelName(level, logging.getLevelName(level).lower())
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    if not debug:
        warnings.simplefilter("ignore")  # libraries' advice to programmers
    try:
        app(arguments, prog_name="hpo")
    except (HpoError, SpaceError) as error:
        if debug:
            raise
        explained = error if isinstance(error, HpoError) else HpoError(f"space: {error}")
        if "--json" in arguments:
            print_json(error_json(explained))
        explain(explained)
        sys.exit(explained.exit_code)


if __name__ == "__main__":
    main()
