"""`foveate train sltnet CONFIG`: a spiking network that segments events, trained, measured and exported."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from foveate.clock import process_ns
from foveate.errors import BackendMissing
from foveate_nodes.segmentation import recipe as recipes


def main(arguments: list[str]) -> int:
    """Train as a recipe says, go on where it was interrupted, measure, and export with manifest and golden pair."""
    parser = argparse.ArgumentParser(
        prog="foveate train sltnet", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Train the spiking segmentation network as a recipe says (needs the extra 'train').\n"
        "An interrupted training goes on when the same command is given again.",
        epilog="examples:\n"
        "  foveate train sltnet launch/training/street_events.yaml --output street_events.onnx\n"
        "  foveate train sltnet ddd17.yaml --output ddd17.onnx     # data: {kind: ddd17, folder: DDD17}",
    )  # fmt: skip
    parser.add_argument("recipe", type=Path, metavar="CONFIG.yaml")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.onnx")
    parser.add_argument("--work", type=Path, help="folder of the checkpoint and the log (default: FILE.training)")
    parser.add_argument("--data", type=Path, help="folder that rendered recordings are kept in (default: in --work)")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--float", action="store_true", help="export floating weights instead of integers of 7 bits")
    options = parser.parse_args(arguments)
    recipe = recipes.read(options.recipe)
    try:
        import torch
    except ImportError:
        raise BackendMissing("train sltnet", "torch", "train") from None
    from foveate_nodes.segmentation.export_sltnet import export
    from foveate_nodes.segmentation.sltnet import SltNet
    from foveate_nodes.segmentation.train_sltnet import train

    torch.set_num_threads(options.threads)
    work = options.work or options.output.with_suffix(".training")
    torch.set_flush_denormal(True)  # what is that small is nothing, and made processors 2 times slower
    try:
        net, reached, measured = train(recipe, work, options.data or work / "data", progress=_Bar(), tell=_tell)
    finally:
        torch.set_flush_denormal(False)  # it holds for all of the process
    assert isinstance(net, SltNet)
    print(file=sys.stderr)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    manifest = {"classes": list(measured.classes), "training": recipe.plain(), "measured": reached}
    exported = export(
        net, options.output, measured, manifest, integers=not options.float, carried=recipe.slices.carried
    )
    for line in [*_lines(reached), f"mIoU {exported:.1%} of the exported file"]:
        print(line)
    for suffix in (".onnx", ".json", ".golden.npz"):
        print(options.output.with_suffix(suffix))
    return 0


def _lines(reached: dict[str, Any]) -> list[str]:
    by_class = ", ".join(f"{name} {value:.1%}" for name, value in reached["iou"].items())
    dead = ", ".join(reached["dead_blocks"]) or "none"
    return [
        f"mIoU {reached['miou']:.1%} over {reached['clips']} clips ({by_class})",
        f"{reached['firing_rate']:.1%} of the neurons fire; blocks that never do: {dead}",
        f"energy a slice: {reached['literature_mj']:.4f} mJ the literature's way, {reached['honest_mj']:.4f} mJ with "
        f"all that it leaves out, {reached['dense_mj']:.4f} mJ without spikes",
    ]


def _tell(text: str) -> None:
    print(f"\r{text:40}", end="", file=sys.stderr, flush=True)


class _Bar:
    """Steps done, loss, and how long the rest will take."""

    def __init__(self) -> None:
        self._begin: tuple[float, int] | None = None

    def __call__(self, step: int, steps: int, loss: float) -> None:
        now = process_ns() / 1e9
        if self._begin is None:
            self._begin = (now, step)
            return
        if step % 5 and step != steps:
            return
        left = (now - self._begin[0]) / (step - self._begin[1]) * (steps - step)
        filled = round(30 * step / steps)
        bar = f"[{'#' * filled}{'-' * (30 - filled)}]"
        print(
            f"\r{bar} {step}/{steps}  loss {loss:7.3f}  {left / 60:5.1f} min left", end="", file=sys.stderr, flush=True
        )
