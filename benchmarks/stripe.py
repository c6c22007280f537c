"""How fast stripes become points, and how exact they are: foveate beside Steger in OpenCV and numpy, and centroids.

Every engine finds the stripe of the same frames of 1280 x 1024 on one core: `gated` is the node `stripe` as it comes,
`ungated` the same at every pixel, `OpenCV` a Steger of five cv2.sepFilter2D and numpy that looks closely at pixels
bent enough, as one writes it without a compiler; `centroid` the node's other method. Errors are distances from the
true line over 8 frames of 1000 rows: FWHM 6 px, 8 bit, 10,000 electrons, read noise 2 grey levels; speckle by its
contrast and grain. Each trial is a process of its own; the engines take turns; medians of the runs and of their ratios.

    python benchmarks/stripe.py                         about 6 minutes
    python benchmarks/stripe.py speed --runs 3
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", NUMBA_NUM_THREADS="1")

import cv2
import numpy as np
from numpy.typing import NDArray
from trials import Part, options_of, report, verdict

from foveate.messages import Frame, MirrorState, Stamp
from foveate_calibration.document import Calibration, RigCalibration
from foveate_calibration.galvanometer import Galvanometer
from foveate_calibration.lens import Lens
from foveate_calibration.steered_camera import SteeredCamera
from foveate_calibration.steered_laser import SteeredLaser
from foveate_calibration.stripes import steger
from foveate_calibration.two_mirror import TwoMirror
from foveate_nodes.reconstruction.stripe import Stripe
from foveate_nodes.reconstruction.triangulate import Triangulate

WIDTH, HEIGHT = 1280, 1024
FWHM, SIGMA, READ, ELECTRONS = 6.0, 3.48, 2.0, 39.2
THRESHOLD = 10.0
FRAMES, PASSES, REPEATS = 8, 7, 3
Points = NDArray[np.float64]  # N x 2: column, row
Image = NDArray[np.uint8]


def speckle(random: np.random.Generator, shape: tuple[int, int], contrast: float, grain: float) -> NDArray[np.float64]:
    """Intensities of mean 1, gamma-distributed: the mean of 1 / contrast^2 fully developed patterns."""
    total = np.zeros(shape)
    y, x = np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])
    passed = np.exp(-2 * np.pi**2 * (grain / 2.3548) ** 2 * (x * x + y * y)) if grain > 1 else np.ones_like(x + y)
    looks = round(1 / contrast**2)
    for _ in range(2 * looks):
        part = np.fft.irfft2(np.fft.rfft2(random.standard_normal(shape)) * passed, s=shape)
        total += (part / part.std()) ** 2
    return total / (2 * looks)


def frame(seed: int, contrast: float, grain: float, board: bool = False) -> tuple[Image, float, float]:
    """An image, and the line in it: x = x0 + slope (row - middle)."""
    random = np.random.default_rng(seed)
    x0, slope = WIDTH / 2 + random.uniform(-20, 20), random.uniform(-0.1, 0.1)
    line = x0 + slope * (np.arange(HEIGHT) - (HEIGHT - 1) / 2)
    band = slice(int(line.min()) - 40, int(line.max()) + 40)
    across = (np.arange(WIDTH)[band] - line[:, None]) / np.hypot(1, slope)
    light = np.exp(-0.5 * (across * 2.3548 / FWHM) ** 2) * (130.0 if contrast < 1 else 40.0)
    if contrast:
        light *= speckle(random, light.shape, contrast, grain)
    albedo = np.ones((HEIGHT, WIDTH))
    if board:
        squares = np.kron(np.indices((8, 10)).sum(0) % 2, np.ones((150, 150)))[:HEIGHT, :WIDTH]
        albedo = 0.08 + 0.77 * squares
    scene = 8.0 + (45.0 * albedo if board else 0.0 * albedo)
    scene[:, band] += albedo[:, band] * light
    seen = random.poisson(scene * ELECTRONS) / ELECTRONS + random.normal(0, READ, scene.shape)
    return np.clip(np.rint(seen), 0, 255).astype(np.uint8), x0, slope


def by_node(**parameters: Any) -> Callable[[Image], Points]:
    node = Stripe(width=FWHM, sigma=SIGMA, threshold=THRESHOLD, read_noise=READ, electrons=ELECTRONS, **parameters)
    node.open()
    return lambda image: node.step(Frame(Stamp(0), image, "Mono8", 0)).point_px


def by_opencv() -> Callable[[Image], Points]:
    """Steger's detector over the whole frame; eigenvalues only where the image is bent enough along its rows."""
    smooth, first, second = steger.taps(SIGMA).astype(np.float32)
    least = THRESHOLD / ((FWHM / 2.3548) ** 2 + SIGMA**2) ** 1.5 * (FWHM / 2.3548)

    def find(image: Image) -> Points:
        seen = image.astype(np.float32)
        rx, ry, rxx, rxy, ryy = (
            cv2.sepFilter2D(seen, -1, kx, ky, borderType=cv2.BORDER_REPLICATE)
            for kx, ky in ((first, smooth), (smooth, first), (second, smooth), (first, first), (smooth, second))
        )
        y, x = np.nonzero(rxx < -least)
        xx, xy, yy = rxx[y, x], rxy[y, x], ryy[y, x]
        value = 0.5 * (xx + yy) - np.sqrt(0.25 * (xx - yy) ** 2 + xy * xy)
        nx, ny = yy - value, -xy
        length = np.hypot(nx, ny)
        nx, ny = nx / length, ny / length
        t = -(rx[y, x] * nx + ry[y, x] * ny) / value
        held = (np.abs(t * nx) <= 0.5) & (np.abs(t * ny) <= 0.5) & (-value >= least)
        x, y, value, t, nx, ny = (a[held] for a in (x, y, value, t, nx, ny))
        order = np.lexsort((value, y))  # the greatest response of each row comes first
        rows, at = np.unique(y[order], return_index=True)
        best = order[at]
        return np.column_stack([x[best] + t[best] * nx[best], rows + t[best] * ny[best]])

    return find


ENGINES: dict[str, Callable[[], Callable[[Image], Points]]] = {
    "gated": by_node, "ungated": lambda: by_node(gate=False), "OpenCV": by_opencv,
    "centroid": lambda: by_node(method="centroid"),
}  # fmt: skip
SPEED = {"a dark room": (0.25, 2.0, False), "a board": (0.25, 2.0, True)}
ERRORS = {
    "no speckle": (0.0, 1.0), "contrast 0.25, grain 1": (0.25, 1.0), "contrast 0.25, grain 2": (0.25, 2.0),
    "contrast 0.25, grain 4": (0.25, 4.0), "contrast 0.5, grain 2": (0.5, 2.0), "contrast 1, grain 1": (1.0, 1.0),
    "contrast 1, grain 2": (1.0, 2.0),
}  # fmt: skip


def alone() -> None:
    """One core, one thread."""
    cv2.setNumThreads(1)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def seconds(work: Callable[[], None], count: int) -> float:
    """Of one of `count` pieces of work: the median of some passes, after one to warm up."""
    work()
    times = []
    for _ in range(PASSES):
        begun = time.perf_counter()
        for _ in range(REPEATS):
            work()
        times.append(time.perf_counter() - begun)
    return statistics.median(times) / (count * REPEATS)


def speed(case: str, engine: str, folders: Mapping[str, Path]) -> dict[str, Any]:
    """Millions of pixels a second."""
    alone()
    images = [frame(seed, *SPEED[case])[0] for seed in range(4)]
    find = ENGINES[engine]()
    took = seconds(lambda: [find(image) for image in images] and None, len(images))
    return {"value": WIDTH * HEIGHT / took / 1e6, "unit": "Mpx/s", "ms": round(took * 1e3, 2)}


def error(case: str, engine: str, folders: Mapping[str, Path]) -> dict[str, Any]:
    """Deviation of the distance from the true line, thousandths of a pixel."""
    alone()
    find, off, rows = ENGINES[engine](), [], 0
    for seed in range(FRAMES):
        image, x0, slope = frame(100 + seed, *ERRORS[case])
        points = find(image)
        line = x0 + slope * (points[:, 1] - (HEIGHT - 1) / 2)
        off.append((points[:, 0] - line) / np.hypot(1, slope))
        rows += HEIGHT
    every = np.concatenate(off)
    return {
        "value": float(every.std()) * 1e3, "unit": "mpx", "off by mpx": round(float(every.mean()) * 1e3, 1),
        "rows %": round(100 * every.size / rows, 1),
    }  # fmt: skip


def rig() -> RigCalibration:
    """A scanner with a distorted lens: rays of such take longer."""
    drawn = TwoMirror()
    matrix = np.array([[10_000.0, 0, 640], [0, 10_000.0, 512], [0, 0, 1]])
    lens = Lens.from_matrix(matrix, np.array([-0.2, 0.1, 1e-3, -5e-4, 0.0]), WIDTH, HEIGHT)
    normal = np.array([-(0.5**0.5), 0.0, 0.5**0.5])
    mirror = Galvanometer(np.array([0.0, 1.0, 0.0]), np.array([0.8, 0.0, 0.0]), normal)
    models = {
        "camera": SteeredCamera(lens, drawn.rig_from_bare_camera, drawn.galvanometers()),
        "laser": SteeredLaser(np.array([0.0, 0.0, 1.0, 0.0]), mirror),
    }
    return RigCalibration(Stamp(0), Calibration(models).text())


def profiles(case: str, engine: str, folders: Mapping[str, Path]) -> dict[str, Any]:
    """Frames to points with covariances, a second."""
    alone()
    known, beam = rig(), 0.5 * np.arctan2(-0.8, 2.0)
    state = MirrorState(Stamp(0), np.zeros(2), False, "readback")
    frames = [Frame(Stamp(0), frame(seed, *SPEED[case])[0], "Mono8", seed, mirror=state) for seed in range(4)]
    find, place = Stripe(method="centroid" if engine == "centroid" else "steger"), Triangulate()
    find.open()
    light = MirrorState(Stamp(0), np.array([beam]), False, "readback")
    count = 0

    def work() -> None:
        nonlocal count
        count = 0
        for item in frames:
            cloud = place.step(find.step(item), light, known)
            assert cloud is not None
            count += len(cloud.point_m)

    took = seconds(work, len(frames))
    return {"value": 1 / took, "unit": "1/s", "points/s": round(count / len(frames) / took)}


PARTS = (
    Part("speed", "Pixels a second, one core", tuple(SPEED), tuple(ENGINES), speed, ("OpenCV",)),
    Part("error", "Distance from the true line", tuple(ERRORS), tuple(ENGINES), error, ("OpenCV",)),
    Part("profiles", "Frames to points, one core", tuple(SPEED), ("gated", "centroid"), profiles),
)


def main() -> None:
    found = report(PARTS, options_of(__doc__ or "", PARTS), {})
    for case in SPEED:
        rates = [run["value"] for run in found.get("profiles", {}).get(case, {}).get("gated", []) if run is not None]
        for least in (120, 300):
            print(verdict(f"{case}: at least {least} profiles/s", rates, lambda rate, least=least: rate >= least))


if __name__ == "__main__":
    main()
