"""Events made by the simulated event camera, with the exact class of every pixel: of drives along rendered streets, of
photographs that the camera turns before, of films."""

from __future__ import annotations

import itertools
import math
import threading
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate.clock import VirtualClock
from foveate.errors import NotFound, RecordingError
from foveate_drivers.events.pixel_model import PixelModel
from foveate_drivers.events.sim import SimEventCamera
from foveate_drivers.world.base import World
from foveate_nodes.segmentation.classes import SIX, seen_as
from foveate_nodes.segmentation.labelled import UNLABELLED, MadeRecording, Slice

Image = NDArray[np.uint8]
_RATE_HZ = 250  # images that pixels see, of photographs and films
_CAMVID = (
    1,
    1,
    2,
    0,
    0,
    3,
    2,
    1,
    5,
    4,
    4,
    UNLABELLED,
)  # sky building pole road pavement tree sign fence car people cyclist
_FIELD_RAD = 1.0  # of a photograph
_SHOWN = 0.8  # of a photograph's width, so that turns do not leave it


def drive(
    seed: int, *, size: tuple[int, int], field_rad: float, slices: int, slice_ns: int, renderings: int
) -> MadeRecording:
    """`slices` of a drive with a label at the end of each, in the six classes of DDD17; `renderings`: in 10 ms."""
    world = World(scene="street", seed=seed)
    camera = SimEventCamera(
        address="", world=world, width=size[0], height=size[1], field=field_rad, packet=slice_ns / 1e9,
        steps=renderings, seed=seed,
    )  # fmt: skip
    clock, never = VirtualClock(), threading.Event()
    world.open(clock)
    camera.open(clock)
    packets, labels, times = [], [], []
    for i in range(1, slices + 1):
        clock.wait_until(i * slice_ns, never)
        packets.append(camera.read(1.0))
        seen = world.classes(i * slice_ns)
        assert seen is not None
        table = seen_as(seen.names, SIX)
        assert table is not None
        labels.append(table[seen.label])
        times.append(i * slice_ns)
    camera.close()
    t, x, y, polarity = (np.concatenate([getattr(p, name) for p in packets]) for name in ("t_ns", "x", "y", "polarity"))
    return MadeRecording(
        f"street {seed}", SIX, size[::-1], Slice(t, x, y, polarity), np.array(times, np.int64), np.array(labels)
    )


def photograph(
    image: Path, annotation: Path, *, seed: int, size: tuple[int, int], slices: int, slice_ns: int
) -> MadeRecording:
    """A photograph of CamVid (as SegNet's tutorial has it: 12 labels) before which the camera turns about its centre:
    the picture moves by an exact homography, and the classes with it. Raises NotFound, RecordingError."""
    grey, label = _read(image, cv2.IMREAD_GRAYSCALE), _read(annotation, cv2.IMREAD_UNCHANGED)
    if label.ndim != 2 or label.shape != grey.shape or label.max() >= len(_CAMVID):
        text = f"{label.shape} with values to {label.max()}; it must be {grey.shape} with 0 to {len(_CAMVID) - 1}"
        raise RecordingError(f"{annotation}: the image of classes is {text}")
    label = np.array(_CAMVID, np.uint8)[label]
    height, width = grey.shape
    focal_px = width / (2 * math.tan(_FIELD_RAD / 2))
    rng = np.random.default_rng(seed)
    amplitude, rate, phase = rng.uniform(0.02, 0.06, 3), rng.uniform(0.5, 1.6, 3), rng.uniform(0, 2 * math.pi, 3)
    camera = np.array([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1]])
    scale = max(size[0] / (width * _SHOWN), size[1] / (height * _SHOWN))
    shown = np.array(
        [
            [scale, 0, (size[0] - 1 - scale * (width - 1)) / 2],
            [0, scale, (size[1] - 1 - scale * (height - 1)) / 2],
            [0, 0, 1],
        ]
    )

    def homography(t_s: float) -> NDArray[np.float64]:
        angle = amplitude * np.sin(2 * math.pi * rate * t_s + phase)
        return shown @ camera @ cv2.Rodrigues(angle * np.array([1, 1, 0.7]))[0] @ np.linalg.inv(camera)

    def seen(t_s: float) -> Image:
        return np.asarray(
            cv2.warpPerspective(grey, homography(t_s), size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        )

    times = slice_ns * np.arange(1, slices + 1, dtype=np.int64)

    def classes(t_s: float) -> Image:
        turned = cv2.warpPerspective(label, homography(t_s), size, flags=cv2.INTER_NEAREST, borderValue=UNLABELLED)
        return np.asarray(turned)

    labels = np.stack([classes(t / 1e9) for t in times])
    events = _simulated(seen, size, times[-1] / 1e9, seed)
    return MadeRecording(f"{image.name} {seed}", SIX, size[::-1], events, times, labels)


def film(frames: list[Path], masks: list[Path], *, rate_hz: float, seed: int, size: tuple[int, int]) -> MadeRecording:
    """A film with a mask of one object a frame (DAVIS): between frames pixels move along their optical flow. Raises
    RecordingError."""
    if len(frames) != len(masks) or len(frames) < 3:
        where = frames[0].parent if frames else "film"
        raise RecordingError(f"{where}: {len(frames)} frames and {len(masks)} masks; one a frame is needed, 3 at least")

    def small(path: Path, how: int) -> Image:
        return np.asarray(cv2.resize(_read(path, cv2.IMREAD_GRAYSCALE), size, interpolation=how))

    images = [small(path, cv2.INTER_AREA) for path in frames]
    labels = [small(path, cv2.INTER_NEAREST) > 127 for path in masks]
    finder = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    flows = [finder.calc(a, b, None) for a, b in itertools.pairwise(images)]
    grid = np.stack(np.meshgrid(np.arange(size[0]), np.arange(size[1])), -1).astype(np.float32)

    def seen(t_s: float) -> Image:
        at = min(max(t_s * rate_hz, 0.0), len(images) - 1 - 1e-6)
        i, share = int(at), np.float32(at - int(at))
        before = cv2.remap(images[i], grid - share * flows[i], None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        after = cv2.remap(
            images[i + 1], grid + (1 - share) * flows[i], None, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        return np.asarray(cv2.addWeighted(before, float(1 - share), after, float(share), 0))

    times = np.round(np.arange(1, len(images)) * 1e9 / rate_hz).astype(np.int64)
    events = _simulated(seen, size, times[-1] / 1e9, seed)
    name = frames[0].parent.name
    return MadeRecording(
        name, ("background", "object"), size[::-1], events, times, np.stack(labels[1:]).astype(np.uint8)
    )


def _simulated(seen: Callable[[float], Image], size: tuple[int, int], end_s: float, seed: int) -> Slice:
    """What the pixels of an event camera make of a moving picture."""
    pixels = PixelModel(*size, seed=seed)
    pixels.start(seen(0.0), 0)
    fired = [
        pixels.step(seen(i / _RATE_HZ), round(i * 1e9 / _RATE_HZ)) for i in range(1, math.ceil(end_s * _RATE_HZ) + 1)
    ]
    t_ns, pixel, polarity = (
        np.concatenate([getattr(f, name) for f in fired]) for name in ("t_ns", "pixel", "polarity")
    )
    row, column = np.divmod(pixel, size[0])
    return Slice(t_ns, column.astype(np.uint16), row.astype(np.uint16), polarity)


def _read(path: Path, flag: int) -> NDArray[np.uint8]:
    image = cv2.imread(str(path), flag)
    if image is None:
        raise (
            NotFound(str(path), "read an image", "there is no such file, or it is no image")
            if not path.is_file()
            else (RecordingError(f"{path}: not an image that OpenCV reads; copy it again"))
        )
    return np.asarray(image, np.uint8)
