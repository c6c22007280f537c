"""Folders of colour and depth images without lists: a file a frame as in 7-Scenes, and a folder a kind."""

from __future__ import annotations

import re
from pathlib import Path

from foveate.errors import BackendMissing, RecordingError
from foveate.messages import DepthFrame, Frame, Message, Pose
from foveate_logbook.formats.base import Log
from foveate_logbook.formats.channels import Arrival, Decoder, Timeline, Undecodable
from foveate_logbook.formats.folders import times_of
from foveate_logbook.formats.intrinsics import SEVEN_SCENES, Intrinsics, folder_intrinsics, intrinsics_of
from foveate_logbook.formats.listed import IMAGE_PERIOD_NS, SUFFIXES, ListedLog, Rows, steady
from foveate_logbook.formats.pixels import MILLIMETRE

INVALID = 65535  # of depth in millimetres, where it was not measured: 7-Scenes has it so, and nothing sees 65 m
_FRAME = re.compile(r"(.*?)(\d+)[._-](color|rgb|depth|pose)\.(png|jpe?g|pgm|ppm|txt)", re.IGNORECASE)
_COLORS = ("rgb", "color", "colour", "image", "images")
TRUTH = "groundtruth.txt"
_POSES = ("pose", "poses")
_LOOKS = 5  # depth images that are looked at for 65535


def opened(path: Path) -> Log | None:
    """The log of a folder of either kind, None where it is neither. Raises RecordingError."""
    frames = _by_kind(path)
    if frames.get("depth") and frames.get("color"):
        return FrameFolder(path)
    if _files(path / "depth", SUFFIXES) and _colors(path):
        return PlainFolder(path)
    return None


def _by_kind(path: Path) -> dict[str, dict[int, str]]:
    """Files named NUMBER.color.png and the like: by kind and number."""
    found: dict[str, dict[int, str]] = {}
    for item in path.iterdir():
        match = _FRAME.fullmatch(item.name)
        if match is not None:
            kind = match[3].lower()
            if (kind == "pose") == (match[4].lower() == "txt"):
                found.setdefault("color" if kind == "rgb" else kind, {})[int(match[2])] = item.name
    return found


class FrameFolder(ListedLog):
    """A file a frame and kind: `frame-000007.color.png`, `.depth.png` (mm), `.pose.txt` (4 x 4, camera to world).

    /color: Frame, /depth: DepthFrame (65535 and 0: not measured), /pose: Pose, /info: CameraInfo with every depth
    image, of `camera-intrinsics.txt` or `camera.txt`; without one, 7-Scenes' own where depth is as only 7-Scenes has
    it. Frame n is at n / 30 s, for such folders have no times; a number that is missing is a gap.
    """

    def __init__(self, path: Path) -> None:
        """Raises RecordingError."""
        super().__init__(path)
        self.metadata = {"format": "RGB-D frames", "times": "numbers of frames, 30 Hz"}
        rows: dict[str, Rows] = {
            kind: [(round(number * IMAGE_PERIOD_NS), name) for number, name in files.items()]
            for kind, files in _by_kind(path).items()
        }
        self._add("/color", "image", rows["color"], Decoder(Frame, "", self._frame))
        self._add("/depth", "depth in mm", rows["depth"], Decoder(DepthFrame, "", self._depth_of(MILLIMETRE, INVALID)))
        if "pose" in rows:
            self._add("/pose", "4 x 4 camera to world", rows["pose"], Decoder(Pose, "", self._matrix_pose))
        self._add_info(folder_intrinsics(path) or self._seven_scenes(sorted(rows["depth"])), "/depth")
        self._listed()

    def _seven_scenes(self, rows: Rows) -> Intrinsics | None:
        """That benchmark's intrinsics where depth is 640x480 and has 65535 in it."""
        decode = self._depth_of(MILLIMETRE)
        at = Arrival("/depth", 0, 1, 0, Timeline(0), {})
        for _, name in rows[:_LOOKS]:
            try:
                found: list[Message] = list(decode(name.encode(), at))
            except (Undecodable, BackendMissing):
                continue
            depth = found[0]
            if isinstance(depth, DepthFrame) and depth.depth.shape == (480, 640) and (depth.depth == INVALID).any():
                return intrinsics_of(SEVEN_SCENES, "7-Scenes, as its 65535 tells; write camera.txt for another camera")
        return None


class PlainFolder(ListedLog):
    """A folder a kind: `rgb/` (or color/, image/, images/), `depth/`, and where there is one `pose/` (4 x 4 texts).

    /rgb: Frame, /depth: DepthFrame (mm; 65535 and 0: not measured), /pose: Pose, or /groundtruth of `groundtruth.txt`
    in TUM's form, /info: CameraInfo with every depth image. Times are those of the names where all are Unix times,
    else 30 images a second; images belong together that have the same number or name, or, where the kinds are as many,
    the same place in the order of names.
    """

    def __init__(self, path: Path) -> None:
        """Raises RecordingError."""
        super().__init__(path)
        self.metadata = {"format": "folders of colour and depth"}
        names = {"/rgb": _colors(path), "/depth": _files(path / "depth", SUFFIXES)}
        poses = next((name for name in _POSES if (path / name).is_dir()), None)
        if poses is not None:
            names["/pose"] = _files(path / poses, {".txt"})
        times = self._times(names)
        rows = {topic: list(zip(times[topic], listed, strict=True)) for topic, listed in names.items()}
        self._add("/rgb", "image", rows["/rgb"], Decoder(Frame, "", self._frame))
        self._add("/depth", "depth in mm", rows["/depth"], Decoder(DepthFrame, "", self._depth_of(MILLIMETRE, INVALID)))
        if "/pose" in rows:
            self._add("/pose", "4 x 4 camera to world", rows["/pose"], Decoder(Pose, "", self._matrix_pose))
        elif (path / TRUTH).is_file():
            self._add_truth([time_ns for times_ns in times.values() for time_ns in times_ns])
        self._add_info(folder_intrinsics(path), "/depth")
        self._listed()

    def _add_truth(self, image_ns: list[int]) -> None:
        rows = self._list(TRUTH, 7)
        if rows and image_ns and min(rows)[0] <= max(image_ns) and max(rows)[0] >= min(image_ns):
            self._add("/groundtruth", "tum/groundtruth", rows, Decoder(Pose, "", self._listed_pose))
        else:
            self.problems["/groundtruth"] = f"{TRUTH} is left out: its times are not those of the images"

    def _times(self, names: dict[str, list[str]]) -> dict[str, list[int]]:
        stems = {topic: [Path(name).stem for name in listed] for topic, listed in names.items()}
        unix = {topic: times_of(listed) for topic, listed in stems.items() if listed}
        if unix and all(times is not None for times in unix.values()):
            self.metadata["times"] = "names"
            return {topic: unix.get(topic) or [] for topic in names}
        self.metadata["times"] = "30 Hz"
        keys = {topic: [_key(stem) for stem in listed] for topic, listed in stems.items()}
        if set(keys["/rgb"]) & set(keys["/depth"]) and all(len(set(part)) == len(part) for part in keys.values()):
            order = {key: place for place, key in enumerate(sorted(set().union(*keys.values())))}
            moments = steady(len(order))
            return {topic: [moments[order[key]] for key in part] for topic, part in keys.items()}
        if len({len(part) for part in keys.values()}) == 1:
            return {topic: steady(len(part)) for topic, part in keys.items()}
        counts = ", ".join(f"{topic[1:]} {len(part)}" for topic, part in keys.items())
        raise RecordingError(
            f"{self.path}: which images belong together is not clear: {counts}, and their names have nothing in "
            "common; give them the same numbers, or write the lists rgb.txt and depth.txt of a TUM folder"
        )


def _colors(path: Path) -> list[str]:
    """Colour images of the first folder that has such."""
    return next((found for name in _COLORS if (found := _files(path / name, SUFFIXES))), [])


def _files(folder: Path, suffixes: set[str]) -> list[str]:
    """Names below the log's folder, in the order of their numbers, then of themselves; none where it is no folder."""
    if not folder.is_dir():
        return []
    found = [item for item in folder.iterdir() if item.suffix.lower() in suffixes]
    return [f"{folder.name}/{item.name}" for item in sorted(found, key=lambda item: (_key(item.stem), item.name))]


def _key(stem: str) -> tuple[int, str]:
    """What images of one moment have in common: the last number of the name, else the name."""
    match = re.search(r"(\d+)(?!.*\d)", stem)
    return (int(match[1]), "") if match else (-1, stem)
