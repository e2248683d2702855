"""``python -m hpo``: the command, by the Python that is meant."""

from hpo.cli.main import main

if __name__ == "__main__":
    main()
