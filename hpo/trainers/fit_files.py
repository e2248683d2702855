"""The files that a fit leaves, by name; who deletes them need not import PyTorch for it."""

from pathlib import Path

WEIGHTS = "model.safetensors"
"""What is left of a fit that came to its end."""

STATES = "checkpoint-*.pt"
"""What a fit can be taken up again from, as a pattern."""

UNFINISHED = ".unfinished"
"""How the name of a file ends that is being written, or was when its process died."""


def state_file(directory: Path, epoch: int) -> Path:
    """Where the state at the end of an epoch is written."""
    return directory / STATES.replace("*", f"{epoch:06d}")


def of_fold(directory: Path, fold: int | str) -> Path:
    """The folder of one fold, from 1, in that of all."""
    return directory / f"fold-{fold}"


def weights_files(directory: Path, n_folds: int = 1) -> list[Path]:
    """Where the fits of all folds leave their weights, whether they have or not.

    Args:
        directory: The folder of their checkpoints.
        n_folds: How many folds there are; a single one has no folder of its own.
    """
    if n_folds == 1:
        return [directory / WEIGHTS]
    return [of_fold(directory, fold) / WEIGHTS for fold in range(1, n_folds + 1)]


def delete_all(directory: Path) -> None:
    """Deletes the states and weights of all folds, and nothing of anybody else's.

    Args:
        directory: The folder of their checkpoints.
    """
    for home in (directory, *directory.glob(of_fold(Path(), "*").name)):
        for path in (*home.glob(STATES), *home.glob(f"*{UNFINISHED}"), home / WEIGHTS):
            path.unlink(missing_ok=True)
