"""What every depth camera must do."""

from __future__ import annotations

import numpy as np

from foveate.errors import EndOfStream, StateError, Timeout
from foveate_drivers.conformance import frames, streams
from foveate_drivers.conformance.frames import frames_of
from foveate_drivers.conformance.streams import take
from foveate_drivers.conformance.suite import Bench, Failed, Skipped, expect, expect_error
from foveate_drivers.depth.base import DepthCamera

INCLUDES = (streams, frames)  # whose checks are made as well


def check_stamps_are_numbers_that_can_be(bench: Bench[DepthCamera]) -> None:
    """Exposure, uncertainty, the device's time and its epoch are not negative."""
    with bench.open() as camera:
        for frame in frames_of(bench, camera, 3):
            stamp = frame.stamp
            expect(stamp.exposure_ns >= 0 and stamp.sigma_ns >= 0, f"exposure and sigma of {stamp}")
            expect(frame.device_ns >= 0 and frame.epoch >= 0, f"device time {frame.device_ns}, epoch {frame.epoch}")


def check_depth_is_what_the_interface_says(bench: Bench[DepthCamera]) -> None:
    """Depth is height x width of uint16, with a positive scale in metres that does not change."""
    with bench.open() as camera:
        frames = frames_of(bench, camera, 4)
    for frame in frames:
        expect(frame.depth.ndim == 2 and frame.depth.dtype == np.uint16, f"{frame.depth.shape} {frame.depth.dtype}")
        expect(np.isfinite(frame.scale_m) and frame.scale_m > 0, f"scale {frame.scale_m} m")
    expect(len({(f.depth.shape, f.scale_m) for f in frames}) == 1, "size or scale change from frame to frame")


def check_something_is_measured(bench: Bench[DepthCamera]) -> None:
    """Of five frames one has a pixel with depth: 0, "not measured", is not all there is."""
    with bench.open() as camera:
        expect(any(frame.depth.any() for frame in frames_of(bench, camera, 5)), "no pixel has a depth")


def check_intrinsics_are_of_the_depth_image(bench: Bench[DepthCamera]) -> None:
    """Width and height are the image's, focal lengths positive, the centre within it, the distortion finite."""
    with bench.open() as camera:
        frame = frames_of(bench, camera, 1)[0]
        info = camera.intrinsics()
    expect((info.height, info.width) == frame.depth.shape, f"{info.width} x {info.height} for {frame.depth.shape}")
    matrix = np.asarray(info.camera_matrix)
    expect(matrix.shape == (3, 3) and np.isfinite(matrix).all(), f"camera matrix {matrix}")
    expect(matrix[0, 0] > 0 and matrix[1, 1] > 0 and matrix[2].tolist() == [0, 0, 1], f"camera matrix {matrix}")
    expect(0 <= matrix[0, 2] <= info.width and 0 <= matrix[1, 2] <= info.height, "the centre lies outside")
    expect(info.model and np.isfinite(info.distortion).all(), f"{info.model!r} with {info.distortion}")


def check_images_belong_to_their_depth(bench: Bench[DepthCamera]) -> None:
    """An image that comes with a depth frame is of the same moment, within half a period, and never comes twice."""
    with bench.open() as camera:
        pairs = take(bench, camera, 8)
        half_ns = (camera.period_ns or 2_000_000_000) // 2
    images = [(depth, frame) for depth, frame in pairs if frame is not None]
    if not images:
        raise Skipped("it gives depth alone")
    for depth, frame in images:
        apart = abs(depth.stamp.t_ns - frame.stamp.t_ns)
        expect(apart <= half_ns, f"image and depth are {apart} ns apart")
        expect(frame.encoding in ("Mono8", "BGR8"), f"encoding {frame.encoding}")
        expect(frame.image.ndim == (3 if frame.encoding == "BGR8" else 2), f"{frame.encoding} {frame.image.shape}")
    expect(len({frame.seq for _, frame in images}) == len(images), "an image came twice")


def check_arrays_are_read_only(bench: Bench[DepthCamera]) -> None:
    """Nobody can write into depth or image that others hold too."""
    with bench.open() as camera:
        for depth, frame in take(bench, camera, 2):
            expect(not depth.depth.flags.writeable, "the depth can be written to")
            expect(frame is None or not frame.image.flags.writeable, "the image can be written to")


def check_frames_stay_as_they_were(bench: Bench[DepthCamera]) -> None:
    """A frame that is held keeps its pixels while twenty more are read, and after the camera is closed."""
    with bench.open() as camera:
        depth, frame = take(bench, camera, 1)[0]
        copy = depth.depth.copy()
        seen = None if frame is None else (frame, frame.image.copy())
        try:
            take(bench, camera, 20)
        except EndOfStream:
            pass
        expect(np.array_equal(depth.depth, copy), "its depth changed while it was held")
    expect(np.array_equal(depth.depth, copy), "its depth changed when the camera was closed")
    expect(seen is None or np.array_equal(seen[0].image, seen[1]), "its image changed")


def check_an_early_read_times_out(bench: Bench[DepthCamera]) -> None:
    """A read before anything is ready raises Timeout."""
    with bench.open() as camera:
        if bench.finite:
            raise Skipped("a file waits for its reader")
        take(bench, camera, 1)
        for _ in range(200):  # what is there already may be had
            try:
                camera.read(0.0)
            except Timeout:
                return
    raise Failed("it gave 200 frames at once")


def check_intrinsics_need_an_open_camera(bench: Bench[DepthCamera]) -> None:
    """`intrinsics` raises StateError before `open` and after `close`."""
    camera = bench.make()
    expect_error(StateError, camera.intrinsics, "intrinsics before open")
    camera = bench.open()
    camera.close()
    expect_error(StateError, camera.intrinsics, "intrinsics after close")
