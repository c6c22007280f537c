"""What networks are calibrated and tested with: arrays, images, or the frames of a recording (extra compress)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from foveate.errors import NotFound, RecordingError
from foveate_compression.work import Samples

_IMAGES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".ppm", ".pgm"}
_STEP = 32  # free sides are cut to a multiple of this
_MOST_SIDE = 640


@dataclass(frozen=True, slots=True)
class Reading:
    """How images become a network's input: values times `scale`; three channels in the order RGB, or BGR."""

    scale: float = 1.0
    bgr: bool = False


@dataclass(frozen=True, slots=True)
class Labelled:
    """Samples and, where the source has them, a class for each (N,)."""

    samples: Samples
    labels: Tensor | None


def samples_of(
    source: str, shapes: dict[str, tuple[int | None, ...]], count: int, seed: int = 0, reading: Reading | None = None
) -> Labelled:
    """Up to `count` of what a source has, chosen evenly over a recording, at random otherwise.

    `FILE.npz` with an array for each input (or `image`), and `label`; a folder or pattern of images, whose sub-folders,
    if it has some, are classes in their order; `run.mcap#node.output`, frames of a recording. Raises NotFound,
    RecordingError with the source and what is wrong.
    """
    reading = reading or Reading()
    path, _, stream = source.partition("#")
    if stream:
        images: Iterator[NDArray[np.uint8]] = _frames(Path(path), stream, count)
        return Labelled(_stacked(list(images), source, shapes, reading), None)
    if path.endswith(".npz"):
        return _arrays(Path(path), shapes, count, seed)
    files, labels = _files(source)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(files))[:count])
    samples = _stacked([_image(files[i]) for i in chosen], source, shapes, reading)
    return Labelled(samples, None if labels is None else torch.tensor([labels[i] for i in chosen]))


def noise(shapes: dict[str, tuple[int | None, ...]], count: int, seed: int) -> Samples:
    """Normal noise, where there are no data."""
    random = torch.Generator().manual_seed(seed)
    sides = {name: [side or 64 for side in shape[1:]] for name, shape in shapes.items()}
    return {name: torch.randn(count, *shape, generator=random) for name, shape in sides.items()}


def _arrays(path: Path, shapes: dict[str, tuple[int | None, ...]], count: int, seed: int) -> Labelled:
    try:
        with np.load(path) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, TypeError, AttributeError, BadZipFile) as error:  # a single array is no context
        why = "no such file" if isinstance(error, FileNotFoundError) else "not an .npz of arrays"
        raise NotFound(str(path), "read samples", why) from None
    if len(shapes) == 1 and "image" in arrays:
        arrays.setdefault(next(iter(shapes)), arrays["image"])
    samples = {}
    for name, shape in shapes.items():
        if name not in arrays:
            raise NotFound(str(path), f"read samples of '{name}'", f"it has {', '.join(sorted(arrays))}")
        value = arrays[name]
        fits = value.ndim == len(shape) and all(
            want in (None, got) for want, got in zip(shape[1:], value.shape[1:], strict=True)
        )
        if not fits or not len(value):
            wanted = " x ".join("N" if side is None else str(side) for side in (None, *shape[1:]))
            raise NotFound(str(path), f"use '{name}'", f"it is {value.shape}, the network takes {wanted}")
        if value.dtype.kind not in "biuf":
            raise NotFound(str(path), f"use '{name}'", f"it holds {value.dtype}, not numbers")
        samples[name] = value
    size = min(len(value) for value in samples.values())
    chosen = np.sort(np.random.default_rng(seed).permutation(size)[:count])
    label = arrays.get("label")
    if label is not None and (label.shape != (size,) or label.dtype.kind not in "biuf"):
        why = f"it is {label.dtype} {label.shape}, a number for each of {size} needed"
        raise NotFound(str(path), "use 'label'", why)
    labels = None if label is None else torch.from_numpy(label[chosen]).long()
    return Labelled({name: torch.from_numpy(value[chosen]).float() for name, value in samples.items()}, labels)


def _files(source: str) -> tuple[list[Path], list[int] | None]:
    folder = Path(source)
    if folder.is_dir():
        classes = sorted(path for path in folder.iterdir() if path.is_dir())
        found = [(path, i) for i, each in enumerate(classes) for path in sorted(each.iterdir())]
        labelled = [(path, i) for path, i in found if path.suffix.lower() in _IMAGES]
        if labelled:
            return [path for path, _ in labelled], [i for _, i in labelled]
        files = sorted(path for path in folder.iterdir() if path.suffix.lower() in _IMAGES)
    else:
        files = sorted(path for path in folder.parent.glob(folder.name) if path.suffix.lower() in _IMAGES)
    if not files:
        raise NotFound(source, "read samples", "no image there; give a folder, a pattern, FILE.npz or RUN.mcap#stream")
    return files, None


def _image(path: Path) -> NDArray[np.uint8]:
    import cv2

    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise NotFound(str(path), "read samples", "not an image")
    return np.asarray(image, np.uint8)


def _frames(path: Path, stream: str, count: int) -> Iterator[NDArray[np.uint8]]:
    """Frames of a recording, evenly spread."""
    from foveate import codec
    from foveate.messages import Frame
    from foveate.recording import Recording

    with Recording(path) as log:
        found = next((each for each in log.streams() if each.name == stream), None)
        if found is None or found.type.rpartition(".")[2] != "Frame":
            frames = ", ".join(each.name for each in log.streams() if each.type.rpartition(".")[2] == "Frame")
            raise RecordingError(f"{path}: no stream '{stream}' of frames; it has {frames or 'none'}")
        coder = codec.codec_of(Frame)
        chosen = set(np.linspace(0, found.messages - 1, min(count, found.messages)).astype(int).tolist())
        for i, raw in enumerate(log.raw(found.topic)):
            if i in chosen:
                frame = coder.decode(raw.data)
                assert isinstance(frame, Frame)
                yield np.asarray(frame.image, np.uint8)


def _cut(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The middle of an image, not larger than this."""
    top, left = max(0, image.shape[0] - height) // 2, max(0, image.shape[1] - width) // 2
    return image[top : top + height, left : left + width]


def _stacked(
    images: list[NDArray[np.uint8]], source: str, shapes: dict[str, tuple[int | None, ...]], reading: Reading
) -> Samples:  # fmt: skip
    """All as one input of the network: N x C x H x W."""
    import cv2

    if len(shapes) != 1:
        raise NotFound(
            source, "use images", f"the network has {len(shapes)} inputs; give an .npz with one array for each"
        )
    [(name, shape)] = shapes.items()
    if len(shape) != 4 or shape[1] not in (1, 3):
        raise NotFound(source, "use images", f"input '{name}' is no image of one or three channels: {shape}")
    if not images:
        raise NotFound(source, "read samples", "it has no frame")
    height, width = shape[2], shape[3]
    if height is None or width is None:
        height, width = (min(side, _MOST_SIDE) // _STEP * _STEP or _STEP for side in images[0].shape[:2])
    found = []
    for image in images:
        if shape[1] == 1 and image.ndim == 3:
            image = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)
        elif shape[1] == 3:
            image = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8) if image.ndim == 2 else image
            image = image if reading.bgr else image[..., ::-1]
        if shape[2] is None or shape[3] is None:  # any size is taken: a part of the image in the size that it has
            image = _cut(image, height, width)
        if image.shape[:2] != (height, width):
            image = np.asarray(cv2.resize(np.ascontiguousarray(image), (width, height), interpolation=cv2.INTER_AREA))
        found.append(np.atleast_3d(image).transpose(2, 0, 1))
    return {name: torch.from_numpy(np.stack(found).astype(np.float32) * np.float32(reading.scale))}
