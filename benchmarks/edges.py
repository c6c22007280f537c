"""How well edge detectors find the exact edges of simulated rooms, and how quickly, on one core.

The rooms are none of those that the network was trained on. A pixel that a detector marks is right where an exact edge
lies within 2 px of it (`precision`), an exact edge is found where a mark lies within 2 px (`recall`); F is their
harmonic mean; `off` is the mean distance of right marks from the nearest edge. Where the truth is unclear (an edge
without contrast in the picture, crowded lines) nothing counts. Canny has Otsu's thresholds, as odometry's default;
`best Canny` has the fixed thresholds, of a grid, that are best for each condition in hindsight.

    python benchmarks/edges.py                                     about 2 minutes
    python benchmarks/edges.py --model edges.onnx --weights edges.pt --rooms 10     with its floating form (extra train)
"""

from __future__ import annotations

import argparse
import itertools
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", NUMBA_NUM_THREADS="1")

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate_nodes.odometry.network_edges import HIGH, LOW, NetworkEdges, thinned
from foveate_nodes.odometry.selection import canny_edges
from foveate_nodes.odometry.training_views import EdgeViews, Look, edge_views

Gray = NDArray[np.uint8]
Detector = Callable[[Gray], Gray]
HELD_OUT = 9  # rooms 10000 and up; those of the repository's weights have the seeds from 1000
VIEWS, WIDTH, HEIGHT, NEAR_PX = 4, 640, 480, 2.0
LOOKS = {
    "good": Look(),
    "blurred": Look(blur_px=2.2, smear_px=6.0, smear_rad=0.5),
    "dark": Look(gain=0.12, full_well_e=3000),
    "noisy": Look(full_well_e=350),
}
THRESHOLDS = (20, 35, 60, 100, 150, 220)


def score(mask: Gray, label: Gray) -> NDArray[np.float64]:
    """(right marks, marks, found edge pixels, edge pixels, sum of right marks' distances)."""
    from_edge = cv2.distanceTransform((label != 1).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    from_mark = cv2.distanceTransform((mask == 0).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    unclear = cv2.dilate((label == 255).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    right = (mask > 0) & (from_edge <= NEAR_PX)
    marks = right | ((mask > 0) & ~unclear)
    edge = label == 1
    found = edge & (from_mark <= NEAR_PX)
    return np.array([right.sum(), marks.sum(), found.sum(), edge.sum(), from_edge[right].sum()], np.float64)


def judged(detector: Detector, views: EdgeViews) -> tuple[float, float, float, float]:
    """(F, precision, recall, off in pixels) over all views."""
    pairs = zip(views.images, views.labels, strict=True)
    right, marks, found, edges, off = np.sum([score(detector(image), label) for image, label in pairs], axis=0)
    precision, recall = right / max(marks, 1), found / max(edges, 1)
    return 2 * precision * recall / max(precision + recall, 1e-9), precision, recall, off / max(right, 1)


def best_canny(views: EdgeViews) -> tuple[tuple[float, float, float, float], str]:
    """What fixed thresholds can do at most, on pictures smoothed by 1 px or not."""

    def fixed(high: float, blur_px: float) -> Detector:
        def detect(gray: Gray) -> Gray:
            smooth = cv2.GaussianBlur(gray, (0, 0), blur_px) if blur_px else gray
            return np.asarray(cv2.Canny(smooth, 0.5 * high, high, L2gradient=True), np.uint8)

        return detect

    grid = itertools.product(THRESHOLDS, (0.0, 1.0))
    tried = [(judged(fixed(high, blur), views), f"{high} after {blur:g} px") for high, blur in grid]
    return max(tried)


def took_ms(detector: Detector, views: EdgeViews) -> float:
    """The median of three rounds."""
    rounds = []
    for _ in range(4):
        start = time.perf_counter()
        for image in views.images[:8]:
            detector(image)
        rounds.append((time.perf_counter() - start) / len(views.images[:8]))
    return 1e3 * sorted(rounds[1:])[1]


def floating(weights: Path, folder: Path) -> Detector:
    """The network before it became integers, in onnxruntime as well."""
    import onnxruntime
    import torch

    from foveate_nodes.odometry.edge_network import EdgeNetwork

    net = EdgeNetwork()
    net.load_state_dict(torch.load(weights, weights_only=True))
    path = str(folder / "float.onnx")
    torch.onnx.export(net.eval(), (torch.zeros(1, 1, HEIGHT, WIDTH),), path, dynamo=False, input_names=["image"])
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def detect(gray: Gray) -> Gray:
        return thinned(session.run(None, {"image": gray[None, None].astype(np.float32)})[0][0, 0], HIGH, LOW)

    return detect


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path(__file__).parents[1] / "launch/models/edges.onnx")
    parser.add_argument("--weights", type=Path, metavar="FILE.pt", help="of the same network, to compare with")
    parser.add_argument("--rooms", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    detectors: dict[str, Detector] = {"Canny-Otsu": canny_edges, "network int8": NetworkEdges(options.model)}
    with tempfile.TemporaryDirectory() as folder:
        if options.weights:
            detectors["network float"] = floating(options.weights, Path(folder))
        print(f"{'':10} {'':14} {'F':>6} {'precision':>10} {'recall':>7} {'off px':>7} {'ms':>6}")
        for name, look in LOOKS.items():
            views = edge_views(options.rooms, VIEWS, HELD_OUT, WIDTH, HEIGHT, look)
            for who, detector in detectors.items():
                f, precision, recall, off = judged(detector, views)
                ms = took_ms(detector, views)
                print(f"{name:10} {who:14} {f:6.3f} {precision:10.3f} {recall:7.3f} {off:7.2f} {ms:6.1f}", flush=True)
            (f, precision, recall, off), where = best_canny(views)
            print(f"{name:10} {'best Canny':14} {f:6.3f} {precision:10.3f} {recall:7.3f} {off:7.2f}        {where}")


if __name__ == "__main__":
    main()
