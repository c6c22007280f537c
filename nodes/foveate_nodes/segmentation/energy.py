"""What a network would need of energy, counted two ways (extra train).

The literature's way: 4.6 pJ for each multiply-add of the layers that see the input itself, and 0.9 pJ for each
accumulate of all others, as many as their inputs are not zero (45 nm, Horowitz, ISSCC 2014; arXiv 2412.12843). The
honest way: an accumulate is one only where the input is spikes, 0 or 1; every other product costs a multiply-add, and
so do leaks, norms that are not folded, gates, means and bilinear resizing, which the literature leaves out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from foveate_nodes.segmentation.neuron import Integrator, neurons

MULTIPLY_ADD_PJ, ACCUMULATE_PJ = 4.6, 0.9
_aten = torch.ops.aten


@dataclass(slots=True)
class Energy:
    """Sums over the slices that were run."""

    slices: int = 0
    dense: float = 0.0  # multiply-adds of all convolutions and products, whatever their inputs
    input_layers: float = 0.0  # of those that see the slice itself
    active: float = 0.0  # of the others, as far as their inputs are not zero
    spiking: float = 0.0  # of those, the ones whose inputs are all 0 or 1
    floating: float = 0.0  # multiply-adds of layers whose inputs are neither the slice nor spikes
    left_out: float = 0.0  # multiplies of leaks, norms, gates, means, resizing
    rates: dict[str, float] = field(default_factory=dict)  # share of a neuron layer's outputs that are spikes

    @property
    def literature_mj(self) -> float:
        """Millijoules a slice."""
        return (MULTIPLY_ADD_PJ * self.input_layers + ACCUMULATE_PJ * self.active) * 1e-9 / max(self.slices, 1)

    @property
    def honest_mj(self) -> float:
        """Millijoules a slice."""
        multiplied = self.input_layers + self.floating + self.left_out
        return (MULTIPLY_ADD_PJ * multiplied + ACCUMULATE_PJ * self.spiking) * 1e-9 / max(self.slices, 1)

    @property
    def dense_mj(self) -> float:
        """Millijoules a slice if every multiply-add were made: what a network without spikes costs."""
        return MULTIPLY_ADD_PJ * self.dense * 1e-9 / max(self.slices, 1)

    @property
    def firing_rate(self) -> float:
        """The mean over neuron layers."""
        return sum(self.rates.values()) / max(len(self.rates), 1)


class Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered, adds up what runs. `slice_` tells it which tensor is the input."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.energy = Energy()
        self._slice: Tensor | None = None
        self._foldable = 0  # address of what a convolution, and norms behind it, have just made

    def begin(self, slice_: Tensor) -> None:
        """The next slices (B x bins x H x W) to be run."""
        self._slice = slice_
        self.energy.slices += len(slice_)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        packet = func.overloadpacket
        if packet in (_aten.convolution, _aten.mkldnn_convolution):
            self._product(args[0], _multiply_adds(args, out))
            self._foldable = out.data_ptr()
        elif packet in _NORMS and args[0].data_ptr() == self._foldable:
            self._foldable = out[0].data_ptr()  # the convolution takes it in
        elif packet in _MULTIPLIES and isinstance(out, (Tensor, tuple)):
            made = out if isinstance(out, Tensor) else out[0]
            if made.is_floating_point() and made.dim() > 2:
                self.energy.left_out += _MULTIPLIES[packet] * max(made.numel(), _size(args))
        return out

    def _product(self, input_: Tensor, count: float) -> None:
        energy = self.energy
        energy.dense += count
        if self._slice is not None and input_.data_ptr() == self._slice.data_ptr():
            energy.input_layers += count
            return
        share = float((input_ != 0).to(torch.float32).mean())
        energy.active += share * count
        if bool(((input_ == 0) | (input_ == 1)).all()):
            energy.spiking += share * count
        else:
            energy.floating += count


_NORMS = (_aten.native_batch_norm, _aten._native_batch_norm_legit_no_training, _aten.cudnn_batch_norm)
# Multiplies for each value of the result (a mean: of its argument).
_MULTIPLIES = {
    _aten.mul: 1, _aten.sigmoid: 4, _aten.upsample_bilinear2d: 4, _aten.mean: 0.2, **dict.fromkeys(_NORMS, 1),
}  # fmt: skip


def _multiply_adds(args: Any, out: Tensor) -> float:
    input_, weight, transposed = args[0], args[1], args[6]
    return float((input_ if transposed else out).numel() * weight[0].numel())


def _size(args: Any) -> int:
    return max((each.numel() for each in args if isinstance(each, Tensor)), default=0)


class Rates:
    """While it is entered, keeps how often every neuron of `net` fires, channel by channel, with its gradient."""

    def __init__(self, net: nn.Module) -> None:
        self._net = net
        self._sums: dict[str, list[Tensor]] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> Rates:
        for name, neuron in neurons(self._net):
            if isinstance(neuron, Integrator):
                continue
            self._handles.append(neuron.register_forward_hook(self._keeper(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _keeper(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def keep(module: nn.Module, inputs: Any, output: Tensor) -> None:
            self._sums.setdefault(name, []).append(output.mean((0, 2, 3)))

        return keep

    def channels(self) -> dict[str, Tensor]:
        """By neuron layer: the mean rate of each channel (C,) over the steps seen."""
        return {name: torch.stack(seen).mean(0) for name, seen in self._sums.items()}

    def below(self, floor: float) -> Tensor:
        """How far channels stay below a rate: the mean over all layers of ((floor - rate) / floor)^2."""
        lacks = [((floor - rate).clamp(min=0) / floor).square().mean() for rate in self.channels().values()]
        return torch.stack(lacks).mean()

    def layers(self) -> dict[str, float]:
        """By neuron layer: the mean rate."""
        return {name: float(rate.detach().mean()) for name, rate in self.channels().items()}
