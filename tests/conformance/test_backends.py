"""Every backend passes the suite that ships; so do the shipped models, their manifests, and how they are loaded."""

from __future__ import annotations

import hashlib
import json
import shutil
import socket
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foveate import catalog
from foveate.errors import BackendMissing, FoveateError, ModelError, NotSupported
from foveate.paths import launch_folder
from foveate_drivers.backends import engine_cache, onnx_file
from foveate_drivers.backends.base import Backend
from foveate_drivers.backends.loading import known_backends, load
from foveate_drivers.backends.manifest import Manifest
from foveate_drivers.backends.onnx import OnnxBackend
from foveate_drivers.conformance import backends as suite
from tests.conftest import SHARED

MODELS = sorted((launch_folder() / "models").glob("*.onnx"))
TFLITE = SHARED / "models" / "tflite"
RUNS_SHIPPED = ("onnx", "openvino", "opencv_dnn")  # models with layers in 8 bits


@pytest.fixture(scope="module", autouse=True)
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Engines and profiles of these tests alone."""
    folder = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        yield folder


def kind_of(name: str) -> type[Backend]:
    """A backend's class; skips where its library is not installed."""
    kind: type[Backend] = catalog.load("drivers", f"backend.{name}")
    try:
        kind(MODELS[0])
    except BackendMissing as error:
        pytest.skip(str(error))
    except FoveateError:
        pass
    if name == "ncnn" and find_spec("pnnx") is None:
        pytest.skip("ncnn's files are made with pnnx: pip install --no-deps pnnx")
    return kind


def bench_of(name: str, folder: Path) -> suite.ModelBench:
    kind = kind_of(name)
    bench = suite.ModelBench(kind, [], folder, kind)
    if name == "litert":
        names = (
            "mobilenet_v1_0.25_128_quant.tflite",
            "mlperf_tiny/image_classification/trained_models/pretrainedResnet.tflite",
        )
        bench.models = [TFLITE / name for name in names]
        return bench
    bench.models = [bench.net("convolution", suite.convolution)]
    if name in RUNS_SHIPPED:
        bench.models.append(launch_folder() / "models" / "vehicles_people.onnx")
    return bench


def cases() -> list[Any]:
    """Backends and checks; those that build many engines, or need data, are marked so."""
    found = []
    for name in known_backends():
        marks = [pytest.mark.data] if name == "litert" else []
        for check in suite.checks(suite):
            slow = name == "ncnn" or name == "torch"
            found.append(pytest.param(name, check, id=f"{name}-{check.__name__}",
                                      marks=[*marks, pytest.mark.heavy] if slow else marks))  # fmt: skip
    return found


@pytest.mark.parametrize(("name", "check"), cases())
def test_conformance(name: str, check: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = bench_of(name, tmp_path)

    def refuse(*args: object) -> None:
        raise AssertionError("a backend reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    check(bench)


def test_the_suite_is_as_large_as_it_says() -> None:
    assert len(suite.checks(suite)) >= 13 and len(suite.NETS) >= 11


class Approximate(OnnxBackend):
    """Is off by a thousandth, and gives the same array each time."""

    def _run(self, arrays: Any) -> Any:
        found = super()._run(arrays)
        self._kept: Any = getattr(self, "_kept", None) or [np.empty_like(array) for array in found]
        for old, new in zip(self._kept, found, strict=True):
            np.copyto(old, new * 1.001)
        return self._kept


class Trusting(OnnxBackend):
    """Takes a second provider for the first, and does not look at its inputs."""

    def __init__(self, model: Path, *, provider: str = "", threads: int = 1) -> None:
        super().__init__(model, threads=threads)

    def run(self, arrays: Any) -> Any:
        return self._session.run(None, {item.name: arrays[item.name] for item in self.inputs if item.name in arrays})


WRONG = (
    (Approximate, suite.check_nets_are_computed_as_by_onnxruntime),
    (Approximate, suite.check_arrays_are_left_alone),
    (Trusting, suite.check_unknown_providers_are_refused),
    (Trusting, suite.check_wrong_inputs_are_named),
    (Trusting, suite.check_closed_it_refuses),
)


@pytest.mark.parametrize(("kind", "check"), WRONG)
def test_the_suite_finds_what_a_backend_gets_wrong(kind: type[Backend], check: Any, tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="nets are made with the extra 'bench'")
    bench = suite.ModelBench(kind, [], tmp_path, kind)
    bench.models = [bench.net("convolution", suite.convolution)]
    with pytest.raises(Exception):  # noqa: B017 - Failed, or what the bad backend raises itself
        check(bench)


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_shipped_models_are_small_proven_and_repeatable(path: Path) -> None:
    assert path.stat().st_size < 2_000_000
    loaded = load(path)
    manifest, backend = loaded.manifest, loaded.backend
    assert manifest is not None and backend.provider == "CPUExecutionProvider"
    error = manifest.prove(path, backend)
    assert error <= manifest.tolerance or manifest.agreement >= 0.98
    with np.load(path.with_suffix(".golden.npz")) as pair:
        image = {backend.inputs[0].name: pair["image"].astype(np.float32)}
    image |= {item.name: np.zeros(item.shape, np.float32) for item in backend.inputs[1:]}  # membranes at rest
    first, second = backend.run(image)[0], backend.run(image)[0]
    assert np.array_equal(first, second)


@pytest.mark.parametrize("name", ["openvino", "opencv_dnn"])
def test_a_shipped_model_holds_its_golden_pair_on_other_backends(name: str) -> None:
    kind_of(name)
    loaded = load(launch_folder() / "models" / "vehicles_people.onnx", backend=name)
    loaded.prove()
    loaded.backend.close()


def test_a_provider_that_is_not_there_is_an_error_not_a_fallback() -> None:
    for provider in ("cuda", "tensorrt", "no such thing"):
        with pytest.raises(NotSupported, match="this onnxruntime has:"):
            OnnxBackend(MODELS[0], provider=provider)


def test_a_file_that_is_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    for content in (b"", b"not a model", MODELS[0].read_bytes()[:1000]):
        path = tmp_path / "bad.onnx"
        path.write_bytes(content)
        for act in (OnnxBackend, load):
            with pytest.raises(ModelError) as caught:
                act(path)  # type: ignore[operator]
            assert "\n" not in str(caught.value) and "bad.onnx" in str(caught.value)


def copied(
    folder: Path, model: Path = MODELS[0], suffixes: tuple[str, ...] = (".onnx", ".json", ".golden.npz")
) -> Path:
    for suffix in suffixes:
        shutil.copy(model.with_suffix(suffix), (folder / "m.onnx").with_suffix(suffix))
    return folder / "m.onnx"


def test_a_changed_model_or_manifest_is_refused(tmp_path: Path) -> None:
    path = copied(tmp_path)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(ModelError, match="SHA-256"):
        load(path)
    (tmp_path / "m.json").write_text(json.dumps({"sha256": "x"}))
    with pytest.raises(ModelError, match="read the manifest"):
        Manifest.beside(path)


def test_every_one_of_3000_mutated_copies_of_a_model_is_refused(tmp_path: Path) -> None:
    """By its hash, before a backend sees it: flipped bits, ends cut off, bytes added."""
    path = copied(tmp_path, suffixes=(".onnx", ".json"))
    original = path.read_bytes()
    manifest = Manifest.beside(path)
    assert manifest is not None
    random = np.random.default_rng(4)
    for number in range(3000):
        data = bytearray(original)
        if number % 3 == 0:
            data[int(random.integers(len(data)))] ^= 1 << int(random.integers(8))
        elif number % 3 == 1:
            del data[int(random.integers(len(data))) :]
        else:
            data += random.bytes(int(random.integers(1, 40)))
        path.write_bytes(data)
        with pytest.raises(ModelError, match="SHA-256"):
            manifest.verify(path)
    path.write_bytes(original)
    manifest.verify(path)


def outside(folder: Path, location: str) -> Path:
    """A model whose weights come from a file."""
    onnx = pytest.importorskip("onnx", reason="the model is made with the extra 'bench'")
    helper = onnx.helper
    weights = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "16")):
        weights.external_data.add(key=key, value=value)
    faces = [helper.make_tensor_value_info(name, 1, [4]) for name in ("x", "y")]
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    graph = helper.make_graph(nodes, "outside", faces[:1], faces[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = folder / "inner" / "outside.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("location", "said"),
    [("{folder}/secret.bin", "an absolute path"), ("../secret.bin", "climbs out"),
     ("link.bin", "a link that leads out"),
     ("file:///{folder}/secret.bin", "an address"), ("gone.bin", "not there"), ("", "no file's name")],
)  # fmt: skip
def test_weights_from_outside_the_models_folder_are_refused(location: str, said: str, tmp_path: Path) -> None:
    np.ones(4, np.float32).tofile(tmp_path / "secret.bin")
    path = outside(tmp_path, location.format(folder=tmp_path))
    (path.parent / "link.bin").symlink_to(tmp_path / "secret.bin")
    with pytest.raises(ModelError, match=said) as caught:
        load(path)
    assert "\n" not in str(caught.value) and "outside.onnx" in str(caught.value)


@pytest.mark.parametrize("name", ["m.tflite", "m", "m.onnx.bak"])
def test_another_name_does_not_let_them_through(name: str, tmp_path: Path) -> None:
    np.ones(4, np.float32).tofile(tmp_path / "secret.bin")
    path = outside(tmp_path, "../secret.bin").rename(tmp_path / "inner" / name)
    with pytest.raises(ModelError, match="climbs out"):
        load(path)


def test_a_file_is_read_or_refused_whatever_is_in_it(tmp_path: Path) -> None:
    """The reader of protobuf ends on 600 damaged files with a ModelError, or as if nothing were wrong."""
    original, path = MODELS[0].read_bytes(), tmp_path / "m.onnx"
    random = np.random.default_rng(5)
    refused = 0
    for number in range(600):
        data = bytearray(original if number % 2 else random.bytes(200))
        for at in random.integers(len(data), size=8):
            data[at] = int(random.integers(256))
        path.write_bytes(data)
        try:
            onnx_file.refuse_escapes(path)
            onnx_file.look(path)
        except ModelError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > 100


def test_weights_beside_a_model_are_read(tmp_path: Path) -> None:
    path = outside(tmp_path, "weights.bin")
    np.full(4, 2, np.float32).tofile(path.parent / "weights.bin")
    assert load(path).backend.run({"x": np.ones(4, np.float32)})[0].tolist() == [3, 3, 3, 3]


def test_a_golden_pair_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    path = copied(tmp_path, suffixes=(".onnx", ".json"))
    with np.load(MODELS[0].with_suffix(".golden.npz")) as pair:
        np.savez(tmp_path / "m.golden.npz", image=pair["image"], output=pair["output"] + 1.0)
    with pytest.raises(ModelError, match="golden output is off by 1"):
        load(path).prove()
    (tmp_path / "m.golden.npz").write_bytes(b"no archive")
    with pytest.raises(ModelError, match=r"m\.golden\.npz: cannot read the golden pair"):
        load(path).prove()


def test_a_spiking_model_is_proven_by_its_classes(tmp_path: Path) -> None:
    """A neuron at its threshold may turn over on another processor: so the share of equal classes decides."""
    model = launch_folder() / "models" / "street_events.onnx"
    with np.load(model.with_suffix(".golden.npz")) as pair:
        image, output = pair["image"], pair["output"]
    path = copied(tmp_path, model, (".onnx", ".json"))
    manifest = Manifest.beside(path)
    assert manifest is not None
    np.savez(tmp_path / "m.golden.npz", image=image, output=2 * output)  # other numbers, the same classes
    assert manifest.prove(path, OnnxBackend(path)) > 0
    np.savez(tmp_path / "m.golden.npz", image=image, output=np.roll(output, 9, axis=2))
    with pytest.raises(ModelError, match=r"golden output has \d+\.\d% of its classes, less than 98%"):
        manifest.prove(path, OnnxBackend(path))


def test_a_model_without_golden_pair_is_held_against_onnxruntime(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backend that computes something else is refused, this time and the next, when it is not computed again."""
    name = next(n for n in ("opencv_dnn", "openvino") if kind_of(n))
    kind = kind_of(name)
    path = suite.ModelBench(kind, [], tmp_path, kind).net("convolution", suite.convolution)
    load(path, backend=name).backend.close()
    shutil.rmtree(engine_cache.root(), ignore_errors=True)
    right = kind._run
    monkeypatch.setattr(kind, "_run", lambda self, arrays: [2 * array for array in right(self, arrays)])
    with pytest.raises(ModelError, match="differ from onnxruntime's by 1 of the largest"):
        load(path, backend=name)
    monkeypatch.undo()
    shutil.rmtree(engine_cache.root(), ignore_errors=True)
    assert load(path, backend=name).backend.outputs


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    kind_of("litert")
    with pytest.raises(ModelError, match=r"LiteRT takes \.tflite files"):
        load(copied(tmp_path), backend="litert")


def test_digests_are_those_of_manifests() -> None:
    for model in MODELS:
        manifest = Manifest.beside(model)
        assert manifest is not None and manifest.sha256 == hashlib.sha256(model.read_bytes()).hexdigest()
