"""SLTNet: released weights give the released outputs; streams, folds and the removal of dead blocks change nothing."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra 'train'")

import torch

from foveate.cli import main
from foveate.errors import ModelError
from foveate_nodes.models import counting
from foveate_nodes.segmentation import folding, liveness, neuron, released, states
from foveate_nodes.segmentation.energy import Rates
from foveate_nodes.segmentation.sltnet import Layout, SltNet

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(300)]
SMALL = Layout(bins=3, classes=4, width=8, dilations=((2,), (1, 2), (2,)), transformers=1)


def load(folder: Path, name: str) -> SltNet:
    with np.load(folder / f"models/sltnet/{name}_state_dict.npz") as arrays:
        return released.network_of(dict(arrays), name)


def lively(seed: int = 0, layout: Layout = SMALL) -> SltNet:
    """A network with random weights and norms, whose neurons fire."""
    torch.manual_seed(seed)
    net = SltNet(layout)
    for module in net.modules():
        if isinstance(module, (torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.ConvTranspose2d)):
            torch.nn.init.kaiming_normal_(module.weight)
        elif isinstance(module, torch.nn.BatchNorm2d):
            for tensor, low, high in ((module.weight, 0.5, 1.5), (module.bias, -0.3, 0.5),
                                      (module.running_mean, -0.3, 0.3), (module.running_var, 0.5, 2.0)):  # fmt: skip
                torch.nn.init.uniform_(tensor, low, high)
    return net.eval()


def slices(count: int, layout: Layout = SMALL, size: tuple[int, int] = (40, 56)) -> list[Any]:
    random = torch.Generator().manual_seed(5)
    return [torch.randn(2, layout.bins, *size, generator=random) for _ in range(count)]


def stream(net: Any, parts: list[Any]) -> list[Any]:
    neuron.reset(net)
    with torch.no_grad():
        return [net(part)[0] for part in parts]


def test_the_released_weights_give_the_released_outputs(shared_data: Path) -> None:
    net = load(shared_data, "ddd17")
    with np.load(shared_data / "models/sltnet/ddd17_golden.npz") as golden:
        voxel, logits, classes = torch.from_numpy(golden["voxel"])[None], golden["logits"], golden["classes"]
    found = stream(net, [voxel])[0][0].numpy()
    assert np.abs(found - logits).max() < 1e-4 and np.array_equal(found.argmax(0), classes)


@pytest.mark.parametrize(("name", "classes", "alive"), [("ddd17", 6, set()), ("dsec", 11, {"up.2.block"})])
def test_released_networks_are_mostly_dead_and_the_same_without(
    shared_data: Path, name: str, classes: int, alive: set[str]
) -> None:
    net = load(shared_data, name)
    assert net.layout.classes == classes
    assert {block for block, _ in liveness.blocks(net)} - set(liveness.dead(net)) == alive
    parts = slices(2, net.layout, (72, 96))
    stripped = liveness.without_dead(net)
    for one, other in zip(stream(net, parts), stream(stripped, parts), strict=True):
        assert torch.equal(one, other)
    count = [sum(parameter.numel() for parameter in each.parameters()) for each in (net, stripped)]
    assert count[1] < 0.55 * count[0]


def test_arrays_that_are_no_network_are_said_to_be_none(shared_data: Path) -> None:
    net = load(shared_data, "ddd17")
    with np.load(shared_data / "models/sltnet/ddd17_state_dict.npz") as file:
        arrays = dict(file)
    with pytest.raises(ModelError, match="not a released SLTNet"):
        released.network_of({"weight": np.zeros(3, np.float32)}, "x")
    del arrays["PA3.conv.weight"]
    with pytest.raises(ModelError, match=r"arrays are missing: \['gate.weight'\]"):
        released.network_of(arrays, "x")
    assert net.layout.bins == 5


def test_a_lively_network_fires_everywhere_and_has_no_dead_block() -> None:
    net = lively()
    rates: dict[str, float] = {}
    for name, module in neuron.neurons(net):
        module.register_forward_hook(lambda _, __, out, name=name: rates.__setitem__(name, float(out.mean())))
    stream(net, slices(1))
    entrances = [rate for name, rate in rates.items() if "enter" in name]
    assert min(entrances) > 0 and max(rates.values()) < 1 and not liveness.dead(net)


def test_time_steps_carry_membranes_and_a_reset_forgets_them() -> None:
    net, parts = lively(), slices(3)
    first, second, _ = stream(net, parts)
    assert not torch.equal(second, stream(net, parts[1:])[0])
    assert torch.equal(first, stream(net, parts)[0])


def test_a_state_in_and_out_is_the_stream() -> None:
    net, parts = lively(), slices(4)
    whole = stream(net, parts)
    stepping, state = states.Stepping(net), states.at_rest(net, 2, 40, 56)
    assert len(state) == len(list(neuron.neurons(net)))
    for part, expected in zip(parts, whole, strict=True):
        with torch.no_grad():
            logits, *state = stepping(part, *state)
        assert torch.equal(logits, expected)
    assert all(module.mem is None for _, module in neuron.neurons(net))


def test_a_stream_of_a_batch_is_that_of_each() -> None:
    net, parts = lively(), slices(3)
    whole = stream(net, parts)
    for k in range(2):
        for one, other in zip(stream(net, [part[k : k + 1] for part in parts]), whole, strict=True):
            assert torch.allclose(one, other[k : k + 1], atol=1e-4)


@pytest.mark.parametrize("seed", range(3))
def test_folded_networks_say_the_same(seed: int) -> None:
    """In double precision, where no spike hangs on the last bit of a float."""
    net = lively(seed).double()
    parts = [part.double() for part in slices(3)]
    made = folding.folded(net).double()
    left = [module for module in made.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert len(left) < 0.3 * len([module for module in net.modules() if isinstance(module, torch.nn.BatchNorm2d)])
    for one, other in zip(stream(net, parts), stream(made, parts), strict=True):
        assert float((one - other).abs().max()) < 1e-3 * float(one.abs().max())


def test_a_block_that_never_fires_is_found_and_taken_out() -> None:
    net = lively()
    block = dict(liveness.blocks(net))["stage.1.0"]
    torch.nn.init.constant_(block.enter.norm.weight, 1e-30)
    torch.nn.init.constant_(block.enter.norm.bias, 0.3)  # below the threshold at first, and at 0.4 after many steps
    assert liveness.dead(net) == []  # shifts behind the entrance fire by themselves
    for module in block.modules():
        if isinstance(module, torch.nn.BatchNorm2d) and module is not block.enter.norm:
            torch.nn.init.constant_(module.bias, 0.0)
            torch.nn.init.constant_(module.running_mean, 0.0)
    assert liveness.dead(net) == ["stage.1.0"]
    parts = slices(6)
    for one, other in zip(stream(net, parts), stream(liveness.without_dead(net), parts), strict=True):
        assert torch.equal(one, other)
    torch.nn.init.constant_(block.enter.norm.bias, 0.4)  # at 0.53 after many
    assert liveness.dead(net) == []


@pytest.mark.parametrize(("height", "width"), [(40, 56), (41, 57), (47, 63), (33, 40)])
def test_images_of_any_size_give_classes_of_that_size(height: int, width: int) -> None:
    logits = stream(lively(), slices(1, size=(height, width)))[0]
    assert logits.shape == (2, 4, height, width) and bool(torch.isfinite(logits).all())


def test_its_cost_is_the_papers(shared_data: Path) -> None:
    """1.40 G multiply-adds at 352 x 200, 0.91 of them in the stem (counted from the authors' code)."""
    net = load(shared_data, "ddd17")
    found = counting.layers(net, torch.zeros(1, 5, 200, 352))
    total = sum(layer.multiply_adds for layer in found)
    stem = sum(layer.multiply_adds for layer in found if layer.name.startswith("stem"))
    assert abs(total / 1.400e9 - 1) < 1e-3 and abs(stem / 0.912e9 - 1) < 1e-3
    assert sum(layer.parameters for layer in found) == sum(parameter.numel() for parameter in net.parameters())


def test_what_a_network_is_made_of_is_printed(
    shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(shared_data / "models/sltnet/dsec_state_dict.npz")
    assert main(["model", "info", path, "--size", "64x48", "--strip"]) == 0
    said = capsys.readouterr().out
    assert "11 of 12 blocks never fire" in said and "up.2.block.enter.norm" in said and "up.1.block" in said
    (tmp_path / "text.npz").write_text("no arrays")
    for name, why in (("text.npz", "not an .npz of arrays"), ("none.npz", "no such file")):
        assert main(["model", "info", str(tmp_path / name)]) == 1
        error = capsys.readouterr().err
        assert why in error and error.count("\n") == 1


# --- the neuron


def test_the_neuron_is_snntorchs() -> None:
    snntorch = pytest.importorskip("snntorch", reason="the other implementation (extra train)")
    theirs = snntorch.Leaky(beta=0.25, threshold=0.5, reset_mechanism="zero", reset_delay=False)
    ours, mem = neuron.Leaky(0.25, 0.5), theirs.init_leaky()
    for x in torch.randn(20, 1000, generator=torch.Generator().manual_seed(1)):
        spikes, mem = theirs(x, mem)
        assert torch.equal(ours(x), spikes) and torch.allclose(ours.mem, mem)


def test_a_membrane_leaks_fires_and_starts_from_zero() -> None:
    cell = neuron.Leaky(beta=0.5, threshold=1.0)
    given = [float(cell(torch.tensor([x]))) for x in (0.8, 0.8, 0.0, 0.9, 0.5, 2.0)]
    assert given == [0, 1, 0, 0, 0, 1]  # membranes 0.8, 1.2 (fires), 0, 0.9, 0.95, 2.475 (fires)


def slope_of(spike_grad: Any, over: Any) -> Any:
    """The gradient behind a layer of neurons at rest whose inputs exceed the threshold by this much."""
    cell = neuron.Leaky(threshold=0.5, spike_grad=spike_grad)
    input_ = (over + 0.5).detach().requires_grad_(True)
    spikes = cell(input_)
    assert torch.equal(spikes, (over > 0).to(over.dtype))
    spikes.sum().backward()
    return input_.grad.numpy()


@pytest.mark.parametrize("spike_grad", [neuron.tanh_window(3.0), neuron.fast_sigmoid(4.0)])
def test_a_surrogate_is_a_step_with_a_bump_for_a_slope(spike_grad: Any) -> None:
    slope = slope_of(spike_grad, torch.linspace(-2, 2, 400, dtype=torch.float64))
    assert slope.argmax() in (199, 200) and np.allclose(slope, slope[::-1]) and (slope >= 0).all()


def test_the_papers_surrogate_is_the_derivative_of_its_tanh_and_nothing_beyond() -> None:
    """g(z) = (tanh(k (clip(z, 0, 1) - 1/2)) + tanh(k/2)) / (2 tanh(k/2)) at membrane z, threshold 1/2."""
    k, at = 3.0, np.linspace(-0.5, 1.5, 201) + 1e-9
    found = slope_of(neuron.tanh_window(k), torch.from_numpy(at) - 0.5)

    def smooth(values: Any) -> Any:
        return (np.tanh(k * (np.clip(values, 0, 1) - 0.5)) + np.tanh(k / 2)) / (2 * np.tanh(k / 2))

    slope = (smooth(at + 1e-6) - smooth(at - 1e-6)) / 2e-6
    inner = (np.abs(at) > 1e-3) & (np.abs(at - 1) > 1e-3)
    assert np.allclose(found[inner], slope[inner], atol=1e-5)
    assert not found[(at < -1e-3) | (at > 1 + 1e-3)].any()


def test_fast_sigmoids_gradient_is_that_of_its_curve() -> None:
    over = np.linspace(-2, 2, 81) + 1e-3
    found = slope_of(neuron.fast_sigmoid(4.0), torch.from_numpy(over))

    def curve(values: Any) -> Any:
        return values / (1 + 4 * np.abs(values))

    assert np.allclose(found, (curve(over + 1e-6) - curve(over - 1e-6)) / 2e-6, atol=1e-5)


def test_gradients_through_time_are_those_of_single_operations() -> None:
    """Leak and charge by autograd, spikes by the surrogate, nothing through the reset: that is what the one operation
    gives, for many steps at once and step by step."""

    class Spike(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, over: Any) -> Any:
            ctx.save_for_backward(over)
            return (over > 0).to(over.dtype)

        @staticmethod
        def backward(ctx: Any, gradient: Any) -> Any:
            return neuron.fast_sigmoid(4.0)(gradient, ctx.saved_tensors[0])

    random = torch.Generator().manual_seed(3)
    given = torch.randn(5, 4, 6, generator=random, dtype=torch.float64) + 0.3
    weight = torch.randn(5, 4, 6, generator=random, dtype=torch.float64)

    def gradient(run: Any) -> Any:
        input_ = given.clone().requires_grad_(True)
        (run(input_) * weight).sum().backward()
        return input_.grad

    def by_hand(input_: Any) -> Any:
        mem, spikes = torch.zeros(4, 6, dtype=torch.float64), []
        for now in input_:
            charged = 0.25 * mem + now
            spikes.append(Spike.apply(charged - 0.5))
            mem = charged * (1 - spikes[-1].detach())
        return torch.stack(spikes)

    def stepwise(input_: Any) -> Any:
        cell = neuron.Leaky(spike_grad=neuron.fast_sigmoid(4.0))
        return torch.stack([cell(now) for now in input_])

    def at_once(input_: Any) -> Any:
        cell = neuron.Leaky(spike_grad=neuron.fast_sigmoid(4.0))
        with neuron.many_steps(cell, 5):
            return cell(input_.flatten(0, 1)).view_as(input_)

    expected = gradient(by_hand)
    assert expected.abs().sum() > 1
    assert torch.allclose(gradient(stepwise), expected) and torch.allclose(gradient(at_once), expected)


def test_an_integrator_gives_its_membrane_and_is_no_neuron_that_could_fire() -> None:
    cell = neuron.Integrator(beta=0.5, threshold=0.1)
    assert [float(cell(torch.tensor([1.0]))) for _ in range(3)] == [1.0, 1.5, 1.75]
    net = lively(layout=dataclasses.replace(SMALL, readout=neuron.Integrator))
    with Rates(net) as rates:
        stream(net, slices(1))
    assert "up_spike.2.spike" not in rates.layers() and "up_spike.1.spike" in rates.layers()


@pytest.mark.parametrize("readout", [None, neuron.Integrator])
def test_a_stream_and_all_its_steps_at_once_are_the_same(readout: Any) -> None:
    net = lively(layout=dataclasses.replace(SMALL, readout=readout)).double()
    parts = [part.double() for part in slices(4)]
    one_by_one = torch.cat(stream(net, parts))
    left = {name: cell.mem for name, cell in neuron.neurons(net)}
    neuron.reset(net)
    with torch.no_grad(), neuron.many_steps(net, 4):
        at_once = net(torch.cat(parts))[0]
    assert torch.allclose(at_once, one_by_one, atol=1e-9)
    assert all(torch.allclose(cell.mem, left[name], atol=1e-9) for name, cell in neuron.neurons(net))
    memoryless = torch.cat([stream(net, [part])[0] for part in parts])
    assert not torch.allclose(memoryless, one_by_one, atol=1e-3)  # membranes do matter


def test_silent_neurons_learn_only_where_the_surrogate_has_tails() -> None:
    silent = torch.full((5,), -3.0)
    assert not slope_of(neuron.tanh_window(), silent).any()
    assert (slope_of(neuron.fast_sigmoid(), silent) > 0).all()
