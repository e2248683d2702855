"""Folders of images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps
from torch.utils.data import Dataset

from hpo.trainers.data.arrays import given_rows
from hpo.trainers.data.examples import InMemory, OnDisk, assemble
from hpo.trainers.data.memory import room
from hpo.trainers.data.parts import Data
from hpo.trainers.data.source import IMAGES, Source, image_classes, images_in
from hpo.trainers.data.splits import Rows
from hpo.trainers.data.standardise import Channels, fit_array
from hpo.trainers.data.stream import Stream
from hpo.trainers.errors import DataError

_GREY = ("1", "L", "LA")
_DEEP = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")
_QUARTER_TURNS = (5, 6, 7, 8)  # of EXIF's orientations
_AT_ONCE = 256
_NAMED = 3  # of images that cannot be read
_T = TypeVar("_T")
_R = TypeVar("_R")


class Images(Dataset[tuple[torch.Tensor]]):
    """Images in files, each uint8, (channels, height, width).

    They are as a viewer shows them: upright, where a camera has noted how it was held, and on
    white where they are transparent.

    Args:
        paths: Of the files.
        channels: 1 for grey, 3 for red, green and blue.
        size: The pixels on each side, to which images are scaled and then cropped at the longer
            ends; None leaves them.
    """

    def __init__(self, paths: Sequence[Path], channels: int, size: int | None) -> None:
        self._paths, self._mode, self._size = paths, "L" if channels == 1 else "RGB", size

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, row: int) -> tuple[torch.Tensor]:
        path = self._paths[row]
        try:
            with Image.open(path) as opened:
                image = _shown(opened).convert(self._mode)
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise _unreadable(path, error) from error
        if self._size is not None:
            sides = (self._size, self._size)
            image = ImageOps.fit(image, sides, Image.Resampling.BILINEAR)
        pixels = np.array(image)
        return (torch.from_numpy(pixels.reshape(*pixels.shape[:2], -1)).permute(2, 0, 1),)


def load_images(source: Source, seed: int) -> tuple[Data, ...]:
    """See `hpo.trainers.data.load`."""
    by_part = {
        part: [(path, name) for name, each in classes.items() for path in sorted(images_in(each))]
        for part, classes in image_classes(source).items()
    }
    found = [pair for pairs in by_part.values() for pair in pairs]
    paths, labels = [path for path, _ in found], np.array([name for _, name in found])
    channels, width, height = _format(source, paths)
    dataset = Images(paths, channels, source.image_size)
    n_bytes = 4 * len(paths) * channels * width * height * (source.folds or 1)
    examples: InMemory | OnDisk
    if n_bytes <= room(torch.device("cpu")):
        examples = InMemory(
            np.stack(_each(lambda row: dataset[row][0], range(len(paths)))), fit_array
        )
    else:
        examples = OnDisk(dataset, _fit_dataset)
    given = given_rows({part: len(pairs) for part, pairs in by_part.items()})
    return assemble(source, examples, labels, seed=seed, given=given)


def images_at(path: Path) -> list[Path]:
    """The images in and below a folder, sorted; or the one that a path names."""
    return sorted(images_in(path)) if path.is_dir() else [path]


def read_images(
    path: Path, shape: tuple[int, ...], image_size: int | None
) -> Iterator[NDArray[np.uint8]]:
    """An image, or those in and below a folder, as a network was trained on such.

    Args:
        path: The file or folder.
        shape: Channels, height and width.
        image_size: As `Source` says.

    Yields:
        Images in the order of `images_at`, up to 256 at once, (n, *shape).

    Raises:
        DataError: there are none, one cannot be read, or one is of another size.
    """
    channels, height, width = shape
    paths = images_at(path)
    if not paths:
        raise DataError(f"the folder {str(path)!r} has no images. Known: {', '.join(IMAGES)}.")
    for each in paths:
        _, size = _header(each)
        if image_size is None and size != (width, height):
            raise DataError(f"{_sized(each, size)}; the model was trained on {width} x {height}.")
    dataset = Images(paths, channels, image_size)
    for first in range(0, len(paths), _AT_ONCE):
        rows = range(first, min(first + _AT_ONCE, len(paths)))
        yield np.stack([dataset[row][0] for row in rows])


def _fit_dataset(dataset: Dataset[Any], rows: Rows) -> Channels:
    y = torch.zeros(len(dataset))  # type: ignore[arg-type]
    # Of bytes, as `fit_array` learns them: the same data has the same digest in both ways.
    stream = Stream(dataset, y, torch.from_numpy(rows), dtype=torch.uint8)
    whole, rest = divmod(len(rows), _AT_ONCE)
    batches = stream.batches([_AT_ONCE] * whole + [rest] * (rest > 0))
    return Channels().fit_chunks(x.numpy() for x, _ in batches)


def _format(source: Source, paths: Sequence[Path]) -> tuple[int, int, int]:
    """The channels, width and height that all images are read as, by their first bytes."""
    channels, seen = 1, None
    for path, (mode, size) in zip(paths, _each(_header, paths), strict=True):
        channels = channels if mode in _GREY else 3
        seen = seen or (path, size)
        if source.image_size is None and size != seen[1]:
            raise DataError(
                f"the images of {source.name!r} differ in size: {_sized(*seen)}, "
                f"{_sized(path, size)}. Give `image_size`, the pixels that each side is to have."
            )
    _, (width, height) = seen or (None, (0, 0))
    side = source.image_size
    return channels, side or width, side or height


def _each(read: Callable[[_T], _R], images: Sequence[_T]) -> list[_R]:
    """What is read of every image.

    Raises:
        DataError: some cannot be read; it says how many, and names the first few.
    """
    found, broken = [], []
    for image in images:
        try:
            found.append(read(image))
        except DataError as error:
            broken.append(error)
    if len(broken) == 1:
        raise broken[0]
    if broken:
        first = "; ".join(str(error).rstrip(".") for error in broken[:_NAMED])
        more = "; and so on" if len(broken) > _NAMED else ""
        raise DataError(f"{len(broken)} of {len(images)} images are of no use: {first}{more}.")
    return found


def _header(path: Path) -> tuple[str, tuple[int, int]]:
    """The mode of an image, and the width and height that it is shown with, by its first bytes."""
    try:
        with Image.open(path) as image:
            mode, (width, height) = image.mode, image.size
            # Of a TIFF the size is turned already.
            turned = image.format != "TIFF" and _orientation(image) in _QUARTER_TURNS
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise _unreadable(path, error) from error
    if mode in _DEEP:
        raise DataError(f"the image {path} has more than 8 bits a pixel; save it with 8.")
    return mode, (height, width) if turned else (width, height)


def _orientation(image: Image.Image) -> int:
    """How the camera was held, as EXIF numbers it; 1 is upright, or unknown."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1  # else Pillow would read all of it to look behind the pixels
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))


def _shown(image: Image.Image) -> Image.Image:
    """An image as a viewer shows it."""
    if _orientation(image) != 1:
        image = ImageOps.exif_transpose(image)
    if not image.has_transparency_data:
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA"))


def _sized(path: Path, size: tuple[int, int]) -> str:
    return f"{path.name} has {size[0]} x {size[1]}"


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"the image {path} cannot be read: {str(error).rstrip('.')}.")
