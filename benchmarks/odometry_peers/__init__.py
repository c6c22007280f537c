"""Trackers of an RGB-D camera, each in the best form that its authors document; none was tuned on a sequence.

A tracker is made from a camera (3 x 3 matrix, width, height) and has
`track(image_bgr, depth_m, time_s) -> (world_from_camera | None, tracked)`: H x W x 3 uint8, H x W float32 in metres
with 0 for holes, seconds; 4 x 4 float64. One that corrects its past may have `trajectory()`: after the last frame, all
poses (N x 4 x 4) as it knows them then. Nothing here but `ours` imports foveate, so that a peer can run in an
environment of its own.
"""

from __future__ import annotations

FARTHEST_M = 5.0  # what the sensors of the sequences measure; the peers' own defaults are 3 to 4 m, short for a room

MODULES = {
    "ours": (
        "foveate",
        "foveate_frames",
        "foveate_loops",
        "foveate_both",
        "foveate_distance",
        "foveate_network",
    ),
    "orb_pnp": ("orb_pnp",),
    "direct": ("dense_direct", "dense_direct_far", "canny_edge_direct"),
    "opencv_odometry": ("opencv_rgbd", "opencv_rgb", "opencv_depth"),
    "open3d_odometry": ("open3d_hybrid", "open3d_intensity", "open3d_legacy"),
}  # trackers by the module whose `VARIANTS` makes them
