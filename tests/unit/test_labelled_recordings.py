"""Labelled recordings in the layouts of data sets: what was written is read; damage is named in one line."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from foveate import catalog
from foveate.clock import VirtualClock
from foveate.errors import BackendMissing, EndOfStream, FoveateError, NotFound, RecordingError
from foveate.messages import Events
from foveate_drivers.events.files import EventFile
from foveate_logbook.formats.events import dsec_hdf5, recognise
from foveate_logbook.formats.events.base import Block, block_of, joined
from foveate_logbook.formats.opening import open_log
from foveate_nodes.segmentation import class_images as pngs
from foveate_nodes.segmentation import ddd17, dsec, nmnist
from foveate_nodes.segmentation.ddd17 import Ddd17
from foveate_nodes.segmentation.dsec import Dsec
from foveate_nodes.segmentation.labelled import UNLABELLED, LabelledRecording, Slice

cv2 = pytest.importorskip("cv2", reason="images of classes are decoded by OpenCV")
MS = 1_000_000


def columns(count: int, width: int, height: int, step_ns: int, begin_ns: int, seed: int = 1) -> Block:
    """Events in the order of time, some at the same one."""
    random = np.random.default_rng(seed)
    t = begin_ns + np.cumsum(random.integers(0, 3, count)) * step_ns
    x, y, sign = (random.integers(0, size, count) for size in (width, height, 2))
    return block_of(t, x, y, sign)


def class_images(count: int, height: int, width: int, classes: int) -> NDArray[np.uint8]:
    random = np.random.default_rng(2)
    images = random.integers(0, classes + 1, (count, height, width)).astype(np.uint8)
    return np.where(images == classes, np.uint8(UNLABELLED), images)


def write_png(path: Path, image: NDArray[Any], *options: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    done, data = cv2.imencode(".png", image, list(options))
    assert done
    path.write_bytes(data.tobytes())


def refused(act: Callable[[], Any], *words: str, kind: type[FoveateError] = RecordingError) -> None:
    with pytest.raises(kind) as caught:
        act()
    text = str(caught.value)
    assert "\n" not in text and len(text) < 600
    for word in words:
        assert word in text, text


def check(recording: LabelledRecording, events: Block, x: NDArray[Any], y: NDArray[Any]) -> None:
    """Every number of events and parts of them, as they were written."""
    count = events.t_ns.size
    for t in np.concatenate([events.t_ns[:: count // 97], events.t_ns[-2:], [0, events.t_ns[-1] + 10**9]]):
        for moved in (-1, 0, 1):
            assert recording.events_before(int(t) + moved) == np.searchsorted(events.t_ns, t + moved)
    for first, last in ((0, count), (0, 0), (count, count), (17, 5017), (count - 3, count)):
        part = recording.events(first, last)
        assert len(part) == last - first
        assert part.t_ns.dtype == np.int64 and np.array_equal(part.t_ns, events.t_ns[first:last])
        assert part.x.dtype == x.dtype and np.array_equal(part.x, x[first:last])
        assert part.y.dtype == y.dtype and np.array_equal(part.y, y[first:last])
        assert part.polarity.dtype == np.uint8 and np.array_equal(part.polarity, events.polarity[first:last])
    refused(lambda: recording.events(5, count + 1), f"has {count} events, not 5 to {count + 1}")
    refused(lambda: recording.events(-1, 1), "not -1 to 1")
    sent = ForkingPickler.loads(ForkingPickler.dumps(recording))  # to a process that reads with us
    assert len(ForkingPickler.dumps(recording)) < 1000 and np.array_equal(sent.label_t_ns, recording.label_t_ns)


# --- DDD17 ------------------------------------------------------------------------------------------------------------

IMAGES = (3, 4, 9)  # numbers of the images that have masks
T0 = 1_487_417_411_000_000_000


class Ddd17Folder:
    """A folder `dir*` as users have it."""

    def __init__(self, folder: Path, height: int = 200) -> None:
        self.folder = folder
        self.events = columns(20_000, 346, 260, 20_000, T0)
        rows = np.stack([self.events.x, self.events.y, self.events.polarity], axis=1).astype("<i2")
        folder.mkdir(parents=True)
        (folder / "events.dat.t").write_bytes(self.events.t_ns.astype("<i8").tobytes())
        (folder / "events.dat.xyp").write_bytes(rows.tobytes())
        t = T0 + np.arange(1, 13) * 33 * MS
        before, earlier = (np.searchsorted(self.events.t_ns, t - back * MS) for back in (0, 50))
        self.index = np.stack([t, before, earlier], axis=1)
        self.write_index(self.index)
        self.masks = class_images(len(IMAGES), height, 346, 6)
        for number, mask in zip(IMAGES, self.masks, strict=True):
            write_png(self.mask(number), mask)

    def write_index(self, index: NDArray[Any]) -> None:
        (self.folder / "index").mkdir(exist_ok=True)
        np.save(self.folder / "index" / "index_50ms.npy", index)

    def mask(self, number: int) -> Path:
        return self.folder / "segmentation_masks" / f"segmentation_{number:08}.png"


@pytest.fixture
def driven(tmp_path: Path) -> Ddd17Folder:
    return Ddd17Folder(tmp_path / "dir3")


def test_ddd17_is_read_as_it_was_written(driven: Ddd17Folder) -> None:
    recording = Ddd17(driven.folder)
    assert (recording.name, recording.width, recording.height, recording.used_height) == ("dir3", 346, 260, 200)
    assert len(recording.classes) == 6 and recording.classes[4] == "human"
    assert recording.label_t_ns.tolist() == driven.index[[2, 3, 8], 0].tolist()
    for i, mask in enumerate(driven.masks):
        label = recording.labels(i)
        assert label.dtype == np.uint8 and np.array_equal(label, mask)
        row = driven.index[IMAGES[i] - 1]
        assert recording.events_before(int(row[0])) == row[1]
    check(recording, driven.events, driven.events.x, driven.events.y)


def test_masks_of_the_sizes_that_users_have(driven: Ddd17Folder) -> None:
    recording, mask, path = Ddd17(driven.folder), driven.masks[0], driven.mask(IMAGES[0])
    below = np.zeros((60, 346), np.uint8)
    write_png(path, np.concatenate([mask, below]))
    assert np.array_equal(recording.labels(0), mask)
    write_png(path, cv2.resize(mask, (352, 200), interpolation=cv2.INTER_NEAREST))
    assert np.array_equal(recording.labels(0), mask)
    write_png(path, np.repeat(mask[..., None], 3, axis=2))  # grey in three channels
    assert np.array_equal(recording.labels(0), mask)
    write_png(path, mask[:, :200])
    refused(lambda: recording.labels(0), str(path), "200 x 200", "346 x 200, 346 x 260, 352 x 200 are read")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("palette", [False, True], ids=["grey", "palette"])
def test_numbers_of_a_png_are_classes(bits: int, palette: bool, driven: Ddd17Folder) -> None:
    """Also where viewers see colours, and where a byte holds several pixels."""
    mask = driven.masks[0] % min(6, 1 << bits)
    padded = np.pad(mask, ((0, 0), (0, -346 % 8)))
    digits = ((padded[..., None] >> np.arange(bits)[::-1]) & 1).reshape(200, -1).astype(np.uint8)
    rows = np.packbits(digits, axis=1)[:, : -(-346 * bits // 8)]
    import zlib

    head = (346).to_bytes(4) + (200).to_bytes(4) + bytes((bits, 3 if palette else 0, 0, 0, 0))
    colours = np.random.default_rng(1).integers(0, 256, 3 << bits).astype(np.uint8).tobytes()
    data = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())
    chunks = [(b"IHDR", head), *([(b"PLTE", colours), (b"tRNS", b"\0")] if palette else []), (b"IDAT", data)]
    content = b"".join(pngs._chunk(*chunk) for chunk in [*chunks, (b"IEND", b"")])
    driven.mask(IMAGES[0]).write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    assert np.array_equal(Ddd17(driven.folder).labels(0), mask)


def test_images_that_are_no_classes_are_named(driven: Ddd17Folder) -> None:
    recording, mask, path = Ddd17(driven.folder), driven.masks[0].copy(), driven.mask(IMAGES[0])
    mask[5, 7:9] = 6
    write_png(path, mask)
    refused(lambda: recording.labels(0), str(path), "2 pixels with values such as 6: classes are 0 to 5")
    colours = np.repeat(driven.masks[0][..., None], 3, axis=2)
    colours[3, 4, 1] ^= 1
    write_png(path, colours)
    refused(lambda: recording.labels(0), str(path), "an image of colours", "save")
    write_png(path, driven.masks[0].astype(np.uint16))
    refused(lambda: recording.labels(0), str(path), "8 bits")
    write_png(path, driven.masks[0])
    whole = path.read_bytes()
    spoilt = whole[:500] + bytes([whole[500] ^ 4]) + whole[501:]
    for content in (whole[:-40], spoilt, whole[:20], b"", b"GIF89a" + whole):
        path.write_bytes(content)
        refused(lambda: recording.labels(0), str(path), "damaged or cut off: copy it again")
    path.unlink()
    refused(lambda: recording.labels(0), f"{path}: cannot read: No such file")


def cut(name: str, size: int) -> Callable[[Ddd17Folder], object]:
    return lambda made: (made.folder / name).write_bytes((made.folder / name).read_bytes()[:size])


def without(name: str) -> Callable[[Ddd17Folder], object]:
    return lambda made: (made.folder / name).unlink()


def with_index(row: int, column: int, value: int) -> Callable[[Ddd17Folder], None]:
    def change(made: Ddd17Folder) -> None:
        made.index[row, column] = value
        made.write_index(made.index)

    return change


def masks_away(made: Ddd17Folder) -> None:
    for number in IMAGES:
        made.mask(number).unlink()


def masks_packed(made: Ddd17Folder) -> None:
    masks_away(made)
    (made.folder / "segmentation_masks.zip").write_bytes(b"PK")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("events.dat.t"), ("events.dat.t: there is no such file", "name a folder that has")),
        (without("events.dat.xyp"), ("events.dat.xyp: there is no such file",)),
        (without("index/index_50ms.npy"), ("index_50ms.npy: there is no such file", "unpack all of dir3")),
        (cut("events.dat.t", 8003), ("events.dat.t: 8003 bytes, and an event has 8", "copy it again")),
        (cut("events.dat.xyp", 8003), ("events.dat.xyp: 8003 bytes, and an event has 6", "copy it again")),
        (cut("events.dat.t", 0), ("events.dat.t: holds no events",)),
        (cut("events.dat.xyp", 6000), ("events.dat.xyp: 1000 events, and events.dat.t has 20000: copy both",)),
        (cut("index/index_50ms.npy", 200), ("index_50ms.npy: no array of NumPy", "copy it again")),
        (cut("index/index_50ms.npy", 3), ("index_50ms.npy: no array of NumPy",)),
        (lambda made: made.write_index(np.zeros(7)), ("index_50ms.npy: an array of float64 in (7,)",)),
        (lambda made: made.write_index(made.index[:8]), ("_00000009.png: of image 9, and", "images 1 to 8")),
        (with_index(3, 0, T0), ("segmentation_00000004.png is at", "times must grow")),
        (with_index(8, 1, 20_001), ("image 9 is after event 20001, and events.dat.t has 20000",)),
        (masks_away, ("segmentation_masks: no masks (*.png)", "Ev-SegNet")),
        (masks_packed, ("no masks (*.png): unpack segmentation_masks.zip",)),
        (lambda made: made.mask(3).rename(made.mask(3).with_name("mask.png")), ("mask.png: its name", "number")),
    ],
)  # fmt: skip
def test_damaged_folders_of_ddd17_are_named(
    change: Callable[[Ddd17Folder], object], words: tuple[str, ...], driven: Ddd17Folder
) -> None:
    change(driven)
    refused(lambda: Ddd17(driven.folder), str(driven.folder), *words)


def test_damaged_events_of_ddd17_are_named(driven: Ddd17Folder) -> None:
    t, xyp = driven.folder / "events.dat.t", driven.folder / "events.dat.xyp"
    times = driven.events.t_ns.copy()
    times[1000] = times[999] - 1
    t.write_bytes(times.astype("<i8").tobytes())
    recording = Ddd17(driven.folder)
    assert len(recording.events(0, 1000)) == len(recording.events(1000, 2000)) == 1000
    refused(lambda: recording.events(500, 2000), f"{t}: event 1000 is at {times[1000]} ns", "times go back; copy")
    for place, words in (((346, 3), "column 346, row 3"), ((3, -1), "column 3, row -1")):
        rows = np.frombuffer(xyp.read_bytes(), "<i2").reshape(-1, 3).copy()
        rows[30, :2] = place
        xyp.write_bytes(rows.tobytes())
        refused(lambda: Ddd17(driven.folder).events(10, 60), f"{xyp}: event 30 is at {words}", "346 x 260")


def test_ddd17_is_split_by_the_order_of_its_folders(tmp_path: Path) -> None:
    refused(lambda: ddd17.splits(tmp_path / "none"), "there is no such folder", kind=NotFound)
    refused(lambda: ddd17.splits(tmp_path), f"{tmp_path}: 0 folders dir*", "made of 7")
    refused(lambda: Ddd17(tmp_path / "none"), "there is no such folder", kind=NotFound)
    refused(lambda: Ddd17(tmp_path), "events.dat.t: there is no such file")
    for name in "7310469":
        (tmp_path / f"dir{name}").mkdir()
    (tmp_path / "dir.txt").write_text("not a folder")
    found = {name: [path.name for path in paths] for name, paths in ddd17.splits(tmp_path).items()}
    assert found == {"train": ["dir0", "dir3", "dir4", "dir7", "dir9"], "valid": ["dir1"], "test": ["dir6"]}
    (tmp_path / "dir9").rmdir()
    refused(lambda: ddd17.splits(tmp_path), "6 folders dir*")


# --- DSEC -------------------------------------------------------------------------------------------------------------

OFFSET_US = 57_000_123_456
LABELS = 13
LAYOUTS = {  # folder of the events, folder of the labels, file of their times
    "as unpacked": ("events/left", "11classes/data", "zurich_city_00_a_semantic_timestamps.txt"),
    "semantic": ("events/left", "semantic/11classes/data", "semantic/timestamps.txt"),
    "semantic left": ("events/left", "semantic/left/11classes", "semantic/left/x_semantic_timestamps.txt"),
    "flat": ("", "11classes", "timestamps.txt"),
    "labels": ("", "labels/11classes", "labels/timestamps.txt"),
    "beside images": ("events/left", "11classes", "images/timestamps.txt"),
}


def packed() -> dict[str, Any]:
    """How DSEC packs: Blosc with Zstandard."""
    plugin = pytest.importorskip("hdf5plugin", reason="an extra")
    return dict(plugin.Blosc(cname="zstd"))


def write_events(path: Path, events: Block, **options: Any) -> None:
    """events.h5; `events` have the offset in their times."""
    h5py = pytest.importorskip("h5py", reason="an extra")
    path.parent.mkdir(parents=True, exist_ok=True)
    t_us = events.t_ns // 1000 - OFFSET_US
    with h5py.File(path, "w") as file:
        for name, values in {
            "x": events.x, "y": events.y, "t": t_us.astype(np.uint32), "p": events.polarity,
        }.items():  # fmt: skip
            file.create_dataset(f"events/{name}", data=values, **options)
        milliseconds = np.arange(int(t_us[-1]) // 1000 + 1) * 1000
        file["ms_to_idx"] = np.searchsorted(t_us, milliseconds).astype(np.uint64)
        file["t_offset"] = np.int64(OFFSET_US)


class DsecFolder:
    """A sequence as users have it."""

    def __init__(self, folder: Path, layout: str = "as unpacked", **options: Any) -> None:
        h5py = pytest.importorskip("h5py", reason="an extra")
        events, labels, times = LAYOUTS[layout]
        self.folder = folder
        self.events = columns(60_000, 640, 480, 10_000, OFFSET_US * 1000 + 2 * MS)
        self.h5, self.times, self.data = folder / events / "events.h5", folder / times, folder / labels
        write_events(self.h5, self.events, **options)
        rows, places = np.mgrid[:480, :640].astype(np.float32)
        self.map = np.stack([places * 1.01 - 3.5, rows * 0.99 + 2.25], axis=2)
        with h5py.File(self.h5.with_name("rectify_map.h5"), "w") as file:
            file["rectify_map"] = self.map
        self.images = class_images(LABELS, 440, 640, 11)
        for i, image in enumerate(self.images):
            write_png(self.data / f"{i:06}.png", image, cv2.IMWRITE_PNG_COMPRESSION, 0)
        self.t_us = OFFSET_US + 50_000 * np.arange(LABELS)
        self.write_times(self.t_us)

    def write_times(self, t_us: NDArray[np.int64]) -> None:
        self.times.parent.mkdir(parents=True, exist_ok=True)
        self.times.write_text("".join(f"{t}\n" for t in t_us))

    def change(self, name: str, values: object, **options: Any) -> None:
        """Put another array into events.h5, or take one away."""
        import h5py

        with h5py.File(self.h5, "r+") as file:
            del file[name]
            if values is not None:
                file.create_dataset(name, data=values, **options)


@pytest.fixture
def city(tmp_path: Path) -> DsecFolder:
    return DsecFolder(tmp_path / "zurich_city_00_a")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_dsec_is_read_as_it_was_written(layout: str, tmp_path: Path) -> None:
    made = DsecFolder(tmp_path / "zurich_city_00_a", layout, chunks=(5000,), **packed())
    recording = Dsec(made.folder)
    assert (recording.name, recording.width, recording.height) == ("zurich_city_00_a", 640, 480)
    assert recording.used_height == 440 and len(recording.classes) == 11 and recording.classes[8] == "vehicle"
    assert recording.label_t_ns.tolist() == (made.t_us[[6, 8, 10, 12]] * 1000).tolist()
    for i, number in enumerate((6, 8, 10, 12)):
        assert np.array_equal(recording.labels(i), made.images[number])
    place = made.map[made.events.y, made.events.x]
    check(recording, made.events, place[:, 0], place[:, 1])
    recording.close()


def test_events_are_found_without_reading_all_of_them(city: DsecFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dsec, "_SPAN", 64)
    recording, read = Dsec(city.folder), 0
    times = dsec_hdf5.EventTable.times_us

    def counted(table: dsec_hdf5.EventTable, first: int, last: int) -> NDArray[np.int64]:
        nonlocal read
        read += last - first
        return times(table, first, last)

    monkeypatch.setattr(dsec_hdf5.EventTable, "times_us", counted)
    t = city.events.t_ns[30_000]
    assert recording.events_before(int(t)) == np.searchsorted(city.events.t_ns, t) and read < 150
    recording.close()
    city.change("ms_to_idx", None)  # other writers leave it out: times are halved into
    recording, read = Dsec(city.folder), 0
    assert recording.events_before(int(t)) == np.searchsorted(city.events.t_ns, t) and read < 150
    assert recording.events_before(0) == 0 and recording.events_before(1 << 62) == 60_000


def test_labels_of_dsec_may_be_of_the_whole_sensor(city: DsecFolder) -> None:
    recording, path = Dsec(city.folder), city.data / "000006.png"
    write_png(path, np.concatenate([city.images[6], np.zeros((40, 640), np.uint8)]))
    assert np.array_equal(recording.labels(0), city.images[6])
    write_png(path, city.images[6][:, :600])
    refused(lambda: recording.labels(0), str(path), "600 x 440", "640 x 440, 640 x 480 are read")
    spoilt = city.images[6].copy()
    spoilt[0, 0] = 18
    write_png(path, spoilt)
    refused(lambda: recording.labels(0), str(path), "1 pixels with values such as 18: classes are 0 to 10")


def drop_last(made: DsecFolder) -> None:
    (made.data / f"{LABELS - 1:06}.png").unlink()


def halved(made: DsecFolder) -> None:
    made.h5.write_bytes(made.h5.read_bytes()[: made.h5.stat().st_size // 2])


def other_map(made: DsecFolder) -> None:
    import h5py

    with h5py.File(made.h5.with_name("rectify_map.h5"), "w") as file:
        file["rectify_map"] = made.map[:240]


def few_labels(made: DsecFolder) -> None:
    for i in range(6, LABELS):
        (made.data / f"{i:06}.png").unlink()
    made.write_times(made.t_us[:6])


def back_at_eight(made: DsecFolder) -> None:
    made.t_us[7] = made.t_us[6]
    made.write_times(made.t_us)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda made: made.h5.unlink(), ("zurich_city_00_a: no events.h5 in events/left/",)),
        (lambda made: made.h5.with_name("rectify_map.h5").unlink(), ("rectify_map.h5: there is no such file",)),
        (other_map, ("rectify_map.h5: its rectify_map is float32 in (240, 640, 2)", "(480, 640, 2)")),
        (lambda made: made.times.unlink(), ("no times of the labels (*timestamps.txt)", "11classes/data")),
        (lambda made: made.times.write_text("5\n1.5e3\n"), ("timestamps.txt: time 2 is '1.5e3'", "microseconds")),
        (back_at_eight, ("timestamps.txt: time 8 is", "times go back")),
        (drop_last, ("timestamps.txt: 13 times, and", "has 12 images", "unpack")),
        (few_labels, ("11classes/data: 6 images, and the first 6 are not used",)),
        (halved, ("events.h5: HDF5 that cannot be opened", "truncated", "copy it again")),
        (lambda made: made.h5.write_bytes(b""), ("events.h5: HDF5 that cannot be opened",)),
        (lambda made: made.change("events/p", None), ("HDF5 without events/p", "this file has events, ms_to_idx")),
        (lambda made: made.change("events/x", np.zeros(9)), ("events/x is float64 in (9,)", "whole numbers")),
        (lambda made: made.change("events/x", np.zeros(9, np.uint16)), ("columns have 9 to 60000 events",)),
        (lambda made: made.change("events/x", "text"), ("events/x is no array of numbers",)),
        (lambda made: made.change("ms_to_idx", np.array([0, 5, 3])), ("its ms_to_idx goes back",)),
        (lambda made: made.change("ms_to_idx", np.array([0, 60_001])), ("ms_to_idx names event 60001 of 60000",)),
        (lambda made: made.change("ms_to_idx", np.zeros((2, 2))), ("ms_to_idx is float64 in (2, 2)",)),
        (lambda made: made.change("t_offset", 1.5), ("t_offset is no number of microseconds",)),
        (lambda made: made.change("t_offset", 1 << 62), ("t_offset is no number of microseconds",)),
    ],
)  # fmt: skip
def test_damaged_sequences_of_dsec_are_named(
    change: Callable[[DsecFolder], object], words: tuple[str, ...], city: DsecFolder
) -> None:
    change(city)
    refused(lambda: Dsec(city.folder), str(city.folder), *words)


def test_sequences_without_labels_are_named(city: DsecFolder) -> None:
    for path in city.data.iterdir():
        path.unlink()
    refused(lambda: Dsec(city.folder), f"{city.folder}: no images of classes (*.png) in 11classes,", "unpack")


def test_damaged_events_of_dsec_are_named(city: DsecFolder) -> None:
    t_us = city.events.t_ns // 1000 - OFFSET_US
    wrong = t_us.copy()
    wrong[1000] = wrong[999] - 1
    city.change("events/t", wrong)
    recording = Dsec(city.folder)
    refused(lambda: recording.events(500, 2000), f"{city.h5}: event 1000 is at", "times go back; copy")
    recording.close()
    city.change("events/t", t_us)
    city.change("events/y", np.full(60_000, -1, np.int16))
    recording = Dsec(city.folder)
    refused(lambda: recording.events(5, 6), f"{city.h5}: event 5 is at", "row 65535: the sensor has 640 x 480")
    recording.close()
    city.change("ms_to_idx", np.searchsorted(t_us, np.arange(int(t_us[-1]) // 1000) * 900))
    recording = Dsec(city.folder)
    refused(lambda: recording.events_before(int(city.events.t_ns[50_000])), f"{city.h5}: its ms_to_idx or its times")


def test_packed_events_that_are_damaged_are_named(tmp_path: Path) -> None:
    made = DsecFolder(tmp_path / "zurich_city_00_a", chunks=(5000,), compression="gzip", fletcher32=True)
    spoil(made.h5, "y", 2)
    recording = Dsec(made.folder)
    assert len(recording.events(0, 9999)) == 9999
    refused(lambda: recording.events(9000, 12_000), f"{made.h5}: HDF5 whose /events/y is damaged at 9000 to 12000")


def spoil(path: Path, column: str, chunk: int) -> None:
    """Change bytes in a packed part of a column."""
    import h5py

    with h5py.File(path) as file:
        place = file[f"events/{column}"].id.get_chunk_info(chunk)
    data = bytearray(path.read_bytes())
    for i in range(place.byte_offset, place.byte_offset + place.size):
        data[i] ^= 0x55
    path.write_bytes(data)


def test_dsec_is_split_by_the_names_of_its_sequences(tmp_path: Path) -> None:
    refused(lambda: dsec.splits(tmp_path / "none"), "there is no such folder", kind=NotFound)
    refused(lambda: Dsec(tmp_path / "none"), "there is no such folder", kind=NotFound)
    refused(lambda: Dsec(tmp_path), "no events.h5")
    for number in (0, 1, 2, 4, 5, 6, 7, 8):
        (tmp_path / "train" / f"zurich_city_{number:02}_a").mkdir(parents=True)
    for name in ("13_a", "15_a"):
        (tmp_path / f"zurich_city_{name}").mkdir()
    refused(lambda: dsec.splits(tmp_path), f"{tmp_path}: without zurich_city_14_c of DSEC-Semantic")
    (tmp_path / "test" / "zurich_city_14_c").mkdir(parents=True)
    found = dsec.splits(tmp_path)
    assert list(found) == ["train", "valid"] and [len(paths) for paths in found.values()] == [8, 3]
    assert [path.name for path in found["valid"]] == ["zurich_city_13_a", "zurich_city_14_c", "zurich_city_15_a"]
    assert found["train"][0] == tmp_path / "train" / "zurich_city_00_a"


# --- events.h5 as a file of events ------------------------------------------------------------------------------------


def whole(path: Path) -> tuple[Block, Any]:
    reader = recognise.reader_of(path)
    assert reader is not None
    return joined(list(reader.blocks())), reader


def same(a: Block, b: Block) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(a, b, strict=True))


def test_hdf5_is_read_as_it_was_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = columns(60_000, 640, 480, 10_000, OFFSET_US * 1000)
    path = tmp_path / "recording"  # no suffix: only what it holds tells
    for options in ({}, {"chunks": (777,)}, {"compression": "gzip"}, {"chunks": (5000,), **packed()}):
        write_events(path, events, **options)
        for size in (1 << 17, 999):
            monkeypatch.setattr(dsec_hdf5, "_CHUNK", size)
            block, reader = whole(path)
            assert same(block, events) and not reader.lost and reader.consumed == path.stat().st_size
            assert block.x.dtype == block.y.dtype == np.uint16 and block.polarity.dtype == np.uint8
        assert reader.name == "DSEC HDF5" and reader.about == {"t_offset": f"{OFFSET_US} us"}
        assert same(reader.tail(), events.part(slice(-1000, None)))


def test_hdf5_without_a_table_and_of_other_types_is_read(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file["events/x"], file["events/y"] = np.array([3, -2, 9], np.int64), np.array([4, 5, 70_000], np.uint32)
        file["events/t"], file["events/p"] = np.array([5, 6, 1 << 63], np.uint64), np.array([1, -1, 0], np.int8)
    block, reader = whole(path)
    assert block.x.tolist() == [3, 0xFFFF, 9] and block.y.tolist() == [4, 5, 0xFFFF]
    assert block.polarity.tolist() == [1, 0, 0] and block.t_ns[:2].tolist() == [5000, 6000] and not reader.about
    with h5py.File(path, "r+") as file:
        del file["events/p"]
        file["events/p"] = np.array([True, False])
    block, reader = whole(path)
    assert block.polarity.tolist() == [1, 0] and reader.lost == {"events that are not in every column": 1}


def test_damage_in_hdf5_takes_only_what_is_around_it(tmp_path: Path) -> None:
    events, path = columns(200_000, 640, 480, 10_000, OFFSET_US * 1000), tmp_path / "events.h5"
    write_events(path, events, chunks=(10_000,), compression="gzip", fletcher32=True)
    spoil(path, "x", 3)
    block, reader = whole(path)
    lost = 200_000 - block.t_ns.size
    assert 10_000 <= lost < 20_000 and reader.lost == {"events in damaged parts": lost} and reader.lost_events == lost
    with open_log(path) as log:
        packets = [message for _, _, message in log.messages() if isinstance(message, Events)]
        assert log.problems == {"/events": f"{lost} events in damaged parts"}
        assert sum(packet.lost_before for packet in packets) == lost
    spoil(path, "t", 19)
    assert whole(path)[1].tail() is None


def test_a_log_and_a_camera_of_hdf5(tmp_path: Path) -> None:
    events, path = columns(60_000, 640, 480, 10_000, OFFSET_US * 1000), tmp_path / "events.h5"
    write_events(path, events, **packed())
    with open_log(path) as log:
        assert log.metadata["format"] == "DSEC HDF5" and log.metadata["sensor"].startswith("640 x 480 px (by its")
        assert log.start_ns == events.t_ns[0] and not log.problems
    camera, clock, count = EventFile(address=path, width=640, height=480), VirtualClock(), 0
    camera.open(clock)
    try:
        while True:
            clock.advance(camera.due_ns())
            packet = camera.read(0.1)
            assert (packet.width, packet.height) == (640, 480)
            count += packet.t_ns.size
    except EndOfStream:
        camera.close()
    assert count == 60_000


def test_other_hdf5_is_named(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="an extra")
    path = tmp_path / "other.h5"
    with h5py.File(path, "w") as file:
        file["CD/events"] = np.zeros(3)
    refused(lambda: open_log(path), f"{path}: HDF5 without events/x", "this file has CD", "metavision_file_to_csv")
    with h5py.File(path, "w") as file:
        file["events"] = np.zeros(3)
    refused(lambda: open_log(path), f"{path}: HDF5", "events/x")
    with h5py.File(path, "w") as file:
        for name in "xytp":
            file.create_dataset(f"events/{name}", (1 << 40,), np.uint16, chunks=(1 << 16,))
    refused(lambda: open_log(path), f"claims {1 << 40} values and holds fewer")


@pytest.mark.parametrize("seed", range(30))
def test_damaged_hdf5_gives_what_it_can_and_typed_errors(seed: int, tmp_path: Path) -> None:
    random, path = np.random.default_rng(seed), tmp_path / "a.h5"
    write_events(path, columns(2000, 640, 480, 10_000, OFFSET_US * 1000), chunks=(500,), compression="gzip")
    data = np.frombuffer(path.read_bytes(), np.uint8).copy()
    places = random.integers(8, data.size, int(random.integers(1, 60)))
    data[places] ^= random.integers(1, 256, places.size).astype(np.uint8)
    path.write_bytes(data.tobytes())
    try:
        with open_log(path) as log:
            for _, _, message in log.messages():
                assert isinstance(message, Events) and (np.diff(message.t_ns) >= 0).all()
    except FoveateError as error:
        assert "\n" not in str(error) and str(path) in str(error)


@pytest.mark.parametrize("package", ["h5py", "hdf5plugin"])
def test_what_is_not_installed_is_named(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    h5py = pytest.importorskip("h5py", reason="an extra")
    path = tmp_path / "events.h5"
    write_events(path, columns(2000, 640, 480, 10_000, OFFSET_US * 1000), **packed())
    there = catalog.import_module

    def gone(name: str) -> Any:
        if name == package:
            raise ImportError(name)
        return there(name)

    monkeypatch.setattr(catalog, "import_module", gone)
    monkeypatch.setattr(h5py.h5z, "filter_avail", lambda number: number < 256)
    text = f"{path}: cannot import {package}: pip install 'foveate[hdf5]'"
    refused(lambda: open_log(path), text, kind=BackendMissing)


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, foveate_nodes.segmentation.ddd17, foveate_nodes.segmentation.dsec\n"
        "import foveate_nodes.segmentation.nmnist, foveate_logbook.formats.events.recognise\n"
        "print([name for name in ('h5py', 'hdf5plugin', 'cv2', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# --- N-MNIST ----------------------------------------------------------------------------------------------------------


def packed_rows(t_us: NDArray[Any], x: NDArray[Any], y: NDArray[Any], p: NDArray[Any]) -> bytes:
    rows = np.stack([x, y, p << 7 | t_us >> 16, t_us >> 8 & 0xFF, t_us & 0xFF], axis=1)
    return rows.astype(np.uint8).tobytes()


def digits(folder: Path, count: int = 3) -> list[Block]:
    made = [columns(500, 34, 34, 100_000, 8_000_000, seed=i) for i in range(count)]
    for i, events in enumerate(made):
        data = packed_rows(*(part.astype(np.int64) for part in (events.t_ns // 1000, *events[1:])))
        (folder / f"{i + 9}.bs2").write_bytes(data)  # 9, 10, 11: their order is not that of their names
    lines = "".join(f"{i + 9}\t{i * 4}\n" for i in range(count))
    (folder / "train1K.txt").write_text(f"#sample #class\n{lines}500\t1\n")
    return made


def test_nmnist_is_read_as_it_was_written(tmp_path: Path) -> None:
    made = digits(tmp_path)
    found = nmnist.recordings(tmp_path)
    assert [digit for _, digit in found] == [0, 4, 8]
    for (part, _), events in zip(found, made, strict=True):
        assert isinstance(part, Slice) and len(part) == 500
        assert same(Block(part.t_ns, part.x, part.y, part.polarity), events)
        assert (part.t_ns.dtype, part.x.dtype, part.polarity.dtype) == (np.int64, np.uint16, np.uint8)


def test_overflows_of_nmnist_move_what_follows(tmp_path: Path) -> None:
    t, y = np.array([5, 8190, 0, 7, 0, 0, 3]), np.array([1, 2, 240, 3, 240, 240, 4])
    path = tmp_path / "1.bs2"
    path.write_bytes(packed_rows(t, np.arange(7), y, np.ones(7, np.int64)))
    part = nmnist.recording(path)
    assert (part.t_ns // 1000).tolist() == [5, 8190, 8192 + 7, 3 * 8192 + 3]
    assert part.x.tolist() == [0, 1, 3, 6] and part.y.tolist() == [1, 2, 3, 4]


def test_damaged_nmnist_is_named(tmp_path: Path) -> None:
    refused(lambda: nmnist.recordings(tmp_path / "none"), "there is no such folder", kind=NotFound)
    refused(lambda: nmnist.recordings(tmp_path), f"{tmp_path}: no recordings of N-MNIST (*.bs2)")
    digits(tmp_path)
    path, listed = tmp_path / "10.bs2", tmp_path / "train1K.txt"
    sound, lines = path.read_bytes(), listed.read_text()
    one, two = np.array([40]), np.array([9, 8])
    for content, words in (
        (sound[:-2], "10.bs2: 2498 bytes, and an event has 5"), (b"", "10.bs2: holds no events"),
        (packed_rows(two, two, two, two % 2), "10.bs2: event 1 is at 8 us, the one before at 9 us: times go back"),
        (packed_rows(one, one, one, one % 2), "event 0 is at column 40, row 40: the sensor has 34 x 34"),
    ):  # fmt: skip
        path.write_bytes(content)
        refused(lambda: nmnist.recordings(tmp_path), words)
    path.write_bytes(sound)
    for text, words in (
        ("9 0\n11 1\n", "10.bs2: no list in"), (lines + "9 10\n", "train1K.txt:6: '9 10' is not the number"),
        (lines + "9 5\n", "train1K.txt:6: recording 9 is a 5 here and a 0 above"), (lines + "x\n", ":6: 'x' is not"),
    ):  # fmt: skip
        listed.write_text(text)
        refused(lambda: nmnist.recordings(tmp_path), words)
    listed.write_text(lines)
    path.rename(tmp_path / "a.bs2")
    refused(lambda: nmnist.recordings(tmp_path), "a.bs2: its name is not the number of a recording")


@pytest.mark.data
def test_real_digits_are_read(shared_data: Path) -> None:
    found = nmnist.recordings(shared_data / "events" / "nmnist_small" / "NMNISTsmall")
    assert len(found) == 199 and {digit for _, digit in found} == set(range(10))
    for part, _ in found:
        assert 500 < len(part) < 15_000 and (np.diff(part.t_ns) >= 0).all() and part.t_ns[-1] < 400 * MS
        assert part.x.max() < 34 and part.y.max() < 34 and 0.2 < part.polarity.mean() < 0.8
    assert len(found[0][0]) == 4681 and found[0][0].t_ns[0] == 893_000 and found[0][1] == 5
