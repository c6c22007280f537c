"""Inverted residual blocks with depthwise convolutions, for small images (extra train).

Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, CVPR 2018, section 3.
"""

from __future__ import annotations

from torch import Tensor, nn

from foveate_compression.networks.standardisation import Standardisation

_STEM, _LAST = 16, 192  # channels at width 1
# expansion, channels at width 1, stride
_BLOCKS = ((1, 16, 1), (4, 24, 2), (4, 24, 1), (4, 40, 2), (4, 40, 1), (4, 40, 1), (4, 64, 2), (4, 64, 1))


def _layer(inputs: int, outputs: int, size: int, stride: int = 1, groups: int = 1, *, bounded: bool) -> list[nn.Module]:
    made: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, size, stride, size // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return [*made, nn.ReLU6()] if bounded else made


class Inverted(nn.Module):
    """1 x 1 to more channels, 3 x 3 by channel, 1 x 1 to fewer, without a bound behind the last."""

    def __init__(self, inputs: int, outputs: int, stride: int, expansion: int) -> None:
        super().__init__()
        inner = expansion * inputs
        self.body = nn.Sequential(
            *(_layer(inputs, inner, 1, bounded=True) if expansion != 1 else ()),
            *_layer(inner, inner, 3, stride, inner, bounded=True),
            *_layer(inner, outputs, 1, bounded=False),
        )
        self.added = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x) if self.added else self.body(x)


class MobileNet(nn.Module):
    """B x 3 x H x W, RGB of 0 to 1, to B x classes: logits. Eight blocks; the last works on an eighth of the image."""

    def __init__(self, classes: int = 10, width: float = 1.0) -> None:
        super().__init__()
        inputs = _channels(_STEM, width)
        body = _layer(3, inputs, 3, bounded=True)
        for expansion, channels, stride in _BLOCKS:
            outputs = _channels(channels, width)
            body.append(Inverted(inputs, outputs, stride, expansion))
            inputs = outputs
        self.standardisation = Standardisation()
        self.body = nn.Sequential(*body, *_layer(inputs, _channels(_LAST, width), 1, bounded=True))
        self.head = nn.Linear(_channels(_LAST, width), classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.standardisation(x)).mean((2, 3)))


def _channels(count: int, width: float) -> int:
    """To the nearest multiple of 8."""
    return max(8, round(count * width / 8) * 8)
