"""The one door to recordings that others made."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from foveate.errors import NotFound, RecordingError
from foveate_logbook.formats import bag_scan, db3_log, folders, mcap_index, rgbd_folders, video_log
from foveate_logbook.formats.base import Log
from foveate_logbook.formats.listed import SUFFIXES
from foveate_logbook.formats.ros_types import ZSTD_MAGIC

_METADATA = "metadata.yaml"
_KINDS = "MCAP, ROS 1 .bag, ROS 2 .db3, video, events in EVT2, EVT3, DAT, AEDAT4, DSEC's HDF5, .es and text"
_SPARE_BYTES = 1 << 28  # of the disk, left free when a packed bag is unpacked
# where a video says what it is: AVI and WebP's kin, MP4, Matroska, Ogg, FLV, MPEG, ASF
_VIDEO = re.compile(
    rb"RIFF....AVI |....ftyp|\x1a\x45\xdf\xa3|OggS|FLV\x01|\x00\x00\x01[\xb3\xba]|\x30\x26\xb2\x75", re.DOTALL
)


def open_log(path: Path) -> Log:
    """The log in a file or folder, by what it holds first and its name second.

    Raises RecordingError, NotFound, BackendMissing: each one line with the way out.
    """
    try:
        if not path.exists():
            raise NotFound(str(path), "open", "there is no such file or folder")
        if path.is_file() and path.name in (_METADATA, folders.INDEX, *folders.TUM_LISTS, *folders.TUM_PAIRS):
            path = path.parent  # a file that stands for its folder
        return _open_folder(path) if path.is_dir() else _open_files(path, [path], split=False)
    except OSError as error:
        raise RecordingError(f"{path}: cannot read: {error.strerror or error}") from None


def _open_files(path: Path, parts: list[Path], *, split: bool) -> Log:
    """The log in one file, or in the parts of a split one."""
    unpacked = (
        tempfile.TemporaryDirectory(prefix="foveate-") if any(_head(p)[:4] == ZSTD_MAGIC for p in parts) else None
    )
    try:
        if unpacked is not None:
            parts = [_unpack(p, Path(unpacked.name)) if _head(p)[:4] == ZSTD_MAGIC else p for p in parts]
        log = _by_content(path, parts, split or unpacked is not None)
    except BaseException:
        if unpacked is not None:
            unpacked.cleanup()
        raise
    if unpacked is not None:
        _clean_up_with(log, unpacked)
    return log


def _by_content(path: Path, parts: list[Path], split: bool) -> Log:
    heads = [_head(part) for part in parts]
    head = next((item for item in heads if item), b"")
    if head.startswith(mcap_index.MAGIC):
        from foveate_logbook.formats.mcap_log import McapLog

        return McapLog(path, parts if split else None)
    if head.startswith(db3_log.MAGIC):
        return db3_log.Db3Log(path, parts if split else None)
    if head.startswith(b"#ROSBAG V"):
        from foveate_logbook.formats.bag_log import BagLog

        if not head.startswith(bag_scan.MAGIC):
            version = head[9:24].split(b"\n")[0].decode("ascii", "replace")
            raise RecordingError(f"{path}: a ROS bag of version {version}: only 2.0 is read; 'rosbag fix' converts it")
        return BagLog(parts[0])
    if not head:
        raise RecordingError(f"{path}: the file is empty: copy or record it again")
    if len(parts) == 1 and (events := _events(parts[0])) is not None:
        return events
    suffix = path.suffix.lower()
    if _VIDEO.match(head) or suffix in video_log.SUFFIXES:
        return video_log.VideoLog(path)
    if suffix in SUFFIXES:
        raise RecordingError(f"{path}: one image is no recording; name its folder")
    text = f"no recording that can be read ({_KINDS}): it begins with {head[:8].hex(' ')}"
    raise RecordingError(f"{path}: {text}; is it damaged, or of another format?")


def _events(path: Path) -> Log | None:
    """The log of an event camera's file, None where it is none."""
    from foveate_logbook.formats.events import event_log, recognise

    reader = recognise.reader_of(path)
    return None if reader is None else event_log.log_of(reader)


def _open_folder(path: Path) -> Log:
    if any((path / name).is_file() for name in folders.TUM_IMAGES):
        return folders.TumFolder(path)
    names = sorted(item.name for item in path.iterdir() if item.is_file())
    bags = [name for name in names if re.search(r"\.(mcap|db3)(\.zstd)?$", name)]
    if not bags and (rgbd := rgbd_folders.opened(path)) is not None:
        return rgbd
    if any((path / name).is_file() for name in folders.TUM_LISTS):
        return folders.TumFolder(path)
    listed, problem = _listed_parts(path / _METADATA)
    if listed is not None and (present := [name for name in listed if (path / name).is_file()]):
        log = _open_files(path, [path / name for name in present], split=True)
        if missing := sorted(set(listed) - set(present)):
            _add_problem(log, f"{_METADATA} names {', '.join(missing)}, which is not there")
        return log
    if bags:
        stems = {re.sub(r"(_\d+)?\.(mcap|db3)(\.zstd)?$", "", name) for name in bags}
        if len(stems) > 1:
            raise RecordingError(f"{path}: holds several recordings ({', '.join(bags[:4])}, ...); name one of them")
        log = _open_files(path, [path / name for name in sorted(bags, key=_part_number)], split=True)
        if problem:
            _add_problem(log, problem)
        return log
    if any(Path(name).suffix.lower() in SUFFIXES for name in names):
        return folders.ImagesLog(path)
    if (path / _METADATA).is_file():
        raise RecordingError(f"{path}: has {_METADATA}, but none of a bag's .mcap or .db3 files beside it")
    inside = f"{len(names)} files of other kinds" if names else "no files"
    raise RecordingError(
        f"{path}: no recording in this folder: it has {inside} (.mcap, .db3, rgb.txt, images, rgb/ and depth/ are read)"
    )


def _listed_parts(place: Path) -> tuple[list[str] | None, str]:
    """The files that rosbag2's metadata name, None where they name none, and what is wrong with it."""
    if not place.is_file():
        return None, ""
    import yaml

    try:
        values: Any = yaml.safe_load(place.read_text("utf-8", "replace"))
        names = values["rosbag2_bagfile_information"]["relative_file_paths"]
        # rosbag2 before Foxy wrote the folder's own name before each
        return [Path(str(name)).name for name in names], ""
    except (yaml.YAMLError, KeyError, TypeError, ValueError, RecursionError):
        return None, f"{place.name} cannot be read: the files were taken in the order of their numbers"


def _part_number(name: str) -> tuple[int, str]:
    match = re.search(r"_(\d+)\.", name)
    return (int(match[1]) if match else 0, name)


def _head(path: Path) -> bytes:
    with path.open("rb") as stream:
        return stream.read(64)


def _unpack(path: Path, folder: Path) -> Path:
    """A file that rosbag2 packed as a whole, unpacked. Raises RecordingError."""
    import zstandard

    target = folder / path.name.removesuffix(".zstd").removesuffix(".zst")
    room = shutil.disk_usage(folder).free - _SPARE_BYTES
    try:
        with path.open("rb") as source, target.open("wb") as out:
            for piece in zstandard.ZstdDecompressor().read_to_iter(source):
                room -= len(piece)
                if room < 0:
                    raise RecordingError(f"{path}: no room to unpack it in {folder.parent}; unpack it with 'unzstd'")
                out.write(piece)
    except zstandard.ZstdError as error:
        raise RecordingError(f"{path}: packed with zstd and damaged: {error}; copy it again") from None
    return target


def _clean_up_with(log: Log, folder: tempfile.TemporaryDirectory[str]) -> None:
    """Delete what was unpacked when the log is closed."""
    close = log.close

    def close_all() -> None:
        close()
        folder.cleanup()

    log.close = close_all  # type: ignore[method-assign]


def _add_problem(log: Log, text: str) -> None:
    log.problems[""] = f"{log.problems['']}; {text}" if log.problems.get("") else text
