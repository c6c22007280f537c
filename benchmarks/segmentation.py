"""Event segmentation against a network without spikes, a plain spiking U-Net, and itself without its changes.

    python benchmarks/segmentation.py --work DIR             trains 5 networks x 3 seeds (an hour or two on two cores)
    python benchmarks/segmentation.py --work DIR --tables    what was reached, energy, and latency, measured now

On rendered streets, or with `--kind camvid` or `davis` on the photographs and films of the data folder beside the
checkout. Trainings are kept in DIR: an interrupted one goes on. Latency: onnxruntime, one thread, networks
interleaved, medians.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peers.spiking_unet import of_size

from foveate_nodes.models.counting import layers
from foveate_nodes.segmentation import liveness
from foveate_nodes.segmentation.export_sltnet import export, opened, written
from foveate_nodes.segmentation.folding import folded
from foveate_nodes.segmentation.neuron import neurons, reset
from foveate_nodes.segmentation.recipe import Data, Learning, Net, Recipe, Slices
from foveate_nodes.segmentation.released import network_of
from foveate_nodes.segmentation.states import at_rest
from foveate_nodes.segmentation.train_sltnet import clips_of, made, train

_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
_OURS = Recipe(learning=Learning(steps=300, batch=4))
_ONE = Slices(carried=False)
_AS_RELEASED = replace(_OURS.learning, decay_all=True, weight_decay=1e-4, rate=1e-3, floor=0.0, push=0.0)
VARIANTS: dict[str, Recipe] = {
    "SLTNet, ours": _OURS,
    "one step, live blocks": replace(_OURS, slices=_ONE),
    "as released": replace(
        _OURS, slices=_ONE, net=Net(neuron="tanh_window", slope=3.0, gain=1.0, readout="spikes"), learning=_AS_RELEASED
    ),
    "without spikes": replace(_OURS, slices=_ONE, net=Net(neuron="relu", gain=1.0)),
    "spiking U-Net": _OURS,
}
SEEDS = (0, 1, 2)
KINDS = {
    "street": Data(),
    "camvid": Data(kind="camvid", folder=_SHARED / "sets" / "camvid_segnet" / "CamVid"),
    "davis": Data(kind="davis", folder=_SHARED / "tracking" / "davis2016_val" / "DAVIS"),
}


def recipe_of(name: str, kind: str, seed: int = 0) -> Recipe:
    """What a network is made from."""
    recipe = VARIANTS[name]
    slices = replace(recipe.slices, duration_ms=1000 / 24) if kind == "davis" else recipe.slices  # one a frame
    learning = replace(recipe.learning, seed=seed, steps=recipe.learning.steps // (1 if kind == "street" else 3))
    return replace(recipe, data=KINDS[kind], slices=slices, learning=learning)


def one(name: str, seed: int, kind: str, work: Path) -> None:
    """Train one network and keep what it reached."""
    recipe = recipe_of(name, kind, seed)
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    folder = _folder(work, name, seed, kind)
    begin = time.monotonic()
    _, reached, _ = train(
        recipe, folder, work / "data", progress=lambda step, steps, loss: None, tell=lambda text: None,
        network=of_size if name == "spiking U-Net" else made,
    )  # fmt: skip
    (folder / "reached.json").write_text(json.dumps({**reached, "seconds": time.monotonic() - begin}))


def all_of_them(work: Path, kind: str, at_once: int) -> None:
    """Train what is not there yet, each in a process of its own."""
    waiting = [(name, seed) for seed in SEEDS for name in VARIANTS if not _reached(work, name, seed, kind)]
    running: list[subprocess.Popen[bytes]] = []
    while waiting or running:
        running = [process for process in running if process.poll() is None]
        while waiting and len(running) < at_once:
            name, seed = waiting.pop(0)
            print(f"{name}, seed {seed}", flush=True)
            given = ["--work", str(work), "--kind", kind, "--one", name, str(seed)]
            running.append(subprocess.Popen([sys.executable, __file__, *given]))
        time.sleep(1)


def _folder(work: Path, name: str, seed: int, kind: str) -> Path:
    return work / kind / f"{name.replace(' ', '_').replace(',', '')}_{seed}"


def _reached(work: Path, name: str, seed: int, kind: str) -> dict[str, Any] | None:
    path = _folder(work, name, seed, kind) / "reached.json"
    return json.loads(path.read_text()) if path.exists() else None


def _weights(work: Path, name: str, kind: str, classes: int) -> torch.nn.Module:
    recipe = recipe_of(name, kind)
    net = (of_size if name == "spiking U-Net" else made)(recipe.net, recipe.slices.bins, classes)
    path = _folder(work, name, 0, kind) / "checkpoint.pt"
    net.load_state_dict(torch.load(path, weights_only=True)["net"])
    return net.eval()


def tables(work: Path, kind: str, rounds: int) -> None:
    """Print what was reached."""
    print("| network | parameters | multiply-adds, M | mIoU, mean (least to most) | last slice | neurons that fire "
          "| dead blocks | energy, mJ: literature | honest | every multiply-add |")  # fmt: skip
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in VARIANTS:
        found = [reached for seed in SEEDS if (reached := _reached(work, name, seed, kind))]
        if not found:
            continue
        net = _weights(work, name, kind, len(found[0]["iou"]))
        counted = layers(net, torch.zeros(1, 5, *VARIANTS[name].net.size[::-1]))
        reset(net)
        miou = [each["miou"] for each in found]
        mean = {key: statistics.mean(each[key] for each in found) for key in
                ("miou_last_slice", "firing_rate", "literature_mj", "honest_mj", "dense_mj")}  # fmt: skip
        dense = name == "without spikes"
        energy = [mean["dense_mj"]] * 3 if dense else [mean[key] for key in ("literature_mj", "honest_mj", "dense_mj")]
        dead = "-" if dense or "U-Net" in name else "/".join(str(len(each["dead_blocks"])) for each in found)
        print(
            f"| {name} | {sum(each.parameters for each in counted):,} | "
            f"{sum(each.multiply_adds for each in counted) / 1e6:.0f} | "
            f"{statistics.mean(miou):.1%} ({min(miou):.1%} to {max(miou):.1%}), {len(found)} seeds | "
            f"{mean['miou_last_slice']:.1%} | {'-' if dense else format(mean['firing_rate'], '.1%')} | {dead} | "
            + " | ".join(f"{each:.4f}" for each in energy) + " |"
        )  # fmt: skip
    latency(work, kind, rounds)


def latency(work: Path, kind: str, rounds: int) -> None:
    """Milliseconds a slice on one thread, networks interleaved."""
    _, clips = clips_of(recipe_of("SLTNet, ours", kind), work / "data", lambda text: None)
    grid = clips[0].grids[:1]
    with tempfile.TemporaryDirectory() as folder:
        sessions: dict[str, tuple[Any, dict[str, Any]]] = {}
        for name in VARIANTS:
            if _reached(work, name, 0, kind):
                path = Path(folder) / f"{len(sessions)}.onnx"
                _plain(_weights(work, name, kind, len(clips.classes)), grid, path)
                sessions[name] = _ready(path, grid)
        if _reached(work, "SLTNet, ours", 0, kind):
            ours = _weights(work, "SLTNet, ours", kind, len(clips.classes))
            for integers in (False, True):
                path = Path(folder) / f"ours{integers}.onnx"
                export(ours, path, clips, {"classes": list(clips.classes)}, integers=integers)
                sessions["SLTNet, ours, int8" if integers else "SLTNet, ours, folded"] = _ready(path, grid)
        sessions |= _released(Path(folder))
        took = _interleaved(sessions, rounds)
    unit = took.get("SLTNet, ours, folded", float("nan"))
    print("\n| network | ms a slice, one thread | times as long as ours, folded |\n|---|---|---|")
    for name, value in took.items():
        print(
            f"| {name} | {value:.2f} | {value / unit:.2f} |" if "DDD17" not in name else f"| {name} | {value:.2f} | |"
        )


def _plain(net: torch.nn.Module, grid: np.ndarray, path: Path) -> None:
    reset(net)
    written(net, grid, at_rest(net, 1, *grid.shape[2:]), [f"mem.{name}" for name, _ in neurons(net)], path)


def _released(folder: Path) -> dict[str, tuple[Any, dict[str, Any]]]:
    """The released network, then without its dead blocks, then with norms folded."""
    weights = _SHARED / "models" / "sltnet" / "ddd17_state_dict.npz"
    if not weights.exists():
        return {}
    with np.load(weights) as arrays:
        net = network_of(dict(arrays), str(weights)).eval()
    with np.load(weights.with_name("ddd17_golden.npz")) as pair:
        grid = np.asarray(pair["voxel"], np.float32)[None]
    found = {}
    stripped = liveness.without_dead(net)
    for name, each in (
        ("DDD17, released", net),
        ("DDD17, without dead blocks", stripped),
        ("DDD17, folded too", folded(stripped)),
    ):
        path = folder / f"released{len(found)}.onnx"
        _plain(each, grid, path)
        found[name] = _ready(path, grid)
    return found


def _ready(path: Path, grid: np.ndarray) -> tuple[Any, dict[str, Any]]:
    session = opened(path)
    state = {item.name: np.zeros(item.shape, np.float32) for item in session.get_inputs()[1:]}
    given = {"slice": grid, **state}
    for _ in range(3):
        after = session.run(None, given)[1:]
        given = {"slice": grid, **dict(zip(state, after, strict=True))}
    return session, given


def _interleaved(sessions: dict[str, tuple[Any, dict[str, Any]]], rounds: int) -> dict[str, float]:
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _ in range(rounds):
        for name, (session, given) in sessions.items():
            begin = time.perf_counter()
            session.run(None, given)
            times[name].append(1e3 * (time.perf_counter() - begin))
    return {name: statistics.median(each) for name, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of data, checkpoints and results")
    parser.add_argument("--kind", choices=sorted(KINDS), default="street", help="recordings to learn and measure on")
    parser.add_argument("--tables", action="store_true", help="print what was reached, and measure latency")
    parser.add_argument("--rounds", type=int, default=40, help="of the latency measurement")
    parser.add_argument("--at-once", type=int, default=2, help="trainings at a time, one thread each")
    parser.add_argument("--one", nargs=2, metavar=("NAME", "SEED"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one[0], int(options.one[1]), options.kind, options.work)
    elif options.tables:
        tables(options.work, options.kind, options.rounds)
    else:
        all_of_them(options.work, options.kind, options.at_once)


if __name__ == "__main__":
    main()
