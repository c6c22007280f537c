"""Which earlier view looks like this one: codes of random ferns over a small image and its depth.

Glocker, Shotton, Criminisi and Izadi, "Real-time RGB-D camera relocalization via randomized ferns", 2015: each fern is
a place with a threshold for every channel; views whose codes differ in few ferns look alike.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from foveate_nodes.odometry.view import View

FERNS = 500
_SIZE = (40, 30)  # pixels
_SEED = 7


def _drawn() -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(_SEED)
    place = rng.integers(0, _SIZE[0] * _SIZE[1], FERNS)
    return place, rng.uniform(20, 235, (FERNS, 2)).astype(np.float32), rng.uniform(0.6, 4.0, FERNS).astype(np.float32)


_PLACE, _GRAY, _DEPTH_M = _drawn()


def code(view: View) -> NDArray[np.uint8]:
    """(500,): two bits of brightness and one of depth each; brightness counts from the image's mean."""
    coarse = view.gray[-1]
    small = np.asarray(cv2.resize(coarse, _SIZE, interpolation=cv2.INTER_AREA), np.float32)
    even = (small - small.mean()) * np.float32(45.0) / max(float(small.std()), 1.0) + np.float32(127.0)
    depth = np.asarray(cv2.resize(view.depth[-1], _SIZE, interpolation=cv2.INTER_NEAREST))
    gray = even.ravel()[_PLACE][:, None] > _GRAY
    far = depth.ravel()[_PLACE] > _DEPTH_M
    return (gray[:, 0] + 2 * gray[:, 1] + 4 * far).astype(np.uint8)


def dissimilarity(codes: NDArray[np.uint8], one: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(K,): the share of ferns that differ between `one` (500,) and each of `codes` (K x 500)."""
    return np.asarray((codes != one).mean(axis=1))
