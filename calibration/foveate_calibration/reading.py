"""Views of a board from image files or from a recording's frames."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate.messages import Frame
from foveate.recording.recording import Recording
from foveate_calibration.boards import Board, Chessboard, Found
from foveate_calibration.errors import CalibrationError
from foveate_calibration.views import BoardView

Image = NDArray[np.uint8]
_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".pgm", ".webp")
_THREADS = 2
_AT_ONCE = 8  # images in memory


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """What was seen of a board in a set of images of one size."""

    views: tuple[BoardView, ...]
    width: int
    height: int
    images: int  # that were looked at
    without: tuple[str, ...]  # names of those that do not show the board
    sha256: str  # of the files

    def told(self) -> str:
        """In how many images the board was found."""
        text = f"the board in {len(self.views)} of {self.images} images"
        return text if not self.without else f"{text}; not in {_some(self.without)}"


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    name: str
    image: Image
    t_ns: int = 0
    angle_rad: NDArray[np.float64] | None = None


def read_views(
    board: Board, sources: Sequence[str], *, stream: str | None = None, mirrored: bool = False, every: int = 1,
    progress: Callable[[float], None] = lambda share: None,
) -> Reading:  # fmt: skip
    """Look for the board in images (files, folders, patterns) or in a recording (`FILE.mcap`, its frames in `stream`).

    `every`: only each n-th image. Raises CalibrationError where there is nothing, or images differ in size.
    """
    files = image_files(sources)
    logs = [path for path in files if path.suffix == ".mcap"]
    if logs and len(files) > 1:
        raise CalibrationError(f"{logs[0]}: give one recording alone, not with {len(files) - 1} other files")
    if logs:
        count, pictures = _of_recording(logs[0], stream)
    else:
        count, pictures = len(files), _of_files(files)
    views: list[BoardView] = []
    without: list[str] = []
    size: tuple[int, int] | None = None
    done = looked = 0
    kept: list[_Picture] = []
    shown: list[_Picture] = []
    with ThreadPoolExecutor(_THREADS) as pool:
        wanted = islice(pictures, 0, None, every)
        while batch := list(islice(wanted, _AT_ONCE)):
            for picture in batch:
                size = _same_size(picture, size)
            for picture, found in zip(batch, pool.map(lambda p: board.detect(p.image, mirrored), batch), strict=True):
                looked += 1
                if found is None:
                    without.append(picture.name)
                    kept = [*kept, picture][:2]
                else:
                    shown = [*shown, picture][:3]
                    views.append(_view(board, picture, found, len(views)))
            done += len(batch) * every
            progress(min(done / max(count, 1), 1.0))
    if not views or size is None:
        raise CalibrationError(_nothing(board, looked, without, kept, mirrored))
    _refuse_part(board, shown)
    return Reading(tuple(views), *size, looked, tuple(without), _hash(files))


def image_files(sources: Sequence[str]) -> list[Path]:
    """The files of folders, patterns and names, numbers in their order (2 before 10). Raises CalibrationError."""
    found: list[Path] = []
    for source in sources:
        path = Path(source)
        if path.is_dir():
            inside = [item for item in path.iterdir() if item.suffix.lower() in _ENDINGS]
            if not inside:
                raise CalibrationError(f"{source}: a folder without images ({', '.join(_ENDINGS)})")
            found += sorted(inside, key=_order)
        elif path.is_file():
            found.append(path)
        else:
            anchor = Path(path.anchor) if path.is_absolute() else Path()
            pattern = str(path.relative_to(anchor)) if path.is_absolute() else source
            matching = sorted(anchor.glob(pattern), key=_order) if any(c in source for c in "*?[") else []
            if not matching:
                raise CalibrationError(f"{source}: no such file, folder or pattern of files")
            found += matching
    return found


def names_of(files: Sequence[Path]) -> list[str]:
    """What views of these files are called: the file's name, or its path where others have that name."""
    short = [path.name for path in files]
    return short if len(set(short)) == len(short) else [str(path) for path in files]


def _order(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def read_image(path: Path, color: bool = False) -> Image:
    """An image as the sensor gave it, whatever the file says of turning it: grey (H x W), or BGR (H x W x 3).

    Raises CalibrationError.
    """
    kind = cv2.IMREAD_COLOR if color else cv2.IMREAD_GRAYSCALE
    image = cv2.imread(str(path), kind | cv2.IMREAD_IGNORE_ORIENTATION)
    if image is None:
        raise CalibrationError(f"{path}: cannot be read as an image")
    return image


def _of_files(files: Sequence[Path]) -> Iterator[_Picture]:
    for path, name in zip(files, names_of(files), strict=True):
        yield _Picture(name, read_image(path))


def _of_recording(path: Path, stream: str | None) -> tuple[int, Iterator[_Picture]]:
    with Recording(path) as recording:
        streams = recording.streams()
    frames = {s.name: s.messages for s in streams if s.type.rpartition(".")[2] == "Frame"}
    if stream is None:
        if len(frames) != 1:
            there = ", ".join(frames) or "none"
            raise CalibrationError(f"{path}: which stream? --stream, one of the streams of frames: {there}")
        stream = next(iter(frames))
    elif stream not in {s.name for s in streams}:
        there = ", ".join(s.name for s in streams)
        raise CalibrationError(f"{path}: has no stream '{stream}'; it has {there}")
    return frames.get(stream, 0), _frames(path, stream)


def _frames(path: Path, stream: str) -> Iterator[_Picture]:
    with Recording(path) as recording:
        for number, (_, message) in enumerate(recording.messages(stream, Frame)):
            assert isinstance(message, Frame)
            angle = None if message.mirror is None else np.asarray(message.mirror.angle_rad, np.float64)
            yield _Picture(f"{stream}#{number}", message.image, message.stamp.t_ns, angle)


def _same_size(picture: _Picture, size: tuple[int, int] | None) -> tuple[int, int]:
    height, width = picture.image.shape[:2]
    if size is not None and size != (width, height):
        raise CalibrationError(
            f"{picture.name} is {width} x {height} and the images before are {size[0]} x {size[1]}; calibrate images "
            "of one size at a time"
        )
    return width, height


def _view(board: Board, picture: _Picture, found: Found, number: int) -> BoardView:
    ids, pixels = found
    return BoardView(board.points_m[ids], pixels, picture.name, number, picture.angle_rad, picture.t_ns)


def _refuse_part(board: Board, shown: Sequence[_Picture]) -> None:
    """Raises CalibrationError where the board is a part of a larger chessboard: which part may differ by image."""
    if not isinstance(board, Chessboard):
        return
    larger = [found for picture in shown if (found := board.larger(_gray(picture.image))) is not None]
    if larger and 2 * len(larger) > len(shown):
        raise CalibrationError(f"{board.text} is a part of what {shown[0].name} shows, a chessboard of {larger[0]} "
                               "inner corners; name the board so")  # fmt: skip


def _gray(image: Image) -> Image:
    return image if image.ndim == 2 else np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)


def _nothing(board: Board, looked: int, without: Sequence[str], kept: Sequence[_Picture], mirrored: bool) -> str:
    """Why nothing was found, as far as a second look tells."""
    text = f"no {board.text} in any of {looked} images ({_some(without)})"
    for picture in kept:
        if board.detect(picture.image, not mirrored) is not None:
            way = "leave --mirrored out" if mirrored else "do not flip images; --mirrored where a mirror is between"
            return f"{text}, but its mirror image is in {picture.name}: the board appears flipped; {way}"
        if isinstance(board, Chessboard):
            other = Chessboard.small().larger(_gray(picture.image))
            if other is not None:
                return f"{text}, but one of {other} inner corners is in {picture.name}; name the board so"
    return f"{text}; 'foveate calibrate detect IMAGE --board {board.text}' draws what is found in one"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def _hash(files: Sequence[Path]) -> str:
    """SHA-256 over the content of all files, in order."""
    found = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            while part := file.read(1 << 20):
                found.update(part)
    return found.hexdigest()
