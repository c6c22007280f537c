"""What compression stands on: k-means, ranges, levels, forms of weights; layers, blocks, passes."""

from __future__ import annotations

import io
import itertools
import math
import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")
onnx = pytest.importorskip("onnx", reason="needs the extra 'compress'")
pytest.importorskip("onnxruntime", reason="needs the extra 'compress'")

from onnx import helper  # noqa: E402

from foveate.errors import ModelError  # noqa: E402
from foveate_compression import kmeans, observers, spec  # noqa: E402
from foveate_compression.network import Layer, Network  # noqa: E402
from foveate_compression.networks.resnet import ResNet  # noqa: E402
from foveate_compression.networks.unet import UNet  # noqa: E402
from foveate_compression.networks.vit import ViT  # noqa: E402
from foveate_compression.passes import attentions, changed_basis, flipped, norms  # noqa: E402
from foveate_compression.quantizers import Powers, Uniform, rounded, scale_and_zero, uniform  # noqa: E402
from foveate_compression.samplers import Reading, samples_of  # noqa: E402
from foveate_compression.vectors import Cut  # noqa: E402
from foveate_compression.weights import Book, Candidates, Coded, Integers, Sparse  # noqa: E402
from foveate_compression.work import Work  # noqa: E402
from tests.unit.test_compression_graph import by_onnxruntime, f32, model  # noqa: E402
from tests.unit.test_compression_networks import lived_in  # noqa: E402

pytestmark = pytest.mark.heavy
LAYER = Layer("conv", "Conv", "w", None, "x", "y", 0, 1)


# --- k-means


def brute_force(vectors: Any, mask: Any, k: int) -> float:
    """The least masked sum of squares of all ways to share vectors among k codewords."""
    best = math.inf
    for codes in itertools.product(range(k), repeat=len(vectors)):
        total = 0.0
        for code in range(k):
            chosen = torch.tensor(codes) == code
            part, counted = vectors[chosen], mask[chosen]
            means = (part * counted).sum(0) / counted.sum(0).clamp(min=1)
            total += float(((part - means).square() * counted).sum())
        best = min(best, total)
    return best


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("seed", range(3))
def test_clusters_of_tiny_cases_are_the_best_there_are(seed: int, masked: bool) -> None:
    draw = torch.Generator().manual_seed(seed)
    vectors = torch.randn(7, 3, generator=draw)
    mask = (torch.rand(7, 3, generator=draw) < 0.6).float() if masked else torch.ones(7, 3)
    found = [kmeans.clustered(vectors, 2, mask, seed=each, tolerance=0.0) for each in range(20)]
    assert abs(min(each.errors[-1] for each in found) - brute_force(vectors, mask, 2)) < 1e-5


@given(st.integers(0, 10**6), st.integers(2, 40), st.integers(1, 6), st.integers(1, 9), st.floats(0.1, 1.0))
@settings(max_examples=60)
def test_clusters_never_get_worse_and_their_error_is_what_it_is(
    seed: int, n: int, d: int, k: int, share: float
) -> None:
    draw = torch.Generator().manual_seed(seed)
    vectors = torch.randn(n, d, generator=draw).round(decimals=1)  # equal ones, too
    mask = (torch.rand(n, d, generator=draw) < share).float()
    found = kmeans.clustered(vectors, k, mask, seed=seed, tolerance=0.0)
    assert all(b <= a + 1e-4 for a, b in itertools.pairwise(found.errors))
    exact = float(((vectors - found.codebook[found.codes]) * mask).square().sum())
    assert abs(exact - found.errors[-1]) < 1e-3 and len(found.codebook) == min(k, n)
    again = kmeans.clustered(vectors, k, mask, seed=seed, tolerance=0.0)
    assert again.codebook.equal(found.codebook) and again.codes.equal(found.codes)


def test_no_codeword_is_left_unused_where_vectors_differ() -> None:
    vectors = torch.cat([torch.zeros(500, 2), torch.arange(1, 8.0)[:, None].repeat(1, 2)])
    found = kmeans.clustered(vectors, 8, tolerance=0.0)
    assert len(found.codes.unique()) == 8 and found.errors[-1] < 1e-6


def test_codewords_without_vectors_go_to_the_farthest_and_entries_that_nobody_counts_stay() -> None:
    kept, codes = torch.tensor([[0.0, 0], [1, 0], [9, 0], [5, 0]]), torch.zeros(4, dtype=torch.int64)
    book = torch.tensor([[0.0, 7], [20, 7], [30, 7]])
    filled = kmeans._refilled(book, kept, codes, kept[:, 0].square())
    assert filled.tolist() == [[0, 7], [9, 0], [5, 0]]
    mask = torch.tensor([[1.0, 0], [1, 0], [0, 0], [0, 0]])
    assert kmeans._means(kept * mask, mask, codes, book).tolist() == [[0.5, 7], [20, 7], [30, 7]]


def test_the_nearest_codewords_are_those_of_all_distances() -> None:
    draw = torch.Generator().manual_seed(0)
    kept, book = torch.randn(50, 5, generator=draw), torch.randn(9, 5, generator=draw)
    codes, costs = kmeans.nearest(kept, book, 3)
    far = (kept[:, None] - book).square().sum(2).sort(1)
    assert codes.equal(far.indices[:, :3]) and torch.allclose(costs, far.values[:, :3], atol=1e-4)
    assert kmeans.nearest(kept, book, 20)[0].shape == (50, 9)


def test_masked_clusters_are_twice_as_good_as_those_of_pruned_vectors() -> None:
    vectors = torch.randn(4096, 8, generator=torch.Generator().manual_seed(1))
    best = vectors.abs().topk(4, 1).indices
    mask = torch.zeros_like(vectors).scatter_(1, best, 1.0)
    ours = kmeans.clustered(vectors, 64, mask).errors[-1]
    other = kmeans.clustered(vectors * mask, 64)
    theirs = float(((vectors - other.codebook[other.codes]) * mask).square().sum())
    assert ours <= 0.5 * theirs


# --- ranges and levels


def lost(x: Any, low: Any, high: Any, level: spec.Spec) -> float:
    return float((uniform(x, *scale_and_zero(low, high, level), level) - x).abs().pow(2.4).sum())


@given(st.integers(0, 10**6), st.integers(2, 8), st.booleans(), st.floats(-3, 3))
@settings(max_examples=30)
def test_a_searched_range_loses_no_more_than_the_whole_one(seed: int, bits: int, weights: bool, offset: float) -> None:
    x = torch.randn(3, 200, generator=torch.Generator().manual_seed(seed)).pow(3) + offset
    level = spec.weights(bits) if weights else spec.activations(bits)
    one, all_ = observers.observed([x], level, "error"), observers.observed([x], level, "minmax")
    assert all_ == (x.min(), x.max()) and lost(x, *one, level) <= lost(x, *all_, level)
    for row, low, high in zip(x, *observers.of_channels(x, level, "error"), strict=True):
        assert lost(row, low, high, level) <= lost(row, row.min(), row.max(), level)
    alone = observers.of_channels(x[:1], level, "error")  # one channel is a row of one
    assert all(each.shape == (1,) for each in alone)


def test_a_short_end_has_levels_of_its_own() -> None:
    """Four bits of what a GELU gives: with ends shrunk alike nothing below 0 had a level, and the mean was off."""
    x = torch.nn.functional.gelu(1.2 * torch.randn(50_000, generator=torch.Generator().manual_seed(0)) - 0.4)
    level = spec.activations(4)
    scale, zero = scale_and_zero(*observers.observed([x], level, "error"), level)
    found = uniform(x, scale, zero, level)
    assert zero == 1 and float(found.min()) < 0
    assert abs(float((found - x).mean())) < 0.25 * abs(float((x.clamp(min=0) - x).mean()))
    grid = [(float((uniform(x, s, z, level) - x).abs().pow(2.4).sum()))
            for s in torch.linspace(0.02, 0.6, 60) for z in torch.arange(0.0, 4)]  # fmt: skip
    assert float((found - x).abs().pow(2.4).sum()) < 1.1 * min(grid)


def test_ranges_of_percentiles_and_means_and_thinned_values() -> None:
    x, level = torch.linspace(0, 1, 10001), spec.activations(8)
    low, high = observers.observed([x, 1000 * x[-1:]], level, "percentile", 0.99)
    assert abs(float(low) - 0.01) < 1e-3 and abs(float(high) - 0.99) < 1e-3
    low, high = observers.observed([x, 3 * x - 1], level, "average")
    assert (float(low), float(high)) == (-0.5, 1.5)
    values = torch.zeros(100_001)
    values[77_777], values[5] = 9.0, -9.0
    some = observers.thinned(values, 1000)
    assert len(some) < 1010 and (float(some.min()), float(some.max())) == (-9.0, 9.0)


@given(st.integers(0, 10**6), st.booleans(), st.floats(1e-3, 1e3))
@settings(max_examples=40)
def test_levels_are_those_of_onnxruntime_bit_for_bit(seed: int, signed: bool, size: float) -> None:
    x = size * torch.randn(300, generator=torch.Generator().manual_seed(seed)) + size
    level = spec.Spec(8, signed, False)
    ours = Uniform(level, x.min() / 2, x.max() / 2)
    kind = np.int8 if signed else np.uint8
    nodes = [helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
             helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])]  # fmt: skip
    constants = {"s": ours.scale.detach().numpy(), "z": np.asarray(int(ours.zero), kind)}
    [theirs] = by_onnxruntime(model(nodes, {"x": x.numpy()}, ["y"], constants), {"x": x.numpy()})
    assert np.array_equal(ours(x).detach().numpy(), theirs) and 0.0 in ours(torch.zeros(1))


def test_gradients_go_straight_through_rounding_and_stop_where_it_clips() -> None:
    x = torch.tensor([-5.0, -0.3, 0.4, 5.0], requires_grad=True)
    level = Uniform(spec.weights(4), torch.tensor(-1.0), torch.tensor(1.0))
    level(x).sum().backward()
    assert x.grad.tolist() == [0, 1, 1, 0]
    scale = float(level.scale.detach())  # LSQ: the end where it clips, else how far rounding went
    inner = sum(round(v / scale) - v / scale for v in (-0.3, 0.4))
    assert abs(float(level.scale.grad) - (inner - 7 + 7)) < 1e-5
    values = torch.tensor([0.5, 1.5, -2.5], requires_grad=True)
    rounded(values).sum().backward()
    assert rounded(values).tolist() == [0, 2, -2] and values.grad.tolist() == [1, 1, 1]
    level.drop = 1.0
    assert level.train()(x).equal(x) and not level.eval()(x).equal(x)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("tau", [1, 2, 4])
def test_powers_are_their_formula(bits: int, tau: int) -> None:
    x = torch.cat([torch.rand(500, generator=torch.Generator().manual_seed(tau)).pow(6), torch.tensor([0.0, 1.0, 0.8])])
    level = Powers(bits, tau, 0.8)

    def by_hand(value: float) -> float:
        place = max(round(-tau * math.log2(value / 0.8)), 0) if value > 0 else 2**bits
        return 0.8 * 2 ** (-place / tau) if place < 2**bits else 0.0

    assert np.allclose(level(x).numpy(), [by_hand(float(value)) for value in x], rtol=1e-5, atol=1e-9)
    assert level(torch.tensor([0.79])) > 0 and abs(float(level(torch.tensor([5.0]))) - 0.8) < 1e-6


def test_images_become_what_the_network_takes(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "blue.png"), np.full((20, 40, 3), (200, 0, 0), np.uint8))
    rgb, bgr = (samples_of(str(tmp_path), {"x": (None, 3, 16, 16)}, 5, reading=Reading(0.5, each)).samples["x"]
                for each in (False, True))  # fmt: skip
    assert rgb.shape == (1, 3, 16, 16) and rgb.mean((0, 2, 3)).tolist() == [0, 0, 100] and bgr.equal(rgb.flip(1))
    assert samples_of(str(tmp_path), {"x": (None, 1, None, None)}, 5).samples["x"].shape == (1, 1, 32, 32)
    wide = np.arange(70 * 90, dtype=np.uint32).astype(np.uint8).reshape(70, 90)
    cv2.imwrite(str(tmp_path / "blue.png"), wide)
    free = samples_of(str(tmp_path), {"x": (None, 1, None, None)}, 5).samples["x"]
    assert free[0, 0].numpy().astype(np.uint8).tolist() == wide[3:67, 13:77].tolist(), "cut, not squeezed"


# --- forms of weights


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 3), st.booleans())
def test_vectors_come_back_as_rows(size: int, groups: int, side: int, outputs: bool) -> None:
    cut = Cut(size, "outputs" if outputs else "inputs")
    rows = torch.randn(size * groups, side, 2) if outputs else torch.randn(3, side, size)
    vectors = cut.vectors(rows)
    assert cut.fits(rows) and vectors.shape[1] == size and cut.rows(vectors, tuple(rows.shape)).equal(rows)
    column = rows[:size, 0, 0] if outputs else rows[0].reshape(-1)[:size]  # one place of many channels, or many places
    assert vectors[0].equal(column) and (size == 1 or not Cut(size).fits(rows[:-1]) or not outputs)


def integers(weight: Any, bits: int = 4) -> Integers:
    level = spec.weights(bits)
    return Integers(LAYER, weight, level, *observers.of_channels(weight, level))


def test_integers_are_stored_as_they_are_seen() -> None:
    weight = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    weight[:, 1] = 0.0
    form = integers(weight)
    nearest = form.levels().clone()
    assert float((form() - weight).abs().max()) <= float(form.scale.max()) / 2 + 1e-6
    form.learn_rounding()
    with torch.no_grad():
        assert float((form.levels() - nearest).abs().max()) <= 1
        assert float((form.train().levels() - form.exact).abs().max()) < 0.02  # in between while it learns
    torch.nn.init.constant_(form.choice, 9.0)
    stored = form.eval().stored()
    assert stored.levels is not None and set(np.abs(stored.levels - nearest.numpy()).reshape(-1)) <= {0, 1}
    assert np.array_equal(stored.levels * stored.scale.reshape(-1, 1, 1, 1), form().detach().numpy())
    assert not stored.levels[:, 1].any() and np.abs(stored.levels).max() <= 7
    assert form.bits() == 4 * weight.numel() + 32 * 5


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("along", ["outputs", "inputs"])
def test_codewords_are_stored_as_they_are_seen(along: Any, masked: bool) -> None:
    draw, cut = torch.Generator().manual_seed(0), Cut(4, along)
    weight = torch.randn(8, 6, 2, generator=draw)
    codes, scale = torch.randint(7, (24,), generator=draw), torch.rand(8, generator=draw)
    mask = (torch.rand(24, 4, generator=draw) < 0.5).float() if masked else None
    form = Coded(LAYER, weight, cut, Book(9 * torch.randn(7, 4, generator=draw), 63), codes, scale, mask)
    stored = form.stored()
    assert stored.codebook is not None and stored.codebook.dtype == np.int8 and np.abs(stored.codebook).max() <= 63
    vectors = torch.from_numpy(stored.codebook[stored.codes].astype(np.float32))
    vectors = vectors if stored.mask is None else vectors * torch.from_numpy(stored.mask)
    by_hand = cut.rows(vectors, stored.shape) * torch.from_numpy(stored.scale).reshape(-1, 1, 1)
    assert by_hand.equal(form().detach())
    patterns = 0 if mask is None else math.ceil(math.log2(len(np.unique(mask.numpy(), axis=0))))
    assert form.bits() == 24 * (3 + patterns) + 32 * 8 + 8 * 7 * 4
    form.shared = True
    assert form.bits() == 24 * (3 + patterns) + 32 * 8


def test_candidates_are_decided_for_good() -> None:
    draw = torch.Generator().manual_seed(0)
    book, weight = Book(9 * torch.randn(7, 4, generator=draw), 63), torch.randn(8, 12, generator=draw)
    codes, costs = kmeans.nearest(Cut(4).vectors(weight), book().detach() / 9, 3)
    form = Candidates(LAYER, weight, Cut(4), book, codes, torch.ones(8), costs)
    assert form.ratios().argmax(1).eq(0).all()  # the nearest is the likeliest
    assert not form.train()().equal(form.eval()())
    shares = []
    for _ in range(6):
        with torch.no_grad():
            form.mixing.add_(2 * torch.randn(form.mixing.shape, generator=draw))
        shares.append(form.choose(0.9))
    assert all(b >= a for a, b in itertools.pairwise(shares)) and 0 < shares[0] < shares[-1]
    assert 0 <= float(form.undecided().detach()) <= 1 and form.ratios()[form.chosen].amax(1).eq(1).all()
    assert form.eval()().equal(form.decided()())
    assert form.bits() == form.decided().bits()


def test_sparse_weights_cost_what_is_left() -> None:
    weight = torch.ones(4, 6)
    form = Sparse(LAYER, weight, (torch.arange(24).reshape(4, 6) % 4 == 0))
    assert float(form().detach().sum()) == 6 and form.bits() == 24 + 32 * 6 and form.stored() is None


# --- layers, blocks, passes


NETS = {"residual": lambda: ResNet(width=8, blocks=(1, 1)), "long skips": lambda: UNet(4, width=4, depth=2),
        "transformer": lambda: ViT(size=16, patch=4, width=16, depth=2, heads=2)}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "layers", "joined"), [("residual", 7, 5), ("long skips", 11, 0), ("transformer", 10, 8)]
)
def test_blocks_hold_every_layer_once_and_give_what_the_network_gives(name: str, layers: int, joined: int) -> None:
    torch.manual_seed(0)
    net = Network.of_module(lived_in(NETS[name](), (16, 16)), torch.rand(2, 3, 16, 16))
    assert len(net.layers) == layers
    given_ = {"input": torch.rand(3, 3, 16, 16)}
    blocks = net.blocks(4)
    assert [layer.name for block in blocks for layer in block.layers] == [layer.name for layer in net.layers]
    assert (
        all(len(block.layers) <= 4 for block in blocks)
        and sum(len(b.layers) for b in blocks if len(b.layers) > 1) == joined
    )
    for block in blocks:
        wanted = net.run(given_, [*block.inputs, block.output])
        found = net.run({each: wanted[each] for each in block.inputs}, [block.output])
        assert found[block.output].equal(wanted[block.output])


class Attends(torch.nn.Module):
    """A norm, then attention whose queries, keys and values are made in one of the ways that exporters know."""

    def __init__(self, how: str, bias: bool = True) -> None:
        super().__init__()
        self.how, self.norm = how, torch.nn.LayerNorm(8)
        self.qkv = torch.nn.ModuleList(torch.nn.Linear(8, 8, bias) for _ in range(3))
        self.all = torch.nn.Linear(8, 24, bias)
        torch.nn.init.uniform_(self.norm.weight, 0.5, 2.0)
        torch.nn.init.uniform_(self.norm.bias, -1.0, 1.0)

    def forward(self, x: Any) -> Any:
        x = self.norm(x)
        if self.how == "gathered":
            q, k, v = self.all(x).reshape(-1, 6, 3, 2, 4).permute(2, 0, 3, 1, 4)
        else:
            made = self.all(x)
            parts = {"split": lambda: made.chunk(3, -1), "sliced": lambda: [made[..., i : i + 8] for i in (0, 8, 16)],
                     "separate": lambda: [layer(x) for layer in self.qkv]}[self.how]()  # fmt: skip
            q, k, v = (part.reshape(-1, 6, 2, 4).transpose(1, 2) for part in parts)
        return ((q @ k.transpose(-1, -2) * 0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)


def working(module: Any, *shape: int, opset: int = 17) -> Work:
    """A work of a module exported for this opset, with samples of this shape."""
    torch.manual_seed(1)
    samples = torch.randn(4, *shape)
    if opset == 17:
        return Work(Network.of_module(module, samples), {"input": samples})
    written = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that is used is an old one
        torch.onnx.export(
            module.eval(), (samples[:1],), written, dynamo=False, opset_version=opset, input_names=["input"]
        )
    return Work(Network(onnx.load_from_string(written.getvalue()), "net"), {"input": samples})


def unchanged(work: Work) -> bool:
    before, after = (work.outputs(work.samples, whole=whole) for whole in (True, False))
    return all(
        float((after[name] - value).abs().max()) < 1e-5 * float(value.abs().max() + 1) for name, value in before.items()
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("how", ["flat", "split", "separate", "decomposed"])
def test_another_basis_behind_a_norm_keeps_the_function(how: str, bias: bool) -> None:
    torch.manual_seed(0)
    flat = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.LayerNorm(8), torch.nn.Linear(8, 5, bias))
    module = flat if how == "flat" else Attends("separate" if how == "decomposed" else how, bias)
    work = working(module, *((8,) if how == "flat" else (6, 8)), opset=11 if how == "decomposed" else 17)
    kinds = {step.kind for step in work.network.graph.steps}
    assert ("LayerNormalization" in kinds) == (how != "decomposed") and ("Gemm" in kinds) == (how == "flat")
    [norm] = norms(work)
    assert len(norm.readers) == (3 if how in ("separate", "decomposed") else 1)
    before = work.run(work.samples, [norm.output])[norm.output]
    factor, offset = torch.rand(8) * 5 + 0.1, 3 * torch.randn(8)
    changed_basis(work, norm, factor, offset)
    after = work.run(work.samples, [norm.output])[norm.output]
    assert torch.allclose(after, before / factor - offset, atol=1e-4) and unchanged(work)
    assert len(work.network.biased) == (0 if bias else len(norm.readers))


@pytest.mark.parametrize("how", ["split", "sliced", "gathered", "separate"])
def test_signs_of_keys_change_and_the_function_does_not(how: str) -> None:
    torch.manual_seed(0)
    module = Attends(how)
    with torch.no_grad():
        module.qkv[1].bias.copy_(6 * torch.tensor([1.0, -1] * 4))
        module.all.bias[8:16] = module.qkv[1].bias
    work = working(module, 6, 8)
    [found] = attentions(work, {"input": work.samples["input"][:1]})
    assert (found.query == found.key) == (how != "separate") and found.key_channels.shape == (2, 4)
    before = work.run(work.samples, [found.keys])[found.keys]
    signs = before.mean((0, -1)).sign()
    assert 0 < int((signs < 0).sum()) < 8
    flipped(work, found, signs)
    after = work.run(work.samples, [found.keys])[found.keys]
    assert torch.allclose(after, before * signs[None, :, :, None]) and unchanged(work)


def test_where_there_is_no_attention_or_layer_none_is_found() -> None:
    work = Work(Network.of_module(ResNet(width=8), torch.rand(1, 3, 16, 16)), {"input": torch.rand(2, 3, 16, 16)})
    assert attentions(work, work.samples) == [] and norms(work) == []
    with pytest.raises(ModelError, match="it has no convolution"):
        Network(model([helper.make_node("Relu", ["x"], ["y"])], {"x": f32(1, 5)}, ["y"]), "net")
    with pytest.raises(ModelError, match=r"find the layer 'nope'.*it has"):
        work.network.layer("nope")
