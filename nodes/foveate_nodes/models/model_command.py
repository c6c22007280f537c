"""`foveate model info`: what a network is made of, and what it costs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from foveate.errors import BackendMissing, ModelError

if TYPE_CHECKING:
    from foveate_nodes.segmentation.sltnet import SltNet


def main(arguments: list[str]) -> int:
    """Print parameters and multiply-adds by layer, and the blocks that never fire."""
    parser = argparse.ArgumentParser(
        prog="foveate model", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="What a network is made of (needs the extra 'train').",
        epilog="examples:\n  foveate model info ddd17_state_dict.npz --size 352x200\n"
        "  foveate model info street_events.training/checkpoint.pt --size 144x108",
    )  # fmt: skip
    actions = parser.add_subparsers(dest="action", required=True)
    info = actions.add_parser("info", help="parameters and multiply-adds by layer; blocks that never fire")
    info.add_argument(
        "model", type=Path, metavar="FILE", help="released weights of SLTNet as arrays, or a training's checkpoint.pt"
    )
    info.add_argument("--size", type=_size, default=(352, 200), metavar="WxH", help="pixels of a slice (352x200)")
    info.add_argument("--strip", action="store_true", help="without the blocks that never fire")
    info.add_argument("--fold", action="store_true", help="with norms folded into convolutions")
    options = parser.parse_args(arguments)
    try:
        import torch
    except ImportError:
        raise BackendMissing("model info", "torch", "train") from None
    from foveate_nodes.models.counting import layers, table
    from foveate_nodes.segmentation import liveness
    from foveate_nodes.segmentation.folding import folded

    net = _network(options.model)
    dead = liveness.dead(net)
    blocks = len(liveness.blocks(net))
    if options.strip:
        net = liveness.without_dead(net)
    if options.fold:
        net = folded(net)
    width, height = options.size
    for line in table(layers(net.eval(), torch.zeros(1, net.layout.bins, height, width))):
        print(line)
    print(f"{len(dead)} of {blocks} blocks never fire{': ' + ', '.join(dead) if dead else ''}"
          f"{'; taken out' if options.strip and dead else ''}")  # fmt: skip
    return 0


def _size(text: str) -> tuple[int, int]:
    width, _, height = text.partition("x")
    try:
        size = int(width), int(height)
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is no size; write 352x200") from None
    if min(size) < 16 or max(size) > 4096:
        raise argparse.ArgumentTypeError(f"{text}: sides are of 16 to 4096 pixels")
    return size


def _network(path: Path) -> SltNet:
    """Raises ModelError."""
    import numpy as np

    from foveate_nodes.segmentation.released import network_of

    if path.suffix == ".pt":
        from foveate_nodes.segmentation.train_sltnet import of_checkpoint

        return of_checkpoint(path)
    try:
        with np.load(path) as arrays:
            return network_of({name: arrays[name] for name in arrays.files}, str(path))
    except (OSError, ValueError, AttributeError) as error:
        why = "no such file" if isinstance(error, FileNotFoundError) else "not an .npz of arrays"
        raise ModelError(str(path), "read", why) from None
