"""`foveate train detector | edges | regions | sltnet`: the repository's weights, or ones tuned on labelled data."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from foveate.errors import BackendMissing

_DEFAULTS = {"detector": (3500, 90), "edges": (7000, 80), "regions": (1400, 40)}


def main(arguments: list[str]) -> int:
    """Train what the first word says."""
    if arguments[:1] == ["sltnet"]:
        from foveate_nodes.segmentation.train_command import main as sltnet

        return sltnet(arguments[1:])
    return _images(arguments)


def _images(arguments: list[str]) -> int:
    """Train, export to int8 ONNX with manifest and golden pair, and print where they are."""
    parser = argparse.ArgumentParser(
        prog="foveate train", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train a network on simulated scenes (needs the extra 'train'): those of the wide-area search on\n"
        "rendered towns, that of odometry's edges in rendered rooms.\n"
        "'foveate train sltnet --help' tells of the spiking network for event cameras.",
        epilog="examples:\n"
        "  foveate train edges --output launch/models/edges.onnx\n"
        "  foveate train detector --output launch/models/vehicles_people.onnx\n"
        "  foveate train detector --photos 'cars/DJI-00760-*.jpg' --start vehicles_people.pt \\\n"
        "      --steps 1200 --scenes 40 --output cars.onnx",
    )  # fmt: skip
    parser.add_argument("network", choices=sorted(_DEFAULTS))
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.onnx")
    parser.add_argument("--steps", type=int, help="training steps (default: what made the repository's weights)")
    parser.add_argument("--scenes", type=int, help="rendered towns or rooms to train on")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--photos", metavar="GLOB", help="labelled photographs (YOLO text beside each) to mix in")
    parser.add_argument("--start", type=Path, metavar="FILE.pt", help="weights to go on from")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args(arguments)
    if options.photos and options.network == "edges":
        parser.error("--photos: edges are learnt from rooms alone; boxes say nothing about them")
    photographs = _photographs(parser, options.photos)
    try:
        import torch
    except ImportError:
        raise BackendMissing("train", "torch", "train") from None
    from foveate_nodes.models.export import export

    torch.set_num_threads(options.threads)
    steps, scenes = _DEFAULTS[options.network]
    chosen = {"steps": options.steps or steps, "scenes": options.scenes or scenes, "seed": options.seed}
    network, calibration, manifest = _trained(options.network, chosen, photographs, options.start)
    print(file=sys.stderr)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    torch.save(network.state_dict(), options.output.with_suffix(".pt"))
    said = {**chosen, "photographs": [path.name for path in photographs], "start": str(options.start or "")}
    any_size = options.network != "detector"
    export(network, calibration, options.output, {**manifest, "training": said}, any_size=any_size)
    for suffix in (".onnx", ".json", ".golden.npz", ".pt"):
        print(options.output.with_suffix(suffix))
    return 0


def _trained(name: str, chosen: dict[str, Any], photographs: list[Path], start: Path | None) -> Any:
    """(network, images to calibrate its integer form with, what is fixed of its manifest)."""
    if name == "edges":
        from foveate_nodes.odometry import train_edges as edges

        return *edges.train_edges(**chosen, start=start, progress=_progress), edges.MANIFEST
    from foveate_nodes.detection import train

    make = train.train_detector if name == "detector" else train.train_regions
    return *make(**chosen, photographs=photographs, start=start, progress=_progress), train.manifest(name)


def _photographs(parser: argparse.ArgumentParser, pattern: str | None) -> list[Path]:
    if not pattern:
        return []
    folder = Path(pattern).parent
    found = sorted(path for path in folder.glob(Path(pattern).name) if path.with_suffix(".txt").exists())
    if not found:
        parser.error(f"no photograph with a .txt of boxes beside it matches {pattern}")
    return found


def _progress(step: int, steps: int, loss: float) -> None:
    if step % 20 == 0 or step == steps:
        filled = round(30 * step / steps)
        print(f"\r[{'#' * filled}{'-' * (30 - filled)}] {step}/{steps}  loss {loss:8.3f}", end="", file=sys.stderr)
