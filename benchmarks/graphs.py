"""Compressed networks where they serve: the search's detector, odometry's edge network, the spiking segmenter.

    python benchmarks/graphs.py --work DIR                makes the forms, runs their graphs (an hour on two busy cores)
    python benchmarks/graphs.py --work DIR --only edges   one network: detector, edges or segmenter
    python benchmarks/graphs.py --work DIR --tables       what was reached

Each network is taken as floating point (the levels of the shipped file, no longer rounded), in integers as it is
shipped, in integers anew by `foveate compress` and with codebooks, both calibrated on a recording of its own graph
(the segmenter, whose membranes are inputs too, on what its node fed to it there; its codebooks are of weights alone).
Every form then runs in the graph in simulated time, over the same three worlds, none of which it was trained or
calibrated on; odometry on two recordings too, where the data folder lies beside the checkout.

Seconds are those of the processor, of one thread: the node, opened with that file, steps over the recorded inputs of a
graph, forms in turns, medians; those of `network` are of its run alone. What is done is kept in DIR.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice, product
from pathlib import Path
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", NUMBA_NUM_THREADS="1")

import cv2
import numpy as np
import onnx
import onnxruntime
from edges import HELD_OUT, judged
from numpy.typing import NDArray

from foveate import cli
from foveate.checking import load_graph
from foveate.commands.run import execute
from foveate.graph import Graph
from foveate.messages import Boxes, CameraInfo, DepthFrame, Events, Frame, Message, Objects
from foveate.node import Node
from foveate.paths import launch_folder
from foveate.recording import Recording
from foveate.run import Run
from foveate_compression.network import Network
from foveate_drivers.backends.loading import load
from foveate_nodes.detection import scoring
from foveate_nodes.detection.detect import Detect
from foveate_nodes.detection.steered_view import SteeredView
from foveate_nodes.odometry.network_edges import NetworkEdges
from foveate_nodes.odometry.odometry import Odometry
from foveate_nodes.odometry.training_views import edge_views
from foveate_nodes.odometry.trajectory_error import How, evaluated
from foveate_nodes.odometry.trajectory_files import read_trajectory
from foveate_nodes.segmentation.classes import seen_as
from foveate_nodes.segmentation.messages import LabelImage
from foveate_nodes.segmentation.scores import Confusion
from foveate_nodes.segmentation.segment_events import SegmentEvents
from foveate_nodes.segmentation.slice_events import SliceEvents

_DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "rgbd"
_ROOM, _STREET = (f"rig={launch_folder() / 'rigs' / name}.yaml" for name in ("sim_room", "sim_street"))
_LOGS = {"7scenes_redkitchen": (), "tum_fr1_rpy": ("rig.camera.camera=517.3 516.5 318.6 255.3",)}
_FEEDS, _STEPS, _SECONDS = 32, 60, 3.0  # samples of what has a state; steps that are timed; of a simulated run


@dataclass(frozen=True, slots=True)
class Case:
    """A network and the graph it serves in."""

    graph: str
    network: str  # of launch/models
    node: Callable[..., Node]
    model: str  # the setting that names its file
    calibration: tuple[str, ...]  # settings of the run that is calibrated on
    scenes: dict[str, tuple[str, ...]]  # and of those that quality is told from
    streams: tuple[str, str]  # what is given there, and the truth
    recipes: dict[str, str]  # by form: one that is shipped, or steps
    stream: str = ""  # of frames to calibrate on; "": what the node feeds to it


_HEADS = "{{method: plain, keep: ['/head*']}}"  # left in floating point, as in the shipped files
_CODES = "{{method: mvq, size: 4, codewords: {}, keep: 0, tune: {}, skip: [{}]}}, {{method: recalibrate}}"
CASES = {
    "detector": Case(
        "wide_area", "vehicles_people", Detect, "detector", ("rig.world.seed=101",),
        {f"town {seed}": (f"rig.world.seed={seed}",) for seed in (1, 2, 3)}, ("track.objects", "truth.objects"),
        {"int8 anew": "int8", "codebook": f"{_CODES}, {_HEADS}".format(256, 80, "'/neck*', '/stem*'")}, "search.frame",
    ),
    "edges": Case(
        "odometry", "edges", partial(Odometry, edges="network"), "odometry.model",
        (_ROOM, "edges=network", "rig.world.sequence=orbit"),
        {name: (_ROOM, "edges=network", f"rig.world.sequence={name}") for name in ("desk", "low_texture", "corridor")}
        | {log: ("edges=network", f"camera=log:{_DATA / log}", *said) for log, said in _LOGS.items()
           if (_DATA / log).exists()},
        ("odometry.pose", "truth.pose"),
        {"int8 anew": "int8", "codebook": f"{_CODES}, {_HEADS}".format(256, 40, "")}, "camera.frame",
    ),
    "segmenter": Case(
        "event_segmentation", "street_events", SegmentEvents, "model", (_STREET, "rig.world.seed=1000301"),
        {f"street {seed}": (_STREET, f"rig.world.seed={1_000_000 + seed}") for seed in (401, 402, 403)},
        ("segment.labels", "truth.labels"), {"int8 anew": "int8", "codebook": _CODES.format(64, 0, "")},
    ),
}  # fmt: skip


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What a file has, or what is made and written there."""
    if not path.exists():
        made = make()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(made))
    return json.loads(path.read_text())


def graph_of(case: Case, settings: tuple[str, ...], model: Path) -> Graph:
    """The checked graph with a form of its network."""
    file = launch_folder() / "graphs" / f"{case.graph}.yaml"
    return load_graph(file, [*settings, f"{case.model}={model}"], [model.parent])


def recorded(case: Case, settings: tuple[str, ...], model: Path, log: Path, only: tuple[str, ...] = ()) -> Path:
    """A recording of the graph, as `foveate run --executor virtual` makes it; of some of its streams."""
    if not log.exists():
        begun = log.with_suffix(".begun.mcap")
        begun.unlink(missing_ok=True)
        graph = graph_of(case, settings, model)
        if only and graph.record is not None:
            streams = tuple(each for each in graph.record.streams if f"{each[0]}.{each[1]}" in only)
            graph = replace(graph, record=replace(graph.record, streams=streams))
        time_ns = None if any("=log:" in each for each in settings) else round(_SECONDS * 1e9)
        result = execute(graph, "virtual", time_ns, begun, threading.Event(), False)
        if result.failure is not None:
            raise result.failure
        begun.rename(log)
    return log


def forms(name: str, folder: Path) -> dict[str, Path]:
    """The files of a network; those that are not there are made."""
    case = CASES[name]
    shipped = launch_folder() / "models" / f"{case.network}.onnx"
    paths = {"float": folder / "float.onnx", "int8 as shipped": shipped}
    folder.mkdir(parents=True, exist_ok=True)
    if not paths["float"].exists():
        as_float(shipped, paths["float"])
    log = recorded(case, case.calibration, shipped, folder / "calibration.mcap")
    source = f"{log}#{case.stream}" if case.stream else str(feeds(paths["float"], log, folder / "feeds.npz"))
    for form, recipe in case.recipes.items():
        paths[form] = folder / f"{form.replace(' ', '_').replace(',', '')}.onnx"
        if "{" in recipe:
            steps, recipe = recipe, str(paths[form].with_suffix(".yaml"))
            Path(recipe).write_text(f"calibration: {{count: 32}}\nsteps: [{steps}]\n")
        if not paths[form].exists():
            said = ["--recipe", recipe, "--from", source, "--output", str(paths[form]), "--threads", "1"]
            if code := cli.main(["compress", str(shipped), *said]):
                raise SystemExit(f"{name}, {form}: foveate compress ended with {code}")
    return paths


def as_float(shipped: Path, path: Path) -> None:
    """The network whose levels a shipped file holds, with a manifest and a golden pair like its own."""
    fresh = path.with_suffix(".fresh.onnx")
    onnx.save(Network.load(shipped).model, str(fresh))
    session = onnxruntime.InferenceSession(str(fresh), providers=["CPUExecutionProvider"])
    with np.load(shipped.with_suffix(".golden.npz")) as pair:
        image = pair["image"]
    first, *others = session.get_inputs()
    rest = {item.name: np.zeros(item.shape, np.float32) for item in others}
    output = session.run(None, {first.name: image.astype(np.float32), **rest})[0]
    np.savez_compressed(path.with_suffix(".golden.npz"), image=image, output=output)
    said = json.loads(shipped.with_suffix(".json").read_text())
    said["sha256"] = hashlib.sha256(fresh.read_bytes()).hexdigest()
    path.with_suffix(".json").write_text(json.dumps(said, indent=2))
    fresh.rename(path)


def feeds(model: Path, log: Path, path: Path) -> Path:
    """What the segmenter's node gives to its network over a recording, spread evenly; the first from rest."""
    if not path.exists():
        node, given = opened("segmenter", model), []
        run = node._backend.run

        def tapped(feed: dict[str, NDArray[Any]]) -> Any:
            given.append({name: value.copy() for name, value in feed.items()})
            return run(feed)

        node._backend.run = tapped
        for (slices,) in inputs("segmenter", log):
            node.step(slices)
        chosen = [given[i] for i in np.linspace(0, len(given) - 1, _FEEDS).astype(int)]
        arrays: dict[str, Any] = {name: np.concatenate([each[name] for each in chosen]) for name in chosen[0]}
        np.savez(path, **arrays)
    return path


def messages(log: Path, stream: str, kind: type[Message]) -> Iterator[Any]:
    """Of one stream."""
    with Recording(log) as found:
        yield from (message for _, message in found.messages(stream, kind))


def inputs(name: str, log: Path) -> Iterator[tuple[Any, ...]]:
    """What the node takes in each step, as it was recorded."""
    if name == "detector":
        yield from ((frame,) for frame in messages(log, "search.frame", Frame))
    elif name == "edges":
        streams = (("camera.frame", Frame), ("camera.depth", DepthFrame), ("camera.info", CameraInfo))
        yield from zip(*(messages(log, stream, kind) for stream, kind in streams), strict=False)
    else:
        cut = SliceEvents()
        yield from ((slices,) for each in messages(log, "camera.events", Events) if (slices := cut.step(each)))


def opened(name: str, model: Path) -> Any:
    """The node with a form of its network."""
    made = CASES[name].node(model=model)
    made.open()
    return made


def reached(name: str, scene: str, model: Path) -> dict[str, float]:
    """How good a form is in its graph, in one world."""
    case = CASES[name]
    with tempfile.TemporaryDirectory() as place:
        log = recorded(case, case.scenes[scene], model, Path(place) / "run.mcap", case.streams)
        if name == "edges":
            return followed(log, str(_DATA / scene) if scene in _LOGS else "")
        kind = Objects if name == "detector" else LabelImage
        found, truth = (list(messages(log, stream, kind)) for stream in case.streams)
    return searched(found, truth) if name == "detector" else segmented(found, truth)


def searched(found: list[Objects], truth: list[Objects]) -> dict[str, float]:
    """As the search's report has it; 90 % that were never found count with the whole time."""
    score = scoring.score(found, truth)
    return {"found": score.recall, "precision": score.precision, "error_mrad": score.error_mrad(),
            "seconds to 90 %": _SECONDS if (t90 := score.time_to(0.9)) is None else t90}  # fmt: skip


def followed(log: Path, truth: str) -> dict[str, float]:
    """As `foveate evaluate trajectory` has it; `truth`: of a dataset, "": that of the run."""
    given = read_trajectory(f"{log}:odometry.pose", of_run=not truth)
    error = evaluated(given, read_trajectory(truth or f"{log}:truth.pose", of_run=not truth), How())
    with Recording(log) as found:
        frames = found.end["nodes"]["odometry"]["steps"]
    drift = float("nan") if error.drift_percent is None else error.drift_percent
    return {"ATE_mm": 1e3 * error.ate_m.rmse, "largest_mm": 1e3 * error.ate_m.max, "drift_percent": drift,
            "with a pose": len(given) / frames}  # fmt: skip


def segmented(found: list[LabelImage], truth: list[LabelImage]) -> dict[str, float]:
    """Label images against the truth of their moments."""
    confusion = Confusion(len(found[0].names))
    table: Any = seen_as(truth[0].names, found[0].names)
    by_time = {each.stamp.t_ns: each for each in truth}
    for each in found:
        if each.stamp.t_ns in by_time:
            confusion.add(table[by_time[each.stamp.t_ns].label], each.label)
    return {"mIoU": confusion.miou, "pixels right": confusion.accuracy}


def looks(model: Path, graph: Graph, log: Path, every: int = 3) -> dict[str, float]:
    """Boxes in the recorded looks against the objects that were in view, whole."""
    devices = Run(graph, "virtual").devices
    view = SteeredView(devices["search"], devices["mirror"], 150.0)  # type: ignore[arg-type]
    truths = list(messages(log, "truth.objects", Objects))
    times = np.array([each.stamp.t_ns for each in truths])
    node = opened("detector", model)
    there = hit = boxes = right = 0
    for (frame,) in islice(inputs("detector", log), 0, None, every):
        if frame.mirror is None or frame.mirror.moved:
            continue
        truth = truths[int(np.abs(times - frame.stamp.t_ns).argmin())]
        said = directed(node.step(frame), view)
        off = np.abs(truth.direction_rad - view.center(frame.mirror.angle_rad)) + truth.extent_rad / 2
        whole = (off < view.half_field_rad).all(axis=1)
        pairs = scoring.match(said, truth)
        there, boxes, right = there + int(whole.sum()), boxes + len(said.id), right + len(pairs)
        hit += sum(bool(whole[j]) for _, j in pairs)
    return {"looks: recall": hit / max(there, 1), "looks: precision": right / max(boxes, 1)}


def directed(said: Boxes, view: SteeredView) -> Objects:
    """Boxes as objects at the directions of their centres."""
    box, count = said.box_px.astype(np.float64), len(said.score)
    place = view.directions((box[:, :2] + box[:, 2:]) / 2, said.mirror.angle_rad).reshape(-1, 2)  # type: ignore[union-attr]
    none, one = np.zeros((count, 2)), np.ones(count, np.int32)
    return Objects(said.stamp, np.arange(count), said.label, place, none, none, one.astype(float), one, said.names)


def alone(name: str, paths: dict[str, Path], log: Path) -> dict[str, dict[str, float]]:
    """What the network finds in single images that all forms are given alike; nothing for the segmenter."""
    if name == "detector":
        graph = graph_of(CASES[name], next(iter(CASES[name].scenes.values())), paths["float"])
        return {form: looks(path, graph, log) for form, path in paths.items()}
    if name == "edges":
        views = edge_views(3, 4, HELD_OUT, 320, 240)
        return {form: {"rooms: edges' F": judged(NetworkEdges(path), views)[0]} for form, path in paths.items()}
    return {form: {} for form in paths}


def cpu(name: str, paths: dict[str, Path], log: Path) -> dict[str, dict[str, float]]:
    """Milliseconds of the processor that a step takes, and the network's run of it; forms in turns."""
    made = {form: (opened(name, path), load(path).backend) for form, path in paths.items()}
    with np.load(paths["int8 as shipped"].with_suffix(".golden.npz")) as pair:
        golden = pair["image"].astype(np.float32)
    took: dict[str, dict[str, list[float]]] = {form: {"node": [], "network": []} for form in paths}
    for given in islice(inputs(name, log), _STEPS):
        image = golden if name == "segmenter" else np.atleast_3d(given[0].image)[None, None, :, :, 0].astype(np.float32)
        for form, (node, backend) in made.items():
            first, *others = backend.inputs
            feed = {item.name: np.zeros([side or 1 for side in item.shape], np.float32) for item in others}
            feed[first.name] = image
            begin = time.thread_time()
            node.step(*given)
            between = time.thread_time()
            backend.run(feed)
            took[form]["node"].append(1e3 * (between - begin))
            took[form]["network"].append(1e3 * (time.thread_time() - between))
    return {form: {what: statistics.median(each) for what, each in those.items()} for form, those in took.items()}


def held_mb(model: str) -> float:
    """The most memory held by a process that loads a model and runs its golden pair; "": by one that does not."""
    code = (
        "import sys, pathlib; from foveate_drivers.backends.loading import load\n"
        "if sys.argv[1]: load(pathlib.Path(sys.argv[1])).prove()\n"
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')))"
    )
    said = subprocess.run([sys.executable, "-c", code, model], capture_output=True, text=True, check=True)
    return float(said.stdout) / 1e3


def done(name: str, folder: Path) -> None:
    """Everything of one network that is not kept yet."""
    cv2.setNumThreads(1)
    case, paths = CASES[name], forms(name, folder)
    for scene, (form, path) in product(case.scenes, paths.items()):
        found = kept(folder / "reached" / f"{form} {scene}.json", partial(reached, name, scene, path))
        print(f"{name}, {scene}, {form}: {found}", flush=True)
    log = recorded(case, next(iter(case.scenes.values())), paths["float"], folder / "steps.mcap")
    kept(folder / "alone.json", lambda: alone(name, paths, log))
    kept(folder / "cpu.json", lambda: cpu(name, paths, log))
    kept(folder / "held.json", lambda: {form: held_mb(str(path)) - held_mb("") for form, path in paths.items()})
    kept(folder / "bytes.json", lambda: {form: path.stat().st_size for form, path in paths.items()})


def table(name: str, folder: Path) -> None:
    """Print what is kept of one network."""
    case, names = CASES[name], ["float", "int8 as shipped", *CASES[name].recipes]

    def shown(what: str, value: float) -> str:  # shares in per cent; all else has its unit in its name
        return f"{value:.2f}" if "_" in what or "seconds" in what else f"{value:.1%}"

    read = {what: json.loads((folder / f"{what}.json").read_text()) for what in ("alone", "cpu", "held", "bytes")}
    took = {what: [read["cpu"][form][what] for form in names] for what in ("node", "network")}
    rows = [
        ["file, kB", *(f"{read['bytes'][form] / 1e3:.0f}" for form in names)],
        ["memory held, MB", *(f"{read['held'][form]:.1f}" for form in names)],
        ["results a second of a core", *(f"{1e3 / each:.1f}" for each in took["node"])],
        *([f"{what}: CPU ms a result (times as fast)", *(f"{each:.2f} ({those[0] / each:.2f})" for each in those)]
          for what, those in took.items()),
    ]  # fmt: skip
    rows += [[what, *(shown(what, read["alone"][form][what]) for form in names)] for what in read["alone"][names[0]]]
    found = {form: [kept(folder / "reached" / f"{form} {scene}.json", dict) for scene in case.scenes] for form in names}
    for what in found[names[0]][0]:
        values = np.array([[each[what] for each in found[form]] for form in names])
        rows += [[f"{what}, {scene}", *(shown(what, each) for each in values[:, i])]
                 for i, scene in enumerate(case.scenes)]  # fmt: skip
        rows.append([f"{what}, mean", *(shown(what, each) for each in values.mean(axis=1))])
    print(f"\n### {name}: `{case.network}` in `{case.graph}`\n")
    for row in (["", *names], ["---"] * (1 + len(names)), *rows):
        print(f"| {' | '.join(row)} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="of models, recordings, results")
    parser.add_argument("--only", choices=sorted(CASES), help="one network")
    parser.add_argument("--tables", action="store_true", help="print what was reached")
    options = parser.parse_args()
    for name in [options.only] if options.only else CASES:
        if not options.tables:
            done(name, options.work.resolve() / name)
        table(name, options.work.resolve() / name)


if __name__ == "__main__":
    main()
