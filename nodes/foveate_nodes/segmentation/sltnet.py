"""SLTNet: a spike-driven lightweight transformer network for event-based segmentation (arXiv 2412.12843; extra train).

One call is one time step, on B x bins x H x W (a slice of events); membranes stay in the neurons until
`neuron.reset`. What runs between layers are spikes, 0 or 1, but on the shortcuts, which carry sums of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional

from foveate_nodes.segmentation.neuron import Leaky

_EPS, _ATTENTION_EPS = 1e-3, 1e-5  # of batch norms, as released


@dataclass(frozen=True, slots=True)
class Layout:
    """The sizes of a network; those of the released one by default."""

    bins: int = 5  # channels of a slice
    classes: int = 6
    width: int = 32  # channels of the stem; the stages have 2, 4 and 1 times as many, the decoder half
    dilations: tuple[tuple[int, ...], ...] = ((2, 2, 2), (1, 1, 2), (1, 1, 2))  # of the blocks of each stage
    transformers: int = 2
    mlp_ratio: int = 4
    neuron: Callable[[], Leaky] = field(default=Leaky, compare=False)
    readout: Callable[[], Leaky] | None = field(default=None, compare=False)  # before the classifier; None: `neuron`


def _conv(inputs: int, outputs: int, kernel: tuple[int, int], stride: int = 1, dilation: int = 1, groups: int = 1,
          bias: bool = False) -> nn.Conv2d:  # fmt: skip
    """A convolution that keeps the size; `dilation` along the axes that the kernel has."""
    rows, columns = (dilation if side > 1 else 1 for side in kernel)
    padding = (rows * (kernel[0] - 1) // 2, columns * (kernel[1] - 1) // 2)
    return nn.Conv2d(inputs, outputs, kernel, stride, padding, (rows, columns), groups, bias)


class NormSpike(nn.Module):
    """Batch norm and neurons."""

    def __init__(self, channels: int, neuron: Callable[[], Leaky]) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, _EPS)
        self.spike = neuron()

    def forward(self, x: Tensor) -> Tensor:
        return self.spike(self.norm(x))  # type: ignore[no-any-return]


class ConvSpike(nn.Module):
    """Convolution, batch norm and neurons."""

    def __init__(self, conv: nn.Conv2d, neuron: Callable[[], Leaky]) -> None:
        super().__init__()
        self.conv, self.out = conv, NormSpike(conv.out_channels, neuron)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.conv(x))  # type: ignore[no-any-return]


class ChannelGain(nn.Module):
    """Efficient channel attention (arXiv 1910.03151): each channel times a share that three of them decide."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        mean = x.mean((2, 3)).unsqueeze(1)
        return x * torch.sigmoid(self.conv(mean)).squeeze(1)[:, :, None, None]


class Branch(nn.Module):
    """Each channel by itself through a column and a row, `dilation` apart."""

    def __init__(self, channels: int, dilation: int, neuron: Callable[[], Leaky]) -> None:
        super().__init__()
        self.tall, self.wide = (
            ConvSpike(_conv(channels, channels, kernel, dilation=dilation, groups=channels), neuron)
            for kernel in ((3, 1), (1, 3))
        )
        self.gain = ChannelGain()

    def forward(self, x: Tensor) -> Tensor:
        return self.gain(self.wide(self.tall(x)))  # type: ignore[no-any-return]


class SpikeBlock(nn.Module):
    """Spike-LD, the spiking lightweight dilated block: half the channels, a near and a far branch, a membrane shortcut.

    Where the neurons of `enter` never fire, all of it is an identity: it is dead (`liveness.py`).
    """

    def __init__(self, channels: int, dilation: int, neuron: Callable[[], Leaky]) -> None:
        super().__init__()
        half = channels // 2
        self.enter, self.narrow = NormSpike(channels, neuron), _conv(channels, half, (1, 1))
        self.tall, self.wide = (ConvSpike(_conv(half, half, kernel), neuron) for kernel in ((3, 1), (1, 3)))
        self.near, self.far = Branch(half, 1, neuron), Branch(half, dilation, neuron)
        self.leave, self.widen = NormSpike(half, neuron), _conv(half, channels, (1, 1))

    def forward(self, x: Tensor) -> Tensor:
        trunk = self.wide(self.tall(self.narrow(self.enter(x))))
        return x + self.widen(self.leave(trunk + self.near(trunk) + self.far(trunk)))  # type: ignore[no-any-return]


class Down(nn.Module):
    """Half the size; channels that are added are those of a convolution, the others' maximum goes on."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.pools = outputs > inputs
        self.conv = _conv(inputs, outputs - inputs if self.pools else outputs, (3, 3), 2)

    def forward(self, x: Tensor) -> Tensor:
        small = self.conv(x)
        return torch.cat([small, functional.max_pool2d(x, 2, 2, ceil_mode=True)], 1) if self.pools else small


class RepConv(nn.Module):
    """1 x 1, depthwise 3 x 3 and 1 x 1 with batch norms: one 3 x 3 convolution when it is folded (arXiv 2101.03697).

    Around the image is what the first norm makes of zeros: so the fold is exact at the border too.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.inner = _conv(channels, channels, (1, 1)), nn.BatchNorm2d(channels, _ATTENTION_EPS)
        self.depthwise = nn.Conv2d(channels, channels, 3, groups=channels, bias=False)
        self.last = _conv(channels, channels, (1, 1))
        self.norm, self.outer = (nn.BatchNorm2d(channels, _ATTENTION_EPS) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        inside = functional.pad(self.inner(self.first(x)), (1, 1, 1, 1))
        mean, variance = self.inner.running_mean, self.inner.running_var
        assert mean is not None and variance is not None
        scale = self.inner.weight * torch.rsqrt(variance + self.inner.eps)
        zero = (self.inner.bias - mean * scale).view(1, -1, 1, 1)
        border = functional.pad(torch.zeros_like(x[:1, :1]), (1, 1, 1, 1), value=1.0)
        return self.outer(self.norm(self.last(self.depthwise(inside + border * zero))))  # type: ignore[no-any-return]


class BinaryMaskAttention(nn.Module):
    """Spike-driven self-attention: whether keys and values of a channel meet anywhere is a mask of the queries."""

    def __init__(self, channels: int, neuron: Callable[[], Leaky]) -> None:
        super().__init__()
        self.spike, self.mask = neuron(), neuron()
        self.query, self.key, self.value, self.project = (RepConv(channels) for _ in range(4))
        self.query_spike, self.key_spike, self.value_spike = (neuron() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        spikes = self.spike(x)
        query = self.query_spike(self.query(spikes))
        key, value = self.key_spike(self.key(spikes)), self.value_spike(self.value(spikes))
        return self.project(query * self.mask((key * value).sum((2, 3), keepdim=True)))  # type: ignore[no-any-return]


class SpikeMlp(nn.Module):
    def __init__(self, channels: int, ratio: int, neuron: Callable[[], Leaky]) -> None:
        super().__init__()
        self.enter, self.between = neuron(), neuron()
        self.widen, self.narrow = (
            _conv(*sizes, (1, 1), bias=True) for sizes in ((channels, ratio * channels), (ratio * channels, channels))
        )
        self.widened, self.narrowed = (nn.BatchNorm2d(size, _ATTENTION_EPS) for size in (ratio * channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        wide = self.between(self.widened(self.widen(self.enter(x))))
        return self.narrowed(self.narrow(wide))  # type: ignore[no-any-return]


class SpikeTransformer(nn.Module):
    def __init__(self, channels: int, ratio: int, neuron: Callable[[], Leaky]) -> None:
        super().__init__()
        self.attention, self.mlp = BinaryMaskAttention(channels, neuron), SpikeMlp(channels, ratio, neuron)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(x)
        return x + self.mlp(x)  # type: ignore[no-any-return]


class LongConnection(nn.Module):
    """What a stage of the encoder gives to the decoder."""

    def __init__(self, inputs: int, outputs: int, neuron: Callable[[], Leaky]) -> None:
        super().__init__()
        self.tall = ConvSpike(_conv(inputs, inputs // 2, (3, 1)), neuron)
        self.wide = ConvSpike(_conv(inputs // 2, outputs, (1, 3)), neuron)

    def forward(self, x: Tensor) -> Tensor:
        return self.wide(self.tall(x))  # type: ignore[no-any-return]


class FeatureEnhance(nn.Module):
    """Channels and places that matter, on top of what is there."""

    def __init__(self, channels: int, neuron: Callable[[], Leaky]) -> None:
        super().__init__()
        self.squeeze = ConvSpike(_conv(channels, channels // 2, (1, 1)), neuron)
        self.stretch, self.mix = _conv(channels // 2, channels, (1, 1)), _conv(channels, channels, (1, 1))
        self.place, self.norm = _conv(2, 1, (3, 3)), nn.BatchNorm2d(1, _EPS)

    def forward(self, x: Tensor) -> Tensor:
        channel = torch.sigmoid(self.stretch(self.squeeze(x.mean((2, 3), keepdim=True)))) * x
        both = torch.cat([x.mean(1, keepdim=True), x.amax(1, keepdim=True)], 1)
        place = torch.sigmoid(self.norm(self.place(both))) * x
        return x + self.mix(channel) + self.mix(place)  # type: ignore[no-any-return]


class Up(nn.Module):
    """A stage of the decoder: a block, what the encoder had at this size, and twice the size."""

    def __init__(self, inputs: int, outputs: int, encoder: int, neuron: Callable[[], Leaky]) -> None:
        super().__init__()
        self.block = SpikeBlock(inputs, 2, neuron)
        self.connect, self.enhance = LongConnection(encoder, inputs, neuron), FeatureEnhance(inputs, neuron)
        self.conv = nn.ConvTranspose2d(inputs, outputs, 3, 2, 1, 1)

    def forward(self, x: Tensor, encoder: Tensor) -> Tensor:
        return self.conv(self.block(x) + self.enhance(self.connect(encoder)))  # type: ignore[no-any-return]


class SltNet(nn.Module):
    """Slices of events in, a class by pixel out."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.layout = layout
        width, neuron = layout.width, layout.neuron
        stages = (2 * width, 4 * width, width)
        self.stem = nn.Sequential(
            ConvSpike(_conv(layout.bins, width, (3, 3)), neuron),
            ConvSpike(_conv(width, width, (3, 3)), neuron),
            ConvSpike(_conv(width, width, (3, 3), 2), neuron),
        )
        self.down = nn.ModuleList(Down(*sizes) for sizes in zip((width, *stages), stages, strict=False))
        self.stage = nn.ModuleList(
            nn.Sequential(*(SpikeBlock(size, dilation, neuron) for dilation in dilations), NormSpike(size, neuron))
            for size, dilations in zip(stages, layout.dilations, strict=True)
        )
        self.transformer = nn.Sequential(
            *(SpikeTransformer(stages[2], layout.mlp_ratio, neuron) for _ in range(layout.transformers))
        )
        half = width // 2
        self.up = nn.ModuleList(
            Up(size, half, seen, neuron) for size, seen in zip((stages[2], half, half), stages[::-1], strict=True)
        )
        self.up_spike = nn.ModuleList(NormSpike(half, each) for each in (neuron, neuron, layout.readout or neuron))
        self.gate, self.classifier = _conv(half, half, (1, 1), bias=True), _conv(half, layout.classes, (1, 1))
        for module in self.modules():
            if isinstance(module, (nn.Conv1d, nn.Conv2d, nn.ConvTranspose2d)):
                nn.init.trunc_normal_(module.weight, std=0.02)

    def forward(self, slice_: Tensor) -> tuple[Tensor, Tensor]:
        """B x bins x H x W, one time step; logits (B x classes x H x W) and those of the early head."""
        size = slice_.shape[2:]
        x, seen = self.stem(slice_), []
        for down, stage in zip(self.down, self.stage, strict=True):
            x = stage(down(x))
            seen.append(x)
        x = self.up_spike[0](self.up[0](self.transformer(x), seen[2]))
        x = self.up_spike[1](self.up[1](_resized(x, seen[1].shape[2:]), seen[1]))
        early = self.classifier(_resized(x, size))
        x = self.up[2](_resized(x, seen[0].shape[2:]), seen[0])
        x = x * torch.sigmoid(self.gate(x))
        return self.classifier(self.up_spike[2](_resized(x, size))), early


def _resized(x: Tensor, size: torch.Size) -> Tensor:
    if x.shape[2:] == size:
        return x
    return functional.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)
