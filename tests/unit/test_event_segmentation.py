"""Segmentation of a stream of events: what the network remembers, what is refused, and the graph on all it takes."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnx", reason="models are made with onnx (extra train)")
pytest.importorskip("onnxruntime", reason="models run on onnxruntime (extra onnx)")
pytest.importorskip("numba", reason="slices are cut by loops that numba compiles (extra segmentation)")
pytest.importorskip("cv2", reason="reports have pictures (extra vision)")

import cv2
from onnx import TensorProto, helper, numpy_helper

from foveate.cli import main
from foveate.errors import RecordingError
from foveate.messages import Stamp
from foveate.recording import Recording
from foveate_drivers.world.street_layout import CLASSES as STREET
from foveate_logbook.formats.events import aedat4_write, evt3
from foveate_logbook.formats.events.base import block_of
from foveate_nodes.segmentation import segmentation_report
from foveate_nodes.segmentation.classes import SIX
from foveate_nodes.segmentation.messages import EventSlices, LabelImage, SliceEnergy
from foveate_nodes.segmentation.segment_events import SegmentEvents
from tests.unit.test_labelled_recordings import write_events

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]

GRAPH = Path(__file__).resolve().parents[2] / "launch/graphs/event_segmentation.yaml"
MS = 1_000_000
BINS, HEIGHT, WIDTH = 5, 108, 144
Change = Callable[[dict[str, Any]], None]


def tiny(
    path: Path, classes: tuple[str, ...] = SIX, size: tuple[int, int] = (WIDTH, HEIGHT), **changed: Any
) -> Path:  # fmt: skip
    """A network with one membrane: it keeps half of what it had and adds |slice|, summed over the bins; class k says
    how near the membrane is to k."""
    width, height = size
    shape = {"slice": [1, BINS, height, width], "mem.a": [1, 1, height, width],
             "logits": [1, len(classes), height, width], "next.mem.a": [1, 1, height, width]}  # fmt: skip
    shape.update(changed.get("shape", {}))
    kind = {**dict.fromkeys(shape, TensorProto.FLOAT), **changed.get("kind", {})}
    steps = np.arange(len(classes), dtype=np.float32).reshape(1, -1, 1, 1)
    constants = [("half", np.float32(0.5)), ("channel", np.array([1], np.int64)), ("steps", steps)]
    nodes = [
        helper.make_node("Abs", ["slice"], ["size"]),
        helper.make_node("ReduceSum", ["size", "channel"], ["sum"], keepdims=1),
        helper.make_node("Mul", ["mem.a", "half"], ["left"]),
        helper.make_node("Add", ["left", "sum"], ["next.mem.a"]),
        helper.make_node("Sub", ["next.mem.a", "steps"], ["apart"]),
        helper.make_node("Abs", ["apart"], ["far"]),
        helper.make_node("Neg", ["far"], ["logits"]),
    ]
    takes, gives = changed.get("takes", ["slice", "mem.a"]), changed.get("gives", ["logits", "next.mem.a"])
    graph = helper.make_graph(
        changed.get("nodes", nodes), "tiny",
        *([helper.make_tensor_value_info(name, kind[name], shape[name]) for name in names] for names in (takes, gives)),
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    image = np.random.default_rng(1).normal(size=(1, BINS, height, width)).astype(np.float32)
    output = image[:, :1]
    if not changed:
        import onnxruntime

        output = onnxruntime.InferenceSession(str(path)).run(None, {"slice": image, "mem.a": 0 * image[:, :1]})[0]
    np.savez_compressed(path.with_suffix(".golden.npz"), image=image, output=output)
    manifest(path, classes)
    return path


def manifest(path: Path, classes: tuple[str, ...] = SIX, **more: Any) -> None:
    data = {"sha256": hashlib.sha256(path.read_bytes()).hexdigest(), "classes": list(classes),
            "golden_tolerance": 1e-4, **more}  # fmt: skip
    path.with_suffix(".json").write_text(json.dumps(data))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return tiny(tmp_path / "tiny.onnx")


def stream(count: int, seed: int = 1, size: tuple[int, int] = (WIDTH, HEIGHT), most: int = 3000) -> list[EventSlices]:
    """Slices of 50 ms, one a message."""
    random, found = np.random.default_rng(seed), []
    for k in range(count):
        number = int(random.integers(0, most))
        t = np.sort(random.integers(k * 50 * MS, (k + 1) * 50 * MS, number))
        x, y = (random.integers(0, side, number).astype(np.uint16) for side in size)
        found.append(EventSlices(
            Stamp((k + 1) * 50 * MS, 50 * MS), t, x, y, random.integers(0, 2, number).astype(np.uint8),
            np.array([0, number]), np.array([k * 50 * MS]), np.array([(k + 1) * 50 * MS]), *size, 0, k == 0,
        ))  # fmt: skip
    return found


def joined(parts: list[EventSlices]) -> EventSlices:
    """Several messages as one."""
    columns = [np.concatenate([getattr(part, name) for part in parts]) for name in ("t_ns", "x", "y", "polarity")]
    bound = np.cumsum([0, *(len(part.t_ns) for part in parts)])
    times = [np.concatenate([getattr(part, name) for part in parts]) for name in ("begin_ns", "end_ns")]
    first, last = parts[0], parts[-1]
    return EventSlices(last.stamp, *columns, bound, *times, first.width, first.height, first.skipped, first.fresh)


def changed(slices: EventSlices, **values: Any) -> EventSlices:
    names = [name for name in EventSlices.__dataclass_fields__ if name not in values]
    return EventSlices(**{name: getattr(slices, name) for name in names}, **values)


def labelled(node: SegmentEvents, slices: EventSlices) -> LabelImage:
    message = node.step(slices)["labels"]
    assert isinstance(message, LabelImage)
    return message


def opened(model: Path, **parameters: Any) -> SegmentEvents:
    node = SegmentEvents(model=model, **parameters)
    node.open()
    return node


def labels(node: SegmentEvents, parts: list[EventSlices]) -> list[Any]:
    return [labelled(node, part).label for part in parts]


def same(some: list[Any], others: list[Any]) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(some, others, strict=True))


# --- what the network remembers


def test_membranes_go_on_from_slice_to_slice(model: Path) -> None:
    parts = stream(6)
    expected, kept = [], np.zeros((HEIGHT, WIDTH), np.float32)
    from foveate_nodes.segmentation.representations import voxel_grid

    for part in parts:
        grid, _ = voxel_grid(part.t_ns, part.x, part.y, part.polarity, (BINS, HEIGHT, WIDTH))
        kept = kept * np.float32(0.5) + np.abs(grid).sum(axis=0)
        expected.append(np.abs(kept[None] - np.arange(6)[:, None, None]).argmin(axis=0))
    node = opened(model)
    found = [labelled(node, part) for part in parts]
    agree = [float((image.label == wanted).mean()) for image, wanted in zip(found, expected, strict=True)]
    assert min(agree) > 0.999 and len(np.unique(found[-1].label)) > 3
    assert found[0].label.dtype == np.uint8 and found[0].names == SIX
    assert [image.events for image in found] == [len(part.t_ns) for part in parts]
    assert all(image.slices == 1 and image.stamp == part.stamp for image, part in zip(found, parts, strict=True))
    alone = labels(opened(model, carried=False), parts)
    assert same(alone[:1], [found[0].label]) and not np.array_equal(alone[3], found[3].label)


@pytest.mark.parametrize("carried", [True, False])
def test_slices_of_one_message_are_those_of_several(model: Path, carried: bool) -> None:
    parts = stream(7)
    single = labels(opened(model, carried=carried), parts)
    node = opened(model, carried=carried)
    found = [labelled(node, joined(some)) for some in (parts[:3], parts[3:4], parts[4:])]
    assert same([image.label for image in found], [single[2], single[3], single[6]])
    assert [image.slices for image in found] == [3, 1, 3] and found[2].events == len(parts[6].t_ns)


@pytest.mark.parametrize("values", [{"fresh": True}, {"skipped": 2}])
def test_after_a_jump_membranes_are_at_rest(model: Path, values: dict[str, Any]) -> None:
    parts = stream(6)
    parts[3] = changed(parts[3], **values)
    node = opened(model)
    found = [labelled(node, part) for part in parts]
    again = labels(opened(model), parts[3:])
    assert same([image.label for image in found[3:]], again) and found[3].skipped == values.get("skipped", 0)


def test_a_message_that_was_dropped_is_a_jump(model: Path) -> None:
    """Queues of a busy graph drop messages; nothing in those that come says so but their times."""
    parts = stream(6)
    with_gap = labels(opened(model), parts[:2] + parts[4:])
    assert same(with_gap[2:], labels(opened(model), parts[4:]))


@pytest.mark.parametrize("carried", [True, False])
def test_a_restarted_node_goes_on_as_if_nothing_had_been(model: Path, carried: bool) -> None:
    parts = stream(6)
    node = opened(model, carried=carried)
    whole = labels(node, parts[:3])
    state = node.state_dict()
    assert (state is None) != carried
    whole += labels(node, parts[3:])
    other = opened(model, carried=carried)
    if state is not None:
        other.load_state_dict(state)
    assert same(whole[3:], labels(other, parts[3:]))
    again = opened(model, carried=carried)
    if state is not None:
        again.load_state_dict(state)  # stepping has not changed what was kept
        assert same(whole[3:], labels(again, parts[3:]))


def test_a_silent_slice_and_one_off_the_sensor_are_slices(model: Path) -> None:
    none = np.zeros(0, np.int64)
    silent = EventSlices(
        Stamp(50 * MS), none, *(none.astype(np.uint16),) * 2, none.astype(np.uint8), np.zeros(2, np.int64),
        np.array([0]), np.array([50 * MS]), WIDTH, HEIGHT,
    )  # fmt: skip
    off = changed(silent, t_ns=np.array([5]), x=np.array([WIDTH], np.uint16), y=np.array([3], np.uint16),
                  polarity=np.array([1], np.uint8), bound=np.array([0, 1]))  # fmt: skip
    for slices in (silent, off):
        found = labelled(opened(model), slices)
        assert not found.label.any() and found.label.shape == (HEIGHT, WIDTH)


@pytest.mark.parametrize("size", [(346, 260), (640, 480), (1280, 720), (100, 200), (16, 12)])
def test_classes_lie_where_the_events_of_another_sensor_were(model: Path, size: tuple[int, int]) -> None:
    width, height = size
    x, y = width * 3 // 4, height // 4
    t = np.arange(60, dtype=np.int64)
    slices = EventSlices(
        Stamp(50 * MS), t, np.full(60, x, np.uint16), np.full(60, y, np.uint16), (t % 2).astype(np.uint8),
        np.array([0, 60]), np.array([0]), np.array([50 * MS]), *size,
    )  # fmt: skip
    label = labelled(opened(model), slices).label
    assert label.shape == (height, width) and label[y, x] > 0
    rows, columns = np.nonzero(label)
    block = max(width / WIDTH, height / HEIGHT, 1)
    assert np.ptp(rows) <= block and np.ptp(columns) <= block
    again = opened(model)
    labelled(again, slices)
    assert labelled(again, changed(slices, width=width + 1, fresh=True)).label.shape == (height, width + 1)


# --- what is refused


def problems(path: Path, **parameters: Any) -> list[tuple[str, str]]:
    given_ = {"model": path, "carried": True, "backend": "onnx", "provider": "", "threads": 1, **parameters}
    return [(problem.parameter, problem.text) for problem in SegmentEvents.check(**given_)]


def said(path: Path, *words: str, parameter: str = "model", **parameters: Any) -> None:
    ((name, text),) = problems(path, **parameters)
    assert name == parameter and "\n" not in text and len(text) < 400, text
    for word in words:
        assert word in text, text


def test_a_model_that_fits_has_no_problem(model: Path) -> None:
    assert problems(model) == []


def test_models_that_are_not_there_or_not_whole_are_named(model: Path, tmp_path: Path) -> None:
    said(tmp_path / "none.onnx", "none.onnx", "no such file", "foveate train sltnet")
    said(tmp_path, "no such file")
    said(model, "unknown backend 'onx'", "did you mean 'onnx'?", parameter="backend", backend="onx")
    said(model, "run on 'cuda'", "this onnxruntime has", parameter="provider", provider="cuda")
    beside = model.with_suffix(".json")
    text = beside.read_text()
    for spoilt in ("", "[]", "{", '{"sha256": 1}', '"x"'):
        beside.write_text(spoilt)
        said(model, "tiny.json", "read the manifest")
    beside.unlink()
    said(model, "no manifest tiny.json beside it")
    beside.write_text(text)
    model.write_bytes(model.read_bytes() + b"\0")
    said(model, "SHA-256", "re-export")
    model.write_bytes(b"no model")
    manifest(model)
    said(model, "tiny.onnx", "load")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": {"slice": ["n", BINS, "h", WIDTH]}}, ("must take 1 x bins x H x W and membranes",)),
        ({"shape": {"slice": [2, BINS, HEIGHT, WIDTH]}}, ("2 slices at a time", "for one")),
        ({"gives": ["logits"]}, ("of 2 and 1", "as many membranes")),
        ({"shape": {"mem.a": [1, 1, "h", WIDTH]}}, ("membranes have no fixed size",)),
        ({"gives": ["next.mem.a", "logits"]}, ("'mem.a' is (1, 1, 108, 144), and afterwards (1, 6, 108, 144)",)),
        ({"gives": ["next.mem.a", "next.mem.a"], "takes": ["slice", "mem.a"]}, ("manifest has 6 classes",)),
    ],
)  # fmt: skip
def test_models_of_another_layout_are_named(change: dict[str, Any], words: tuple[str, ...], tmp_path: Path) -> None:
    said(tiny(tmp_path / "tiny.onnx", **change), "segment events with it", *words)


def layout(path: Path, nodes: list[Any], takes: list[Any], gives: list[Any], opset: int = 17) -> Path:
    """A model of some operators, with a manifest."""
    one = numpy_helper.from_array(np.zeros((1, 6, 54, 72), np.float32), "small")
    graph = helper.make_graph(nodes, "other", takes, gives, [one])
    ids = [helper.make_opsetid("", opset)]
    path.write_bytes(helper.make_model(graph, opset_imports=ids, ir_version=9).SerializeToString())
    manifest(path)
    return path


def test_models_without_inputs_of_whole_numbers_or_half_size_are_named(tmp_path: Path) -> None:
    value, float_ = helper.make_tensor_value_info, TensorProto.FLOAT
    path, small = tmp_path / "other.onnx", [1, 6, 54, 72]
    made = helper.make_node("Identity", ["small"], ["logits"])
    said(layout(path, [made], [], [value("logits", float_, small)]), "of 0 and 1", "must take 1 x bins x H x W")
    takes = [value("slice", TensorProto.UINT8, [1, 6, 108, 144])]
    cast = helper.make_node("Cast", ["slice"], ["logits"], to=float_)
    said(layout(path, [cast], takes, [value("logits", float_, [1, 6, 108, 144])]), "'slice' is tensor(uint8)")
    takes = [value("slice", float_, [1, 6, 108, 144])]
    pool = helper.make_node("AveragePool", ["slice"], ["logits"], kernel_shape=[2, 2], strides=[2, 2])
    said(layout(path, [pool], takes, [value("logits", float_, small)]), "another size than its input (1, 6, 108, 144)")


def test_a_manifest_of_other_classes_is_refused(model: Path) -> None:
    manifest(model, STREET)
    said(model, "its output is (1, 6, 108, 144), and its manifest has 11 classes")


def test_a_model_that_gives_something_else_is_refused_when_it_opens(model: Path) -> None:
    golden = model.with_suffix(".golden.npz")
    with np.load(golden) as pair:
        np.savez(golden, image=pair["image"], output=pair["output"] + 1)
    with pytest.raises(Exception, match="golden output is off by 1"):
        opened(model)
    golden.unlink()
    with pytest.raises(Exception, match="no golden pair"):
        opened(model)


def test_check_says_where_in_the_graph(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(GRAPH), "--set", f"model={model}", "--rig", "sim_street"]) == 0
    capsys.readouterr()
    for setting, words in (
        (f"model={tmp_path / 'none.onnx'}", "no file"), ("by=tme", "by"), ("duration=0", "duration"),
    ):  # fmt: skip
        assert main(["check", str(GRAPH), "--rig", "sim_street", "--set", f"model={model}", "--set", setting]) == 2
        told = capsys.readouterr()
        lines = [line for line in (told.out + told.err).splitlines() if words in line]
        assert lines, told
        assert "Traceback" not in told.out + told.err


# --- the graph


def ran(out: Path, model: Path, *more: str, code: int = 0) -> None:
    assert main(["run", str(GRAPH), "--executor", "virtual", "--output", str(out), "--quiet", "--set", f"model={model}",
                 *more]) == code  # fmt: skip


def verified(out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert main(["replay", str(out / "run.mcap"), "--verify", "--output", str(out / "again")]) == 0, capsys.readouterr()


def images(out: Path, stream: str = "segment.labels") -> list[LabelImage]:
    with Recording(out / "run.mcap") as log:
        return [message for _, message in log.messages(stream, LabelImage) if isinstance(message, LabelImage)]


def at_every_border(found: list[LabelImage]) -> bool:
    return [image.stamp.t_ns for image in found] == [50 * MS * (k + 1) for k in range(len(found))]


def pictures(page: str) -> list[Any]:
    import base64

    found = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    return [cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR) for data in found]


def test_the_simulated_street_is_segmented_scored_and_replayed(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    measured = {"dense_mj": 3.0, "literature_mj": 1.0, "honest_mj": 2.0, "firing_rate": 0.1}
    manifest(model, measured=measured)
    out = tmp_path / "out"
    ran(out, model, "--rig", "sim_street", "--duration", "1s")
    told = capsys.readouterr().out
    assert "every message accounted for" in told and "segmentation: " in told and "mIoU" in told
    found, truth = images(out), images(out, "truth.labels")
    assert len(found) in (19, 20) and at_every_border(found)
    assert truth[0].names == STREET and truth[0].slices == 0 and truth[1].stamp.t_ns == found[0].stamp.t_ns
    page = (out / "report.html").read_text()
    shown = pictures(page)
    assert len(shown) == 6 * 2 + 1 and all(image is not None and image.shape[1] >= 288 for image in shown)
    for name in SIX:
        assert f"</span> {name}</td>" in page
    assert page.count("the truth</figcaption>") == 6 and "<th>IoU</th>" in page and "in the truth" in page
    assert "ms a step (as declared: the run was in simulated time)" in told and "Time, as declared" in page
    assert "Energy a slice" in page and "2.0000" in page and "http" not in page.replace("http-equiv", "")
    verified(out, capsys)
    with Recording(out / "run.mcap") as log:
        assert len(list(log.messages("segment.energy", SliceEnergy))) == 1  # said once
    manifest(model, measured={**measured, "honest_mj": 7.0})
    assert main(["report", "segmentation_report", str(out / "run.mcap"), "--output", str(out / "again.html")]) == 0
    again = (out / "again.html").read_text()
    assert "2.0000" in again and "7.0000" not in again  # of the model that ran


def test_membranes_are_carried_as_the_model_was_trained(model: Path) -> None:
    for said, wanted, carries in ((True, None, True), (False, None, False), (False, True, True), (None, None, True)):
        manifest(model, training={} if said is None else {"slices": {"carried": said}})
        node = opened(model, carried=wanted)
        assert (node.state_dict() is not None) == carries


def test_events_that_the_camera_lost_are_told(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    slow = ("--set", "rig.events.rate_limit=20000", "--set", "rig.events.queue=10")
    ran(tmp_path / "out", model, "--rig", "sim_street", "--duration", "0.3s", *slow)
    told = capsys.readouterr().out
    assert re.search(r"segmentation: the camera lost [\d,]+ events beside the [\d,]+ that it gave", told)
    assert "the camera lost" in (tmp_path / "out" / "report.html").read_text()


@pytest.mark.parametrize(("by", "more"), [("count", ("--set", "count=5000")), ("adaptive", ())])
def test_other_slices_of_the_street(
    by: str, more: tuple[str, ...], model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    ran(out, model, "--rig", "sim_street", "--duration", "300ms", "--set", f"by={by}", *more)
    found = images(out)
    assert found and "every message accounted for" in capsys.readouterr().out
    if by == "count":
        assert {image.events for image in found} == {5000}
    verified(out, capsys)


def recorded(kind: str, folder: Path) -> Path:
    """A file of 0.5 s of a sensor of 346 x 260, or DSEC's of 640 x 480."""
    width, height = (640, 480) if kind == "h5" else (346, 260)
    random, count = np.random.default_rng(3), 40_000
    offset_us = 57_000_123_456 if kind == "h5" else 0
    t = offset_us * 1000 + np.sort(random.integers(0, 500_000, count)) * 1000
    block = block_of(t, *(random.integers(0, most, count) for most in (width, height, 2)))
    path = folder / {"evt3": "a.raw", "aedat4": "a.aedat4", "h5": "events.h5"}[kind]
    if kind == "evt3":
        path.write_bytes(evt3.head(width, height) + evt3.encode(block))
    elif kind == "aedat4":
        parts = [block.part(slice(i, i + 900)) for i in range(0, count, 900)]
        path.write_bytes(aedat4_write.file(parts, width, height, "LZ4"))
    else:
        write_events(path, block)
    return path


@pytest.mark.parametrize("kind", ["evt3", "aedat4", "h5"])
def test_a_file_of_events_is_segmented_and_replayed(
    kind: str, model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, path = tmp_path / "out", recorded(kind, tmp_path)
    ran(out, model, "--set", f"events=evt:{path}")
    told = capsys.readouterr().out
    assert "every message accounted for" in told and "mIoU" not in told
    found = images(out)
    size = (480, 640) if kind == "h5" else (260, 346)
    assert len(found) in (9, 10) and all(image.label.shape == size for image in found)
    assert at_every_border(found)
    page = (out / "report.html").read_text()
    assert "nothing to score against: no truth was recorded" in page and "IoU</th>" not in page
    assert len(pictures(page)) == 6 + 1 and "40,000 events" in page
    verified(out, capsys)


# --- the report of recordings that lack something


def report(log: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["report", "segmentation_report", str(log), "--output", str(out)])
    told = capsys.readouterr()
    return code, told.out + told.err


def test_a_recording_without_label_images_is_one_line(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "short"
    ran(out, model, "--rig", "sim_street", "--duration", "30ms", code=1)
    told = capsys.readouterr()
    (line,) = [line for line in (told.out + told.err).splitlines() if "no report" in line]
    assert "needs label images, and there are none: the run ended before a slice did" in line
    assert "segment.labels" in line and not (out / "report.html").exists()
    code, text = report(out / "run.mcap", tmp_path / "r.html", capsys)
    assert code and "needs label images" in text and "Traceback" not in text


def test_a_truth_that_does_not_fit_is_said_to_be_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Classes of another world: a score would be of nothing."""
    model = tiny(tmp_path / "tiny.onnx", ("ship", "buoy", "sea"))
    out = tmp_path / "out"
    ran(out, model, "--rig", "sim_street", "--duration", "200ms")
    assert "note: the truth has classes that the model has not: sky" in capsys.readouterr().out
    page = (out / "report.html").read_text()
    assert "nothing to score against: the truth has classes that the model has not" in page
    assert "no truth was recorded" not in page.lower() and len(pictures(page)) >= 4
    cut = "--set", "duration=0.03"  # 30, 60, 90 ms ...: some are within 10 ms of a truth, and some are not
    ran(tmp_path / "other", tiny(tmp_path / "street.onnx", STREET), "--rig", "sim_street", "--duration", "200ms", *cut)
    page = (tmp_path / "other/report.html").read_text()
    assert "<th>IoU</th>" in page and 0 < page.count("the truth</figcaption>") < page.count("<figcaption>")


def test_several_recordings_are_on_one_page(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, more in (("a", ()), ("b", ("--set", "by=count", "--set", "count=3000"))):
        ran(tmp_path / name, model, "--rig", "sim_street", "--duration", "200ms", *more)
    logs = {"run": tmp_path / "a/run.mcap", "<b>": tmp_path / "b/run.mcap"}
    lines = segmentation_report.write(logs, tmp_path / "both.html")
    assert any(line.startswith("segmentation: ") for line in lines) and any(line.startswith("<b>: ") for line in lines)
    page = (tmp_path / "both.html").read_text()
    assert "&lt;b&gt;" in page and "<b>" not in page
    with pytest.raises(RecordingError, match="cannot write"):
        segmentation_report.write(logs, tmp_path / "none" / "both.html")
    shutil.copy(tmp_path / "a/run.mcap", tmp_path / "cut.mcap")
    data = (tmp_path / "cut.mcap").read_bytes()
    (tmp_path / "cut.mcap").write_bytes(data[: len(data) * 2 // 3])
    code, text = report(tmp_path / "cut.mcap", tmp_path / "cut.html", capsys)
    assert "Traceback" not in text and (code or (tmp_path / "cut.html").exists())
