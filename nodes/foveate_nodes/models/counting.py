"""Parameters and multiply-adds of a network by layer (extra train)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

_COUNTED = (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


@dataclass(frozen=True, slots=True)
class Layer:
    """One convolution, product or norm."""

    name: str
    kind: str
    output: tuple[int, ...]  # without the batch
    parameters: int
    multiply_adds: int  # of one sample; 0 for norms, which are folded


@torch.no_grad()
def layers(net: nn.Module, sample: Tensor) -> list[Layer]:
    """The layers with parameters in the order in which they run on `sample` (its first axis is the batch).

    A layer that runs twice is there once, with the multiply-adds of both.
    """
    found: dict[str, Layer] = {}
    handles = []
    for name, module in net.named_modules():
        if not any(True for _ in module.parameters(recurse=False)):
            continue

        def seen(module: nn.Module, inputs: Sequence[Tensor], output: Tensor, name: str = name) -> None:
            before = found[name].multiply_adds if name in found else 0
            own = sum(parameter.numel() for parameter in module.parameters(recurse=False))
            count = before + _multiply_adds(module, inputs[0], output)
            found[name] = Layer(name, type(module).__name__, tuple(output.shape[1:]), own, count)

        handles.append(module.register_forward_hook(seen))
    try:
        net(sample)
    finally:
        for handle in handles:
            handle.remove()
    return list(found.values())


def _multiply_adds(module: nn.Module, input_: Tensor, output: Tensor) -> int:
    """Each value of the output is a sum over what one of its weights' rows holds; transposed, each of the input."""
    if not isinstance(module, _COUNTED):
        return 0
    values = input_ if isinstance(module, nn.ConvTranspose2d) else output
    return values[0].numel() * module.weight[0].numel()


def table(found: Sequence[Layer]) -> list[str]:
    """Lines to print, the sum below them."""
    total = Layer("all", f"{len(found)} layers", (), sum(each.parameters for each in found),
                  sum(each.multiply_adds for each in found))  # fmt: skip
    wide = max(len(each.name) for each in [*found, total])
    lines = [f"{'layer':{wide}}  {'kind':16} {'output':>14} {'parameters':>11} {'multiply-adds':>14}  share"]
    for each in [*found, total]:
        shape = "x".join(map(str, each.output))
        share, count = each.multiply_adds / max(total.multiply_adds, 1), f"{each.multiply_adds:,}"
        lines.append(f"{each.name:{wide}}  {each.kind:16} {shape:>14} {each.parameters:11,} {count:>14}  {share:5.1%}")
    return lines
