"""FCPTS: how sparse each layer is, learnt for one rate of the whole network (AAAI 2024)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from annotated_types import Ge, Gt, Lt
from torch import Tensor, nn

from foveate_compression.losses import distilled
from foveate_compression.methods.method import Progress
from foveate_compression.network import Layer
from foveate_compression.placement import chosen
from foveate_compression.weights import Form, Sparse
from foveate_compression.work import Work

_BINS = 100  # of the histogram that is the density of weights


class _Above(torch.autograd.Function):
    """1 where x > 0, else 0; behind, the gradient goes through within [-1, 1]."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        return grads[0] * (ctx.saved_tensors[0].abs() <= 1) * 0.5


class _Bridge(torch.autograd.Function):
    """The share of weights below a threshold; behind, the density of their sizes at it."""

    @staticmethod
    def forward(ctx: Any, threshold: Tensor, sizes: Tensor) -> Tensor:
        ctx.save_for_backward(threshold, sizes)
        return (sizes < threshold).float().mean()

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        threshold, sizes = ctx.saved_tensors
        top = float(sizes.max().clamp(min=1e-12))
        counts = torch.histc(sizes, _BINS, 0.0, top)
        place = min(int(float(threshold) / top * _BINS), _BINS - 1)
        return grads[0] * counts[place] / sizes.numel() * _BINS / top, None


class Threshold(Form):
    """A weight of which what is smaller than a learnt threshold is 0."""

    def __init__(self, layer: Layer, weight: Tensor, sparsity: float) -> None:
        super().__init__(layer, weight)
        self.register_buffer("top", weight.abs().max().clamp(min=1e-12))
        self.top: Tensor
        self.weight = nn.Parameter(weight.clone())
        share = torch.quantile(weight.abs().reshape(-1)[:: max(1, weight.numel() // 2**22)], sparsity) / self.top
        self.score = nn.Parameter(torch.logit(share.clamp(1e-4, 1 - 1e-4)))

    def threshold(self, offset: float = 0.0) -> Tensor:
        """In the weight's unit."""
        return torch.sigmoid(self.score + offset) * self.top

    def mask(self, offset: float = 0.0) -> Tensor:
        return _Above.apply((self.weight.abs() - self.threshold(offset)) / self.top)  # type: ignore[no-any-return, no-untyped-call]

    def sparsity(self) -> Tensor:
        """The share of zeros, with its gradient."""
        return _Bridge.apply(self.threshold(), self.weight.detach().abs())  # type: ignore[no-any-return, no-untyped-call]

    def forward(self) -> Tensor:
        return self.weight * self.mask()


@dataclass(frozen=True, slots=True)
class Fcpts:
    """`sparsity` of all weights of the layers that are not in `skip`; begins from ERK's shares (or `uniform` ones)."""

    sparsity: Annotated[float, Gt(0), Lt(1)] = 0.8
    steps: Annotated[int, Ge(0)] = 200
    batch: Annotated[int, Gt(0)] = 32
    rate: Annotated[float, Gt(0)] = 2e-2
    weight_rate: Annotated[float, Ge(0)] = 5e-4
    uniform: bool = False
    learn_shares: bool = True
    skip: tuple[str, ...] = field(default=())
    seed: Annotated[int, Ge(0)] = 0

    def apply(self, work: Work, progress: Progress) -> None:
        """Sparse weights whose rate is the asked one to the last weight."""
        skipped = {layer.name for layer in chosen(work, self.skip)}
        layers = [
            layer for layer in work.network.layers if layer.name not in skipped and layer.weight not in work.forms
        ]
        shapes = [tuple(work.weight(layer).shape) for layer in layers]
        shares = [self.sparsity] * len(layers) if self.uniform else erk(shapes, self.sparsity)
        forms = []
        for layer, share in zip(layers, shares, strict=True):
            forms.append(Threshold(layer, work.weight(layer).detach(), share))
            work.forms[layer.weight] = forms[-1]
        if self.steps:
            self._learn(work, forms, progress)
        offset = offset_for(forms, self.sparsity)
        for layer, form in zip(layers, forms, strict=True):
            with torch.no_grad():
                work.forms[layer.weight] = Sparse(layer, form.weight.detach(), form.mask(offset))

    def _learn(self, work: Work, forms: list[Threshold], progress: Progress) -> None:
        groups: list[dict[str, Any]] = [{"params": [form.weight for form in forms], "lr": self.weight_rate}]
        if self.learn_shares:
            groups.append({"params": [form.score for form in forms], "lr": self.rate})
        optimizer = torch.optim.Adam(groups)
        sizes = torch.tensor([float(form.weight.numel()) for form in forms])
        whole = work.outputs(work.samples, whole=True)
        random = torch.Generator().manual_seed(self.seed)
        for step in range(self.steps):
            part = torch.randperm(len(next(iter(whole.values()))), generator=random)[: self.batch]
            found = work.run({name: value[part] for name, value in work.samples.items()})
            loss = sum((distilled(found[name], whole[name][part]) for name in found), torch.zeros(()))
            if self.learn_shares:
                rate = (torch.stack([form.sparsity() for form in forms]) * sizes).sum() / sizes.sum()
                loss = loss + (rate - self.sparsity).abs()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            progress("sparsity", step + 1, self.steps)


def erk(shapes: list[tuple[int, ...]], sparsity: float) -> list[float]:
    """Shares of zeros by layer: density falls with size over the sum of sides (ERK, arXiv 1911.11134)."""
    sizes = [float(torch.tensor(shape).prod()) for shape in shapes]
    raw = [sum(shape) / size for shape, size in zip(shapes, sizes, strict=True)]
    full: set[int] = set()
    while True:
        left = (1 - sparsity) * sum(sizes) - sum(sizes[i] for i in full)
        weight = sum(raw[i] * sizes[i] for i in range(len(sizes)) if i not in full)
        factor = left / weight if weight else 0.0
        over = {i for i in range(len(sizes)) if i not in full and factor * raw[i] > 1}
        if not over:
            return [0.0 if i in full else 1 - max(factor * raw[i], 0.0) for i in range(len(sizes))]
        full |= over


@torch.no_grad()
def offset_for(forms: list[Threshold], sparsity: float) -> float:
    """What is added to all scores so that the share of zeros is the asked one: by bisection."""
    low, high = -20.0, 20.0
    total = sum(form.weight.numel() for form in forms)
    for _ in range(60):
        middle = (low + high) / 2
        zeros = sum(float((form.mask(middle) == 0).sum()) for form in forms)
        low, high = (middle, high) if zeros / total < sparsity else (low, middle)
    return high
