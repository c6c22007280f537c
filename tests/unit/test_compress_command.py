"""`foveate compress`: files that give what was simulated, manifests, reports; and what it refuses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")
onnx = pytest.importorskip("onnx", reason="needs the extra 'compress'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra 'compress'")

from onnx import helper  # noqa: E402
from torch import nn  # noqa: E402

from foveate.cli import main  # noqa: E402
from foveate.errors import GraphError, ModelError  # noqa: E402
from foveate.paths import launch_folder  # noqa: E402
from foveate_compression import kept, quantizers, recipe  # noqa: E402
from foveate_compression.export.fused import assert_fused, in_integers, kernels  # noqa: E402
from foveate_compression.export.writer import ARM, X86, Profile, model_of  # noqa: E402
from foveate_compression.methods.dynamic import Dynamic  # noqa: E402
from foveate_compression.methods.fcpts import Fcpts  # noqa: E402
from foveate_compression.methods.mvq import Mvq  # noqa: E402
from foveate_compression.methods.plain import Plain  # noqa: E402
from foveate_compression.methods.ptq4sam import Ptq4Sam  # noqa: E402
from foveate_compression.methods.reconstruct import Reconstruct  # noqa: E402
from foveate_compression.network import Network  # noqa: E402
from foveate_compression.preparation import exported  # noqa: E402
from foveate_compression.work import Work  # noqa: E402
from foveate_drivers.backends.loading import load  # noqa: E402
from foveate_drivers.backends.manifest import Manifest  # noqa: E402
from foveate_drivers.backends.onnx import OnnxBackend  # noqa: E402
from tests.unit.test_compression_graph import model  # noqa: E402
from tests.unit.test_compression_methods import after, convs, images, residual, transformer, work_of  # noqa: E402

pytestmark = pytest.mark.heavy
Capture = pytest.CaptureFixture[str]


def run(made: Any, given: dict[str, Any], tmp_path: Path) -> dict[str, Any]:
    """The file's outputs by name, sample by sample."""
    onnx.save(made, str(tmp_path / "net.onnx"))
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(tmp_path / "net.onnx"), options)
    names = [item.name for item in session.get_outputs()]
    count = len(next(iter(given.values())))
    found = [session.run(None, {name: value[i : i + 1].numpy() for name, value in given.items()}) for i in range(count)]
    return {name: np.concatenate([each[i] for each in found]) for i, name in enumerate(names)}


# --- files


@pytest.mark.parametrize("profile", [X86, ARM], ids=["x86", "arm"])
@pytest.mark.parametrize("bits", [8, 4])
def test_the_files_levels_are_those_of_the_simulation(bits: int, profile: Profile, tmp_path: Path) -> None:
    work = after(convs(), Plain(weights=4, activations=bits, ends=4))
    made = model_of(work, profile)
    names = list(work.levels)[:3]
    for name in names:
        made.graph.output.append(helper.make_empty_tensor_value_info(f"{name}.levels"))
    found, ours = run(made, work.samples, tmp_path), work.run(work.samples, names)
    for name in names:
        level = work.levels[name]
        off = np.round((found[f"{name}.levels"] - ours[name].detach().numpy()) / float(level.scale.detach()))
        assert np.abs(off).max() <= 1 and (off == 0).mean() >= 0.999
        places = np.unique(np.round(found[f"{name}.levels"] / float(level.scale.detach())))
        assert 2**bits / 3 < len(places) <= 2**level.spec.bits


@pytest.mark.parametrize("profile", [X86, Profile(int4=True), ARM], ids=["x86", "int4", "arm"])
@pytest.mark.parametrize("name", ["integers", "codebook", "masked", "learnt"])
@pytest.mark.parametrize("make", [convs, residual], ids=["plain net", "residual net"])
def test_whatever_is_stored_becomes_integer_kernels(
    make: Callable[[], Any], name: str, profile: Profile, tmp_path: Path
) -> None:
    plain = Plain(weights=4, activations=8, ends=4)
    methods = {"integers": [plain], "codebook": [Mvq(codewords=8, keep=0, tune=0), plain],
               "masked": [Mvq(codewords=8, tune=0), plain],
               "learnt": [plain, Reconstruct(iterations=2)]}[name]  # fmt: skip
    work = after(make(), *methods)
    made = model_of(work, profile)
    found = run(made, work.samples, tmp_path)["output"]
    ours = work.outputs(work.samples)["output"].numpy()
    assert np.abs(found - ours).max() < 0.02 * np.abs(ours).max()
    kinds = {node.op_type for node in made.graph.node}
    assert ("Gather" in kinds) == (name in ("codebook", "masked")) and ("Where" in kinds) == (name == "masked")
    assert any(item.data_type == onnx.TensorProto.INT4 for item in made.graph.initializer) == profile.int4
    signed = profile.signed_activations
    assert_fused(tmp_path / "net.onnx", work.network.layers, signed)
    assert not {"Gather", "Where", "Cast", "Conv", "Gemm", "FusedConv"} & kernels(tmp_path / "net.onnx", signed).keys()


@pytest.mark.parametrize("method", [Plain(activations=0, weights=5), Mvq(codewords=8, tune=0), Fcpts(steps=0),
                                    Plain(activations=0, weights=4)],
                         ids=["levels", "codebook", "sparse", "four"])  # fmt: skip
@pytest.mark.parametrize("make", [convs, transformer])
def test_files_of_weights_alone_give_what_is_simulated(make: Callable[[], Any], method: Any, tmp_path: Path) -> None:
    work = after(make(), method)
    assert work.forms and not work.levels
    found = run(model_of(work, Profile(int4=True)), work.samples, tmp_path)["output"]
    ours = work.outputs(work.samples)["output"].numpy()
    whole = work.outputs(work.samples, whole=True)["output"].numpy()
    assert np.abs(found - ours).max() < 1e-5 * max(1.0, np.abs(ours).max()) < np.abs(whole - ours).max()
    assert not {"MatMulNBits", "DequantizeLinear"} & kernels(tmp_path / "net.onnx").keys()


@pytest.mark.parametrize("bits", [4, 8])
def test_convolutions_before_a_relu6_run_in_integers_with_fewer_bits_too(bits: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU6(), nn.Conv2d(16, 16, 3, groups=16), nn.ReLU6(),
                        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))  # fmt: skip
    net[0].weight.data *= 20  # some of it is beyond 6
    work = after(work_of(net), Plain(activations=bits, activation_range="minmax"))
    found, ours = run(model_of(work), work.samples, tmp_path)["output"], work.outputs(work.samples)["output"].numpy()
    assert float(work.run(work.samples, ["/1/Clip_output_0"])["/1/Clip_output_0"].detach().max()) > 5.9
    assert np.abs(found - ours).max() < 0.02 * np.abs(ours).max()
    assert_fused(tmp_path / "net.onnx", work.network.layers)
    made = onnx.load(str(tmp_path / "net.onnx")).graph
    assert {item.name for item in made.initializer} <= {name for node in made.node for name in node.input}


def test_what_a_head_gives_is_not_rounded(tmp_path: Path) -> None:
    """One scale for boxes and classes of a detector left its boxes steps of 0.7 px."""

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body, self.boxes, self.classes = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 2, 1)

        def forward(self, x: Any) -> Any:
            x = torch.relu(self.body(x))
            return torch.cat([100 * self.boxes(x), torch.sigmoid(self.classes(x))], 1).flatten(2)

    torch.manual_seed(0)
    work = after(work_of(Head()), Plain())
    body, *heads = work.network.layers
    assert set(work.levels) == {body.input, heads[0].input}
    assert work.in_integers(body) and not any(work.in_integers(layer) for layer in heads)
    found, ours = run(model_of(work), work.samples, tmp_path)["output"], work.outputs(work.samples)["output"].numpy()
    assert np.abs(found - ours).max() < 1e-4 * np.abs(ours).max()
    assert kernels(tmp_path / "net.onnx")["QLinearConv"] == 1


def test_masks_are_a_bit_an_entry_whatever_their_number(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 16, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    work = after(work_of(net), Mvq(size=4, codewords=2, keep=2, of=4, tune=0))
    masks = [form.mask for form in work.forms.values()]
    assert [mask.numel() % 8 for mask in masks] == [4, 0]
    made = model_of(work)
    held = {item.name: item for item in made.graph.initializer}
    assert held["masks"].dims == [256, 8] and sum(name.endswith("mask.held") for name in held) == 2
    assert [held[f"{name}.mask.held"].dims[0] for name in work.forms] == [(mask.numel() + 7) // 8 for mask in masks]
    ours = work.outputs(work.samples)["output"].numpy()
    assert np.abs(run(made, work.samples, tmp_path)["output"] - ours).max() < 1e-5


@pytest.mark.parametrize("int4", [False, True])
@pytest.mark.parametrize("first", [[], [Mvq(codewords=8, size=4, keep=0, tune=0)]], ids=["levels", "codebook"])
def test_products_with_ranges_of_their_own_run_make_one_kernel(first: list[Any], int4: bool, tmp_path: Path) -> None:
    work = after(transformer(), *first, Dynamic(weights=4 if int4 else 7))
    products = [layer for layer in work.network.layers if layer.kind != "Conv"]
    assert {type(work.levels[layer.input]) for layer in products} == {quantizers.Dynamic}
    found = run(model_of(work, Profile(int4=int4)), work.samples, tmp_path)["output"]
    ours = work.outputs(work.samples)["output"].numpy()
    whole = work.outputs(work.samples, whole=True)["output"].numpy()
    assert np.abs(found - ours).max() < 0.2 * np.abs(whole - ours).max()
    kinds = kernels(tmp_path / "net.onnx")
    assert kinds["DynamicQuantizeMatMul"] == len(products) and "MatMulInteger" not in kinds
    assert in_integers(tmp_path / "net.onnx", work.network.layers) == products


def test_a_range_of_its_own_run_is_that_of_dynamic_quantize_linear(tmp_path: Path) -> None:
    factors = torch.tensor([1, 9, 1e-3, 0, 1, 5.0])[:, None, None]
    x = torch.randn(6, 5, 7, generator=torch.Generator().manual_seed(0)) * factors
    x[4] = x[4].abs() + 3
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"]),
             helper.make_node("DequantizeLinear", ["q", "s", "z"], ["y"])]  # fmt: skip
    made = model(nodes, {"x": x[:1].numpy()}, ["y"])
    assert np.allclose(run(made, {"x": x}, tmp_path)["y"], quantizers.Dynamic()(x).numpy(), rtol=0, atol=1e-6)


def test_a_network_without_products_is_not_dynamic() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1))
    with pytest.raises(ModelError, match="cannot find products with inputs of their own: 'plain' is for convolutions"):
        after(work_of(net), Dynamic())


@pytest.mark.parametrize("make", [convs, residual, transformer])
def test_a_quantized_file_is_taken_as_the_network_whose_levels_it_holds(make: Callable[[], Any]) -> None:
    first = after(make(), Plain(weights=6))
    again = Work(Network(model_of(first), "small"), first.samples)
    assert not {"QuantizeLinear", "DequantizeLinear", "Clip"} & {step.kind for step in again.network.graph.steps}
    assert len(again.network.layers) == len(first.network.layers)
    for layer in first.network.layers:
        assert torch.allclose(first.weight(layer), again.weight(again.network.layer(layer.name)), atol=1e-6)
    rounded_weights = Work(first.network, first.samples)
    rounded_weights.forms = first.forms
    found, wanted = (work.outputs(work.samples)["output"] for work in (again, rounded_weights))
    assert float((found - wanted).abs().max()) < 2e-2 * float(wanted.abs().max()), "biases are whole numbers there"


@pytest.mark.parametrize(("least", "kinds"), [(0, ["Conv", "Relu", "Conv"]), (128, ["Conv", "Conv"])])
def test_a_range_that_begins_at_zero_is_a_relu(least: int, kinds: list[str], tmp_path: Path) -> None:
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("QuantizeLinear", ["a", "s", "z"], ["q"]),
             helper.make_node("DequantizeLinear", ["q", "s", "z"], ["b"]), helper.make_node("Conv", ["b", "w"], ["y"]),
             helper.make_node("QuantizeLinear", ["y", "s", "z"], ["r"]),
             helper.make_node("DequantizeLinear", ["r", "s", "z"], ["output"])]  # fmt: skip
    weight = torch.randn(3, 3, 1, 1, generator=torch.Generator().manual_seed(0)).numpy()
    x = images(4).numpy() - 0.5
    held = {"w": weight, "s": np.float32(0.05), "z": np.uint8(least)}
    made = model(nodes, {"x": x[:1]}, ["output"], held)
    network = Network(made, "small")
    assert [step.kind for step in network.graph.steps][: len(kinds)] == kinds
    whole = network.run({"x": torch.from_numpy(x)})["output"].numpy()
    assert np.abs(run(made, {"x": torch.from_numpy(x)}, tmp_path)["output"] - whole).max() < 0.2 < np.abs(whole).max()


def test_powers_of_softmaxes_are_in_the_file(tmp_path: Path) -> None:
    work = after(transformer(), Ptq4Sam(bits=4))
    [name, _] = work.levels
    made = model_of(work)
    made.graph.output.append(helper.make_empty_tensor_value_info(f"{name}.levels"))
    found, ours = run(made, work.samples, tmp_path), work.run(work.samples, [name])[name].numpy()
    off = np.abs(found[f"{name}.levels"] - ours) > 1e-6
    assert off.mean() < 1e-3 and len(np.unique(ours)) <= 17
    assert np.abs(found["output"] - work.outputs(work.samples)["output"].numpy()).max() < 1e-2


def test_layers_that_do_not_run_in_integers_are_named(tmp_path: Path) -> None:
    work = after(convs(), Plain())
    del work.levels[work.network.layers[2].input]  # behind the second convolution
    onnx.save(model_of(work), str(tmp_path / "net.onnx"))
    layers = work.network.layers
    named = f"'{layers[1].name}', '{layers[2].name}'"
    with pytest.raises(ModelError, match=rf"2 of 4 layers do not: {named}; onnxruntime left 2 Conv"):
        assert_fused(tmp_path / "net.onnx", layers)
    assert in_integers(tmp_path / "net.onnx", layers) == [layers[0], layers[3]]


def test_layers_that_shared_a_weight_are_told_apart(tmp_path: Path) -> None:
    conv = nn.Conv2d(3, 3, 3)
    work = after(work_of(nn.Sequential(conv, nn.ReLU(), conv, nn.ReLU(), nn.Conv2d(3, 4, 1))), Plain())
    first, second, _ = work.network.layers
    assert second.weight.startswith(f"{first.weight}.of.")
    del work.levels[first.input]
    onnx.save(model_of(work), str(tmp_path / "net.onnx"))
    assert in_integers(tmp_path / "net.onnx", work.network.layers) == [second]


def test_transposed_convolutions_have_no_integer_kernel_and_are_no_reason_to_refuse(net: Path) -> None:
    module = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(8, 6, 2, 2), nn.ReLU(), nn.Conv2d(6, 2, 1)
    )
    onnx.save(exported(module, images(1)), str(net))
    assert compress(net, "int8", "--from", "samples.npz") == 0
    said = json.loads(Path("small.json").read_text())
    assert said["integer_layers"] == 1 and len(said["float_layers"]) == 2


# --- the command


RECIPE = """calibration: {count: 16}
steps:
  - {method: plain, weights: 5, activations: 6}
  - {method: reconstruct, iterations: 6}
"""


@pytest.fixture
def net(in_tmp: Path) -> Path:
    """A network, samples with labels, images in a folder, and a recipe, in the current folder."""
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, 1, 1), nn.ReLU(),
                           nn.Flatten(), nn.Linear(256, 4))  # fmt: skip
    onnx.save(exported(module, images(1)), "net.onnx")
    np.savez("samples.npz", input=images().numpy(), label=np.arange(24) % 4)
    for kind in ("cat", "dog"):
        Path("photos", kind).mkdir(parents=True)
        for i in range(3):
            cv2.imwrite(f"photos/{kind}/{i}.png", np.full((20, 24, 3), 40 * i, np.uint8))
    Path("recipe.yaml").write_text(RECIPE, encoding="utf-8")
    return Path("net.onnx")


def compress(net: Path, recipe_: str = "recipe.yaml", *more: str, output: str = "small.onnx") -> int:
    return main(["compress", str(net), *more, "--recipe", recipe_, "--output", output, "--threads", "1"])


def test_a_network_is_compressed_end_to_end(net: Path, capsys: Capture) -> None:
    net.with_suffix(".json").write_text(json.dumps({"classes": ["a", "b", "c", "d"], "input": "RGB", "sha256": "old"}))
    assert compress(net, "recipe.yaml", "--from", "samples.npz", "--test", "samples.npz") == 0
    said = capsys.readouterr().out
    assert all(line.startswith(("small.onnx: ", "  ")) for line in said.splitlines())  # nothing but ours
    assert "3 of 3 layers in integers" in said and "accuracy" in said and "report: small.html" in said
    small = Path("small.onnx")
    found = Manifest.beside(small)
    assert found is not None and found.classes == ("a", "b", "c", "d") and found.data["compressed_from"] == "net.onnx"
    assert (
        found.data["integer_layers"] == 3
        and found.data["float_layers"] == []
        and found.data["recipe"]["steps"][1]["iterations"] == 6
    )
    found.verify(small)
    backend = OnnxBackend(small)
    assert found.prove(small, backend) == 0.0
    page = Path("small.html").read_text(encoding="utf-8")
    assert "<svg" in page and "http" not in page and "Blocks that were learnt" in page and "integers" in page
    assert {path.name for path in Path().iterdir()} == {
        "net.onnx", "net.json", "samples.npz", "photos", "recipe.yaml", "small.onnx", "small.json", "small.golden.npz",
        "small.html",
    }  # fmt: skip


def test_files_that_were_changed_are_refused(net: Path) -> None:
    assert compress(net) == 0
    small, draw = Path("small.onnx"), np.random.default_rng(0)
    found = Manifest.beside(small)
    assert found is not None
    for _ in range(300):
        bytes_ = bytearray(small.read_bytes())
        bytes_[draw.integers(len(bytes_))] ^= 1 << draw.integers(8)
        Path("changed.onnx").write_bytes(bytes_)
        with pytest.raises(ModelError, match="SHA-256"):
            found.verify(Path("changed.onnx"))
    with np.load("small.golden.npz") as pair:
        np.savez("small.golden.npz", image=pair["image"], output=pair["output"] + 1)
    with pytest.raises(ModelError, match="golden output is off by 1"):
        found.prove(small, OnnxBackend(small))


@pytest.mark.parametrize("source", ["samples.npz", "photos", "photos/cat/*.png", None])
def test_samples_come_from_arrays_images_or_noise(source: str | None, net: Path, capsys: Capture) -> None:
    given = ["--from", source, "--test", "photos"] if source else []
    assert compress(net, "int8", *given) == 0
    out, err = capsys.readouterr()
    assert ("no --from: calibrated on noise" in err) == (source is None) and ("accuracy" in out) == (source is not None)


def test_samples_come_from_a_recording(net: Path, capsys: Capture) -> None:
    Path("flat").mkdir()
    for i in range(5):
        cv2.imwrite(f"flat/{i}.png", np.full((24, 32, 3), 50 * i, np.uint8))
    command = "run record_camera --set camera=images:flat --executor virtual --quiet --no-report --output log"
    assert main(command.split()) == 0
    assert compress(net, "int8", "--from", "log/run.mcap#camera.frame") == 0
    capsys.readouterr()
    assert compress(net, "int8", "--from", "log/run.mcap#wide.frame", output="b.onnx") == 1
    error = capsys.readouterr().err
    assert "no stream 'wide.frame' of frames; it has camera.frame" in error and error.count("\n") == 1
    assert not list(Path().glob("b.*"))


def test_an_interrupted_compression_goes_on_where_it_was(net: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert compress(net, "recipe.yaml", "--from", "samples.npz", output="whole.onnx") == 0
    done: list[str] = []
    plain, learn = Plain.apply, Reconstruct.apply

    def stopped(*_: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Plain, "apply", lambda *given: (done.append("plain"), plain(*given))[1])
    monkeypatch.setattr(Reconstruct, "apply", stopped)
    assert compress(net, "recipe.yaml", "--from", "samples.npz") == 130
    assert done == ["plain"] and Path("small.compression/kept.pt").exists() and not Path("small.onnx").exists()
    monkeypatch.setattr(Reconstruct, "apply", learn)
    assert compress(net, "recipe.yaml", "--from", "samples.npz") == 0
    assert done == ["plain"] and not Path("small.compression").exists()
    for suffix in (".onnx", ".golden.npz"):
        assert Path(f"small{suffix}").read_bytes() == Path(f"whole{suffix}").read_bytes()


def test_a_network_with_state_is_proven_from_rest(net: Path) -> None:
    draw = np.random.default_rng(0)
    image, state = (draw.normal(size=(1, size, 8, 8)).astype(np.float32) for size in (3, 8))
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4), helper.make_node("Add", ["c", "state"], ["y"])]
    weight = draw.normal(size=(8, 3, 3, 3)).astype(np.float32)
    made = model(nodes, {"x": image, "state": state}, ["y"], {"w": weight})
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 8, 8, 8]))
    onnx.save(made, str(net))
    net.with_suffix(".json").write_text(
        json.dumps({"classes": ["a"], "sha256": "old", "golden_tolerance": 0, "golden_agreement": 0.98})
    )
    np.savez("feeds.npz", x=image.repeat(6, 0), state=10 * state.repeat(6, 0))
    assert compress(net, "recipe.yaml", "--from", "feeds.npz") == 0
    loaded = load(Path("small.onnx"))
    loaded.prove()
    assert loaded.manifest is not None and loaded.manifest.agreement == 0.98


def test_what_was_kept_of_another_recipe_or_was_damaged_is_not_taken_up(net: Path, capsys: Capture) -> None:
    Path("small.compression").mkdir()
    Path("small.compression/kept.pt").write_bytes(b"nothing")
    assert compress(net) == 1
    assert "small.compression/kept.pt: cannot go on from it: damaged" in capsys.readouterr().err
    torch.save({"said": "another", "steps": 2}, "small.compression/kept.pt")
    assert compress(net) == 0


@pytest.mark.parametrize("methods", [[Plain(), Reconstruct(iterations=2)], [Mvq(codewords=8, tune=0)], [Fcpts(steps=0)],
                                     [Ptq4Sam(), Plain(attention=True)], [Dynamic(), Plain()]], ids=str)  # fmt: skip
def test_what_is_kept_between_steps_comes_back(methods: list[Any], tmp_path: Path) -> None:
    make = transformer if isinstance(methods[0], (Ptq4Sam, Dynamic)) else residual
    work, fresh = after(make(), *methods), make()
    kept.keep([work], tmp_path / "a.pt", "said", 3)
    assert kept.taken_up([fresh], tmp_path / "a.pt", "other") == 0 and not fresh.forms
    assert kept.taken_up([fresh], tmp_path / "a.pt", "said") == 3
    assert fresh.outputs(work.samples)["output"].equal(work.outputs(work.samples)["output"])
    assert model_of(fresh).SerializeToString() == model_of(work).SerializeToString()
    first: dict[int, str] = {}
    for name, level in work.levels.items():  # two tensors may share one scale, that is learnt for both
        assert fresh.levels[name] is fresh.levels[first.setdefault(id(level), name)]


def test_networks_are_joined_by_one_codebook(net: Path) -> None:
    onnx.save(convs(16).network.model, "other.onnx")
    Path("both.yaml").write_text("steps: [{method: vq4all, codewords: 32, iterations: 2}, {method: plain}]\n")
    assert compress(net, "both.yaml", "other.onnx", output="small") == 0
    kinds = (".onnx", ".json", ".golden.npz", ".html")
    names = {f"{stem}.small{suffix}" for stem in ("net", "other") for suffix in kinds}
    assert {path.name for path in Path("small").iterdir()} == names
    Path("twin").mkdir()
    Path("twin/net.onnx").write_bytes(net.read_bytes())
    assert compress(net, "both.yaml", "twin/net.onnx", output="twins") == 1
    assert not Path("twins").exists()


# --- what is refused


def test_every_mistake_of_a_recipe_has_its_line_and_column(net: Path, capsys: Capture) -> None:
    lines = ["calibration: {count: 0, sed: 1}", "step: []", "steps:", "  - {method: plane}",
             "  - {method: plain, weights: 9, weight: 3}", "  - {weights: 3}", "  - {method: mvq, along: up}",
             "export: {target: vax, int4: 2}"]  # fmt: skip
    Path("bad.yaml").write_text("\n".join(lines), encoding="utf-8")
    before = sorted(Path().rglob("*"))
    assert compress(net, "bad.yaml") == 2
    lines = capsys.readouterr().err.splitlines()
    wanted = ["1:22: count", "1:25: unknown option 'sed'; did you mean 'seed'", "2:1: unknown key 'step'",
              "4:14: unknown method 'plane'; did you mean 'plain'", "5:30: weights: ", "5:33: unknown option 'weight'",
              "6:5: a step is a mapping with 'method'", "7:26: along: ", "8:18: target: ", "8:29: int4"]  # fmt: skip
    for start in wanted:
        assert any(line.startswith(f"bad.yaml:{start}") for line in lines), (start, lines)
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize("text", ["[1]", "steps: 3", "steps: []", "{}", "steps: [plain]", "steps: [{method: [1]}]", "",
                                  "export: 3", "steps: [{method: plain, keep: 3}]",
                                  "steps: [{method: plain, weights: yes}]"])  # fmt: skip
def test_what_is_no_recipe_is_said_to_be_none(text: str) -> None:
    with pytest.raises(GraphError, match=r"^r\.yaml:1:\d+: "):
        recipe.of_text(text + "\n", "r.yaml")


def test_shipped_recipes_are_right() -> None:
    found = {path.stem: recipe.read(path).steps for path in (launch_folder() / "recipes").glob("*.yaml")}
    assert found.keys() >= {"int8", "mvq", "sparse", "vit4", "vq4all", "w4a4"} and all(found.values())


def arrays(**values: Any) -> Callable[[], str]:
    def make() -> str:
        np.savez("given.npz", **values)
        return "given.npz"

    return make


def written(name: str, text: str) -> Callable[[], str]:
    def make() -> str:
        Path(name).parent.mkdir(exist_ok=True)
        return name.partition("/")[0] if Path(name).write_text(text) else ""

    return make


REFUSED: dict[str, tuple[Callable[[], str], str]] = {
    "wrong shape": (arrays(input=np.zeros((4, 3, 8, 8))), r"'input': it is \(4, 3, 8, 8\), the network takes N x 3"),
    "no samples": (arrays(input=np.zeros((0, 3, 16, 16))), r"use 'input': it is \(0, 3, 16, 16\)"),
    "another name": (arrays(colour=np.zeros((4, 3, 16, 16))), "read samples of 'input': it has colour"),
    "text": (arrays(input=np.full((4, 3, 16, 16), "a")), "input"),
    "few labels": (arrays(input=np.zeros((4, 3, 16, 16)), label=np.zeros(2)), "label"),
    "no number": (arrays(input=np.full((4, 3, 16, 16), np.nan)), "tensor 'input' is not finite"),
    "no arrays": (written("given.npz", "text"), "not an .npz of arrays"),
    "no file": (lambda: "none.npz", "none.npz: cannot read samples: no such file"),
    "empty folder": (written("empty/readme.txt", "no image"), "empty: cannot read samples: no image there"),
    "no image": (written("broken/a.png", "text"), r"broken/a\.png: cannot read samples: not an image"),
    "no recording": (lambda: "none.mcap#a.b", "none.mcap"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_samples_that_cannot_be_used_are_refused_in_one_line(name: str, net: Path, capsys: Capture) -> None:
    make, why = REFUSED[name]
    source = make()
    assert compress(net, "int8", "--from", source, output="out/small.onnx") == 1
    error = capsys.readouterr().err
    assert re.search(why, error.splitlines()[-1]) and error.count("foveate: ") == 1 and "Traceback" not in error
    assert not Path("out").exists()


def test_networks_and_names_that_cannot_be_used_are_refused_in_one_line(net: Path, capsys: Capture) -> None:
    Path("text.onnx").write_text("no network")
    onnx.save(
        model([helper.make_node("Det", ["x"], ["y"], "volume")], {"x": np.zeros((2, 2), np.float32)}, ["y"]), "det.onnx"
    )
    own = helper.make_node("QLinearConv", ["x", "s", "z", "w", "s", "z", "s", "z"], ["y"])
    held = {"s": np.float32(1), "z": np.uint8(0), "w": np.ones((1, 1, 1, 1), np.uint8)}
    onnx.save(model([own], {"x": np.zeros((1, 1, 2, 2), np.uint8)}, ["y"], held), "integer.onnx")
    Path("nope.yaml").write_text("steps: [{method: plain, keep: ['head*']}]\n")
    cases = [
        (["net.onnx", "--output", "net.onnx"], "that is the network itself"),
        (["net.onnx", "net.onnx", "--output", "b.onnx"], "2 networks need a folder"),
        (["text.onnx", "--output", "b.onnx"], "text.onnx: cannot load"),
        (["none.onnx", "--output", "b.onnx"], "none.onnx: cannot load"),
        (["integer.onnx", "--output", "b.onnx"], "integer.onnx: cannot compress: it is quantized by QLinearConv"),
        (["det.onnx", "--output", "b.onnx"], "Det (of volume)"),
        (["net.onnx", "--recipe", "int9", "--output", "b.onnx"], "did you mean 'int8'"),
        (["net.onnx", "--recipe", "none.yaml", "--output", "b.onnx"], "none.yaml"),
        (
            ["net.onnx", "--recipe", "nope.yaml", "--from", "samples.npz", "--output", "b.onnx"],
            "find the layer 'head*'",
        ),
    ]
    bytes_, before = net.read_bytes(), sorted(Path().rglob("*"))
    for arguments, why in cases:
        assert main(["compress", *arguments, "--threads", "1"]) in (1, 2)
        error = capsys.readouterr().err
        assert why in error and error.count("\n") == 1, (arguments, error)
        assert sorted(Path().rglob("*")) == before
    assert net.read_bytes() == bytes_


def test_data_outside_of_the_file_that_lies_elsewhere_is_refused(net: Path, capsys: Capture) -> None:
    Path("secret.bin").write_bytes(bytes(4 * 8 * 27))
    Path("in").mkdir()
    made = onnx.load(str(net))
    item = next(each for each in made.graph.initializer if list(each.dims) == [8, 3, 3, 3])
    item.ClearField("raw_data")
    item.data_location = onnx.TensorProto.EXTERNAL
    item.external_data.add(key="location", value="../secret.bin")
    Path("in/net.onnx").write_bytes(made.SerializeToString())
    assert compress(Path("in/net.onnx")) == 1
    assert capsys.readouterr().err.count("\n") == 1 and not Path("small.onnx").exists()
