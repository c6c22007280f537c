"""A vision transformer for small images (extra train).

Dosovitskiy et al., An Image is Worth 16x16 Words, ICLR 2021, with the mean of the tokens in the place of a class token.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from foveate_compression.networks.standardisation import Standardisation


class Attention(nn.Module):
    """B x tokens x width to the same: products and a softmax of an ONNX graph, each a node of its own."""

    def __init__(self, tokens: int, width: int, heads: int) -> None:
        super().__init__()
        self.shape = (-1, tokens, heads, width // heads)
        self.scale = (width // heads) ** -0.5
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (part.reshape(self.shape).transpose(1, 2) for part in self.qkv(x).chunk(3, -1))
        scores = torch.matmul(query * self.scale, key.transpose(2, 3)).softmax(-1)
        return self.out(torch.matmul(scores, value).transpose(1, 2).flatten(2))


class Mlp(nn.Module):
    """Two products by token with a Gaussian error unit between them."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(nn.functional.gelu(self.fc1(x)))


class Layer(nn.Module):
    """Attention and a perceptron, each behind a norm and added to what comes in."""

    def __init__(self, tokens: int, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(tokens, width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = Mlp(width, int(width * mlp_ratio))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    """B x 3 x size x size, RGB of 0 to 1, to B x classes: logits."""

    def __init__(
        self, classes: int = 10, size: int = 32, patch: int = 4, width: int = 96, depth: int = 4, heads: int = 4,
        mlp_ratio: float = 4,
    ) -> None:  # fmt: skip
        """Raises ValueError where `patch` does not divide `size`, or `heads` the `width`."""
        super().__init__()
        if size % patch or width % heads:
            raise ValueError(f"size {size} by patches of {patch}, width {width} by {heads} heads: whole numbers needed")
        tokens = (size // patch) ** 2
        self.standardisation = Standardisation()
        self.embedding = nn.Conv2d(3, width, patch, patch)
        self.position = nn.Parameter(0.02 * torch.randn(1, tokens, width))
        self.layers = nn.Sequential(*(Layer(tokens, width, heads, mlp_ratio) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embedding(self.standardisation(x)).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.layers(tokens + self.position)).mean(1))
