"""Every method of compression: what it promises of weights, outputs and rates, on networks small enough to look at."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")
onnx = pytest.importorskip("onnx", reason="needs the extra 'compress'")
pytest.importorskip("onnxruntime", reason="needs the extra 'compress'")

from onnx import numpy_helper  # noqa: E402
from torch import nn  # noqa: E402

from foveate.errors import ModelError  # noqa: E402
from foveate_compression.export.fused import assert_fused  # noqa: E402
from foveate_compression.export.writer import model_of  # noqa: E402
from foveate_compression.methods import fcpts, mixed_latency  # noqa: E402
from foveate_compression.methods.fcpts import Fcpts  # noqa: E402
from foveate_compression.methods.method import silent  # noqa: E402
from foveate_compression.methods.mixed import Mixed, allotted  # noqa: E402
from foveate_compression.methods.mixed_latency import MixedLatency  # noqa: E402
from foveate_compression.methods.mvq import Mvq, kept  # noqa: E402
from foveate_compression.methods.outlier_suppression import OutlierSuppression  # noqa: E402
from foveate_compression.methods.plain import Plain  # noqa: E402
from foveate_compression.methods.ptq4sam import Ptq4Sam, best_powers, peaks  # noqa: E402
from foveate_compression.methods.recalibrate import Recalibrate  # noqa: E402
from foveate_compression.methods.reconstruct import Reconstruct  # noqa: E402
from foveate_compression.methods.repquant import RepQuant  # noqa: E402
from foveate_compression.methods.vq4all import Vq4All  # noqa: E402
from foveate_compression.methods.vq4dit import Vq4Dit  # noqa: E402
from foveate_compression.network import Network  # noqa: E402
from foveate_compression.networks.outliers import inject  # noqa: E402
from foveate_compression.networks.resnet import ResNet  # noqa: E402
from foveate_compression.networks.vit import ViT  # noqa: E402
from foveate_compression.passes import attentions, norms  # noqa: E402
from foveate_compression.quantizers import Powers  # noqa: E402
from foveate_compression.scoring import weight_errors  # noqa: E402
from foveate_compression.vectors import Cut  # noqa: E402
from foveate_compression.weights import Candidates, Coded, Integers, Sparse  # noqa: E402
from foveate_compression.work import Work  # noqa: E402
from tests.unit.test_compression_networks import lived_in  # noqa: E402

pytestmark = pytest.mark.heavy


def images(count: int = 24, seed: int = 0) -> Any:
    """Smooth colours, as images have, and some noise."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 4, 4, generator=draw)
    large = nn.functional.interpolate(coarse, size=16, mode="bilinear")
    return large + 0.05 * torch.randn(count, 3, 16, 16, generator=draw)


def work_of(module: Any, count: int = 24) -> Work:
    return Work(Network.of_module(module, images(1)), {"input": images(count)})


def residual() -> Work:
    torch.manual_seed(0)
    return work_of(lived_in(ResNet(width=8, blocks=(1, 1)), (16, 16)))


def convs(width: int = 32) -> Work:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, width, 3, 1, 1), nn.ReLU(),
              nn.Conv2d(width, width, 3, 1, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
              nn.Linear(width, 10)]  # fmt: skip
    return work_of(nn.Sequential(*layers))


def transformer(outliers: bool = False) -> Work:
    torch.manual_seed(0)
    net = ViT(size=16, patch=4, width=16, depth=2, heads=2).eval()
    for layer in net.layers:
        nn.init.normal_(layer.norm1.bias, 0, 0.3)
        nn.init.normal_(layer.norm2.bias, 0, 0.3)
        for product in (layer.attention.qkv, layer.attention.out, layer.mlp.fc1, layer.mlp.fc2):
            nn.init.xavier_normal_(product.weight, 1.5)
    return work_of(inject(net, 0, channels=2) if outliers else net)


def error(work: Work) -> float:
    """Of the outputs, relative to their spread over samples."""
    whole, found = (next(iter(work.outputs(work.samples, whole=each).values())) for each in (True, False))
    return float((found - whole).square().mean() / (whole - whole.mean(0)).square().mean())


def weight_error(work: Work) -> float:
    """Of all layers, the squared error of weights relative to their squares, weighed alike."""
    found = [value for name, value in weight_errors(work).items() if work.network.layer(name).weight in work.forms]
    assert found
    return sum(found) / len(found)


def after(work: Work, *methods: Any) -> Work:
    for method in methods:
        method.apply(work, silent)
    return work


# --- integers


@pytest.mark.parametrize(("make", "most"), [(residual, 0.02), (convs, 0.02), (transformer, 0.05)])
def test_seven_and_eight_bits_lose_little_and_every_layer_runs_in_integers(
    make: Any, most: float, tmp_path: Path
) -> None:
    work = after(make(), Plain())
    whole, found = (next(iter(work.outputs(work.samples, whole=each).values())) for each in (True, False))
    assert 0 < float((found - whole).square().mean().sqrt() / whole.square().mean().sqrt()) < most
    onnx.save(model_of(work), str(tmp_path / "net.onnx"))
    assert_fused(tmp_path / "net.onnx", work.network.layers)
    assert {form.spec.bits for form in work.forms.values()} == {7}


def test_fewer_bits_lose_more_and_what_is_kept_or_at_the_ends_has_more() -> None:
    errors = [error(after(convs(), Plain(weights=bits, activations=8, ends=bits))) for bits in (8, 6, 4, 2)]
    assert all(a < b for a, b in itertools.pairwise(errors))
    work = after(convs(), Plain(weights=3, activations=4, ends=8, keep=("/4/*",)))
    first, *_, last = work.network.layers
    bits = {
        layer.name: work.forms[layer.weight].spec.bits for layer in work.network.layers if layer.weight in work.forms
    }
    assert len(bits) == 3 and {bits[first.name], bits[last.name]} == {8} and sorted(bits.values()) == [3, 8, 8]
    assert work.levels[first.input].spec.bits == 8 and work.levels[work.network.layers[1].input].spec.bits == 4
    with pytest.raises(ModelError, match=r"find the layer 'nope\*'.*it has .*/0/Conv"):
        after(convs(), Plain(keep=("nope*",)))


def test_a_network_of_one_output_channel_is_compressed(tmp_path: Path) -> None:
    torch.manual_seed(0)
    work = after(work_of(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 1, 1))), Plain())
    onnx.save(model_of(work), str(tmp_path / "net.onnx"))
    assert [form.scale.shape for form in work.forms.values()] == [(8,), (1,)]


def test_samples_that_are_not_finite_name_the_tensor() -> None:
    work = convs()
    work.samples["input"][0] = float("nan")
    with pytest.raises(ModelError, match="tensor 'input' is not finite"):
        after(work, Plain())


# --- codebooks


def test_masked_codebooks_beat_both_their_baselines() -> None:
    def found(**options: Any) -> Work:
        return after(convs(), Mvq(codewords=16, tune=0, **options))

    ours, unmasked, plain = found(), found(masked=False), found(keep=0)
    assert weight_error(ours) < weight_error(unmasked) and weight_error(ours) < 0.8 * weight_error(plain)
    assert len(ours.forms) == 2  # the first has too few vectors to pay for a codebook; the last does not fit
    for form in ours.forms.values():
        assert isinstance(form, Coded) and form.mask is not None and form.mask.sum(1).eq(4).all()
        weight = ours.network.weight(form.layer)
        wanted = kept(form.cut.vectors(weight), 4, 8)
        assert form.mask.bool().equal(wanted)
        zeros = form.cut.vectors(form().detach()) == 0
        assert zeros[~wanted].all() and not zeros[wanted].all()


@pytest.mark.parametrize(("size", "keep", "of", "each"), [(8, 2, 4, 4), (16, 4, 16, 4), (8, 3, 5, 3), (4, 2, 8, 2)])
def test_the_largest_of_every_group_are_kept(size: int, keep: int, of: int, each: int) -> None:
    vectors = torch.randn(50, size, generator=torch.Generator().manual_seed(0))
    mask = kept(vectors, keep, of)
    assert mask.sum(1).eq(each).all()
    group = of if size % of == 0 else size
    for values, chosen in zip(vectors.abs().reshape(-1, group), mask.reshape(-1, group), strict=True):
        assert values[chosen].min() >= values[~chosen].max()


def test_codewords_that_are_tuned_lose_less() -> None:
    before, tuned = (after(convs(), Mvq(codewords=16, tune=tune)) for tune in (0, 30))
    assert error(tuned) < error(before) and tuned.gains and all(gain.after <= gain.before for gain in tuned.gains)
    assert all(form.mask.sum(1).eq(4).all() for form in tuned.forms.values())


def test_what_is_kept_learns_to_do_without_the_rest() -> None:
    before, adapted = (after(convs(), Mvq(codewords=256, adapt=each, tune=0)) for each in (0, 40))
    assert error(adapted) < 0.9 * error(before)
    for name, form in adapted.forms.items():
        other = before.forms[name]
        assert isinstance(form, Coded) and isinstance(other, Coded) and form.mask is not None and other.mask is not None
        assert form.mask.equal(other.mask), "what is kept is still the largest of the network's own weights"
        assert not form().equal(other())


def test_networks_share_one_frozen_codebook(monkeypatch: pytest.MonkeyPatch) -> None:
    shares: dict[int, list[float]] = {}
    choose = Candidates.choose

    def watched(form: Candidates, sure: float = 0.99) -> float:
        shares.setdefault(id(form), []).append(choose(form, sure))
        return shares[id(form)][-1]

    monkeypatch.setattr(Candidates, "choose", watched)
    works = [convs(16), transformer()]
    method = Vq4All(codewords=64, iterations=25, candidates=3)
    cut = Cut(8)
    fresh, unit = method.codebook([method._vectors(work, method._layers(work, cut), cut) for work in works])
    method.apply_to(works, silent)
    forms = [form for work in works for form in work.forms.values()]
    assert len(forms) > 10 and {type(form) for form in forms} == {Coded} and len({id(form.book) for form in forms}) == 1
    assert forms[0].book.codewords.equal(fresh.codewords) and unit > 0 and not fresh.codewords.requires_grad
    assert all(a <= b for each in shares.values() for a, b in itertools.pairwise(each))
    assert any(each[-1] > 0 for each in shares.values())
    held = [[numpy_helper.to_array(item).tobytes() for item in model_of(work).graph.initializer
             if "codebook" in item.name] for work in works]  # fmt: skip
    assert held[0] == held[1] and len(held[0]) == 1  # once in a file, whatever the number of layers


def test_codewords_are_chosen_without_data() -> None:
    works = []
    for _ in range(2):
        work = transformer()
        given = work.samples = {"input": torch.full((2, 3, 16, 16), float("nan"))}
        works.append(after(work, Vq4Dit(codewords=32, iterations=15, samples=16)))
        assert work.samples is given
    one, other = works
    assert {work.network.layer(each.layer.name).kind for work in works for each in work.forms.values()} == {
        "MatMul",
        "Gemm",
    }
    assert {type(form) for form in one.forms.values()} == {Coded} and len(one.forms) == 9  # not the embedding
    for name, form in one.forms.items():
        assert torch.isfinite(form()).all() and form().equal(other.forms[name]())
    one.samples = {"input": images()}
    assert weight_error(one) < 0.3
    assert all(gain.after <= gain.before for gain in one.gains) and any(gain.after < gain.before for gain in one.gains)


# --- transformers


@pytest.mark.parametrize("method", [RepQuant(bits=4), RepQuant(bits=4, clip=20), OutlierSuppression(steps=12)], ids=str)
def test_outliers_are_moved_into_the_products_and_the_function_stays(method: Any) -> None:
    work = after(transformer(outliers=True), method)
    ours, work.levels = work.levels, {}
    assert error(work) < 1e-8 and work.constants  # something was changed, but not what comes out
    assert bool(ours) == isinstance(method, RepQuant)
    ranges = []
    for which in (True, False):
        seen = [next(iter(work.seen([norm.output], whole=which)))[norm.output].flatten(0, 1) for norm in norms(work)]
        ranges.append([float(x.abs().amax(0).max() / x.abs().amax(0).median()) for x in seen])
    assert all(b < 0.5 * a for a, b in zip(*ranges, strict=True))


def test_four_bits_with_outliers_need_more_than_nearest_levels() -> None:
    plain = Plain(weights=4, activations=4, ends=8)
    alone, repquant, suppressed = (
        error(after(transformer(outliers=True), *before, plain))
        for before in ([], [RepQuant(bits=4)], [OutlierSuppression()])
    )
    assert repquant < 0.4 * alone and suppressed < 0.4 * alone


def test_levels_of_norms_are_one_scale_that_holds_every_channel() -> None:
    work = after(transformer(outliers=True), RepQuant(bits=8))
    for norm in norms(work):
        level = work.levels[norm.output]
        assert level.scale.ndim == 0
        x = work.network.run(work.samples, [norm.output], constants=work.constants)[norm.output]
        assert float((level(x) - x).detach().abs().max()) < 8 * float(level.scale.detach())
        assert len(level(x).detach().div(level.scale.detach()).round().unique()) > 100
    assert {level.tau for level in work.levels.values() if isinstance(level, Powers)} == {2}


@pytest.mark.parametrize(("bits", "tau"), [(2, 1), (4, 2), (6, 4)])
def test_softmaxes_get_the_powers_that_suit_their_bits(bits: int, tau: int) -> None:
    draw = torch.Generator().manual_seed(0)
    weights = (2 * torch.randn(4, 2, 64, 64, generator=draw)).softmax(-1)
    values = torch.randn(4, 2, 64, 16, generator=draw)
    best = best_powers([(weights, values)], bits)

    def lost(level: Any) -> float:
        return float(((level(weights) - weights) @ values).square().sum())

    assert best.tau == tau
    most = float(weights.max())
    assert lost(best) <= min(lost(Powers(bits, each, most)) for each in (1, 2, 4))


def test_keys_of_two_peaks_become_one() -> None:
    draw = np.random.default_rng(0)
    one, two = draw.normal(0, 1, 4000), np.concatenate([draw.normal(-5, 1, 2000), draw.normal(5, 1, 2000)])
    assert (peaks(one), peaks(two), peaks(np.zeros(10))) == (1, 2, 1)
    torch.manual_seed(0)
    net = ViT(size=16, patch=4, width=16, depth=1, heads=2).eval()
    with torch.no_grad():
        net.layers[0].attention.qkv.bias[16:32] = 8 * torch.tensor([1.0, -1.0] * 8)
    work = work_of(net)
    [attention] = attentions(work, {"input": work.samples["input"][:1]})
    before = work.run(work.samples, [attention.keys])[attention.keys]
    after(work, Ptq4Sam(bits=0))
    keys = work.run(work.samples, [attention.keys])[attention.keys]
    assert peaks(before.reshape(-1).numpy()) == 2 and peaks(keys.reshape(-1).numpy()) == 1
    assert error(work) < 1e-8 and not work.levels
    untouched = after(transformer(), Ptq4Sam(bits=4))
    assert not untouched.constants and len(untouched.levels) == 2


# --- sparsity


@pytest.mark.parametrize(
    "options", [{"steps": 0}, {"steps": 12}, {"steps": 12, "uniform": True, "learn_shares": False}], ids=str
)
@pytest.mark.parametrize("sparsity", [0.5, 0.8])
def test_the_rate_of_zeros_is_the_asked_one(sparsity: float, options: dict[str, Any]) -> None:
    work = after(convs(), Fcpts(sparsity=sparsity, batch=8, **options))
    zeros = sum(int((form() == 0).sum()) for form in work.forms.values())
    total = sum(work.network.weight(layer).numel() for layer in work.network.layers)
    assert {type(form) for form in work.forms.values()} == {Sparse}
    assert abs(zeros - sparsity * total) <= len(work.network.layers)


def test_shares_of_layers_sum_to_the_rate_and_small_layers_keep_more() -> None:
    shapes = [(16, 3, 3, 3), (32, 16, 3, 3), (32, 32, 3, 3), (10, 32)]
    for rate in (0.1, 0.5, 0.9):
        shares = fcpts.erk(shapes, rate)
        sizes = [float(np.prod(shape)) for shape in shapes]
        assert all(0 <= share < 1 for share in shares) and shares[2] > shares[1] >= shares[0] >= 0
        assert abs(sum(a * b for a, b in zip(shares, sizes, strict=True)) / sum(sizes) - rate) < 1e-6


def test_the_gradient_of_a_rate_is_the_density_of_weights() -> None:
    sizes = torch.randn(200_000, generator=torch.Generator().manual_seed(0)).abs()
    threshold = torch.tensor(0.7, requires_grad=True)
    rate = fcpts._Bridge.apply(threshold, sizes)
    rate.backward()
    width = float(sizes.max()) / 100
    low = int(0.7 / width) * width
    exact = float(((sizes >= low) & (sizes < low + width)).float().mean()) / width
    assert abs(float(rate.detach()) - float((sizes < 0.7).float().mean())) < 1e-6
    assert abs(float(threshold.grad) - exact) < 1e-2 * exact
    assert abs(exact - 2 * np.exp(-(0.7**2) / 2) / np.sqrt(2 * np.pi)) < 0.05  # p(t) + p(-t)


# --- learnt rounding


def test_no_block_gets_worse_and_rounding_is_learnt_alike_for_a_seed() -> None:
    def found(seed: int, *more: Any) -> Work:
        return after(
            convs(16),
            Plain(weights=3, activations=4, ends=4),
            *more,
            *([Reconstruct(iterations=60, seed=seed)] if seed else []),
        )

    nearest, one, again, other = found(0), found(1), found(1), found(2)
    assert len(one.gains) == len(one.network.blocks()) and all(gain.after <= gain.before for gain in one.gains)
    assert sum(gain.after for gain in one.gains) < 0.97 * sum(gain.before for gain in one.gains)
    assert error(one) < error(nearest) and one.gains == again.gains and one.gains != other.gains
    for name, form in one.forms.items():
        assert isinstance(form, Integers) and form().equal(again.forms[name]())
        assert float((form.levels() - form.exact).detach().abs().max()) <= 1
    assert any(not form().equal(nearest.forms[name]()) for name, form in one.forms.items())


# --- bits and channels


def test_bits_go_where_they_are_needed_and_no_more_than_asked() -> None:
    """Against all that could be chosen: the greedy choice is the best or nearly, and never beyond the size."""
    draw, bits = np.random.default_rng(0), [2, 4, 8]
    for _ in range(20):
        sizes = [int(size) for size in draw.integers(10, 100, 5)]
        losses = [list(np.sort(draw.exponential(size=3))[::-1] * [1, 0.3, 0.05]) for _ in sizes]
        average = float(draw.uniform(2.5, 7))
        found = allotted(losses, sizes, bits, average)

        def lost(chosen: Any, losses: Any = losses) -> float:
            return sum(each[bits.index(bit)] for each, bit in zip(losses, chosen, strict=True))

        fitting = [each for each in itertools.product(bits, repeat=5)
                   if np.dot(each, sizes) <= average * sum(sizes)]  # fmt: skip
        assert tuple(found) in fitting and lost(found) <= min(map(lost, fitting)) + 0.35 * lost([2] * 5)
    work = after(convs(), Mixed(average=4.0, choices=(3, 4, 7), samples=8))
    total = sum(form.spec.bits * work.network.weight(form.layer).numel() for form in work.forms.values())
    assert total <= 4.0 * sum(work.network.weight(layer).numel() for layer in work.network.layers)
    assert {form.spec.bits for form in work.forms.values()} > {7}  # the smallest layers have the most


def test_as_few_layers_as_a_latency_asks_for_run_in_integers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A computer on which the first layer is slower in integers, and every other one takes half its time."""
    names = [layer.name for layer in convs().network.layers]
    whole = dict(zip(names, (10.0, 40.0, 40.0, 10.0), strict=True))

    def times(work: Work) -> dict[str, float]:
        quantized = {layer.name for layer in work.network.layers if layer.weight in work.forms}
        return {name: took * (1 if name not in quantized else 2 if name == names[0] else 0.5)
                for name, took in whole.items()}  # fmt: skip

    monkeypatch.setattr(mixed_latency, "_times", times)
    monkeypatch.setattr(mixed_latency, "_share", lambda work: sum(times(work).values()) / 100)
    monkeypatch.setattr(mixed_latency, "_TRIED", 3)
    chosen_by_share = {}
    for share in (0.9, 0.7, 0.56):
        work = after(convs(), MixedLatency(share=share))
        chosen_by_share[share] = {form.layer.name for form in work.forms.values()}
        assert sum(times(work).values()) <= 100 * share
    assert len(chosen_by_share[0.9]) < len(chosen_by_share[0.7]) <= len(chosen_by_share[0.56]) == 3
    assert names[0] not in chosen_by_share[0.56], "what integers make slower stays in floating point"
    with pytest.raises(ModelError, match=r"in 0\.5 of its time: the fastest file takes 0\.55 of the whole network's"):
        after(convs(), MixedLatency(share=0.5))


def test_layers_are_measured_with_the_activations_that_their_kernels_take_in() -> None:
    work = residual()
    times = mixed_latency._times(work)
    assert all(mixed_latency._of(layer, work, times) > 0 for layer in work.network.layers)
    assert 0.05 < mixed_latency._share(work) < 20


def test_channels_have_their_means_and_deviations_again() -> None:
    before, work = after(convs(), Mvq(codewords=8, tune=0)), after(convs(), Mvq(codewords=8, tune=0), Recalibrate())
    layer = list(work.forms.values())[-1].layer
    whole, now = (next(iter(work.seen([layer.output], whole=each)))[layer.output] for each in (True, False))
    for moment in (torch.Tensor.mean, torch.Tensor.std):
        assert torch.allclose(moment(now, (0, 2, 3)), moment(whole, (0, 2, 3)), rtol=0.02, atol=1e-3)
    assert error(work) < error(before)
