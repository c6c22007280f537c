"""Every backend passes this suite; so do the shipped models and their manifests."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from foveate.errors import ModelError, NotSupported
from foveate.paths import launch_folder
from foveate_drivers.backends.onnx import OnnxBackend
from foveate_nodes.models.manifest import Manifest

MODELS = sorted((launch_folder() / "models").glob("*.onnx"))


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_shipped_models_are_small_proven_and_repeatable(path: Path) -> None:
    assert path.stat().st_size < 2_000_000
    manifest = Manifest.beside(path)
    assert manifest is not None
    manifest.verify(path)
    backend = OnnxBackend(path)
    assert backend.provider == "CPUExecutionProvider"
    error = manifest.prove(path, backend)
    assert error <= manifest.tolerance or manifest.agreement >= 0.98
    with np.load(path.with_suffix(".golden.npz")) as pair:
        image = {backend.inputs[0].name: pair["image"].astype(np.float32)}
    image |= {item.name: np.zeros(item.shape, np.float32) for item in backend.inputs[1:]}  # membranes at rest
    first, second = backend.run(image)[0], backend.run(image)[0]
    assert np.array_equal(first, second)


def test_a_provider_that_is_not_there_is_an_error_not_a_fallback() -> None:
    for provider in ("cuda", "tensorrt", "no such thing"):
        with pytest.raises(NotSupported, match="this onnxruntime has:"):
            OnnxBackend(MODELS[0], provider=provider)


def test_a_file_that_is_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    for content in (b"", b"not a model", MODELS[0].read_bytes()[:1000]):
        path = tmp_path / "bad.onnx"
        path.write_bytes(content)
        with pytest.raises(ModelError) as caught:
            OnnxBackend(path)
        assert "\n" not in str(caught.value) and "bad.onnx" in str(caught.value)


def test_a_changed_model_or_manifest_is_refused(tmp_path: Path) -> None:
    for suffix in (".onnx", ".json", ".golden.npz"):
        shutil.copy(MODELS[0].with_suffix(suffix), (tmp_path / "m.onnx").with_suffix(suffix))
    path = tmp_path / "m.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    manifest = Manifest.beside(path)
    assert manifest is not None
    with pytest.raises(ModelError, match="SHA-256"):
        manifest.verify(path)
    (tmp_path / "m.json").write_text(json.dumps({"sha256": "x"}))
    with pytest.raises(ModelError, match="read the manifest"):
        Manifest.beside(path)


def test_a_golden_pair_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    for suffix in (".onnx", ".json"):
        shutil.copy(MODELS[0].with_suffix(suffix), (tmp_path / "m.onnx").with_suffix(suffix))
    with np.load(MODELS[0].with_suffix(".golden.npz")) as pair:
        np.savez(tmp_path / "m.golden.npz", image=pair["image"], output=pair["output"] + 1.0)
    path = tmp_path / "m.onnx"
    manifest = Manifest.beside(path)
    assert manifest is not None
    with pytest.raises(ModelError, match="golden output is off by 1"):
        manifest.prove(path, OnnxBackend(path))
    (tmp_path / "m.golden.npz").write_bytes(b"no archive")
    with pytest.raises(ModelError, match=r"m\.golden\.npz: cannot read the golden pair"):
        manifest.prove(path, OnnxBackend(path))


def test_a_spiking_model_is_proven_by_its_classes(tmp_path: Path) -> None:
    """A neuron at its threshold may turn over on another processor: so the share of equal classes decides."""
    model = launch_folder() / "models" / "street_events.onnx"
    with np.load(model.with_suffix(".golden.npz")) as pair:
        image, output = pair["image"], pair["output"]
    for suffix in (".onnx", ".json"):
        shutil.copy(model.with_suffix(suffix), (tmp_path / "m.onnx").with_suffix(suffix))
    path = tmp_path / "m.onnx"
    manifest = Manifest.beside(path)
    assert manifest is not None
    np.savez(tmp_path / "m.golden.npz", image=image, output=2 * output)  # other numbers, the same classes
    assert manifest.prove(path, OnnxBackend(path)) > 0
    np.savez(tmp_path / "m.golden.npz", image=image, output=np.roll(output, 9, axis=2))
    with pytest.raises(ModelError, match=r"golden output has \d+\.\d% of its classes, less than 98%"):
        manifest.prove(path, OnnxBackend(path))
