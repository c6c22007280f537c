"""ONNX models on ncnn, in float32. Its files are made by `pnnx` when a model is first loaded, and kept.

ncnn has no axis of batches: where pnnx found one, of size 1, inputs lose it and outputs get it back.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from foveate.errors import BackendMissing, ModelError, NotSupported
from foveate_drivers.backends import engine_cache, onnx_file
from foveate_drivers.backends.base import Arrays, Backend, TensorInfo, shaped

_PATIENCE_S = 600.0
_WHOLE = "233"  # pnnx writes this where there is no axis of batches
_PARAM, _BIN, _CALLS = "model.ncnn.param", "model.ncnn.bin", "model_ncnn.py"
_AXES = "batch_axes.json"  # by `in0`, `out0`: which axis ncnn does not have; -1 where it has all
_BATCH = re.compile(r"\b(in|out)(\d+)\.numpy\((?:\), )?(?:batch_index=(\d+))?")


class NcnnBackend(Backend):
    """`provider`: cpu (default), or vulkan where ncnn finds a device. Free sides are refused: it is built for sizes."""

    extra: ClassVar[str] = "ncnn"
    packages: ClassVar[tuple[str, ...]] = ("ncnn", "pnnx")
    parity: ClassVar[float] = 1e-3  # its Winograd convolutions round more than others

    def __init__(self, model: Path, *, provider: str = "", threads: int = 1) -> None:
        try:
            import ncnn
        except ImportError:
            raise BackendMissing(str(model), "ncnn", self.extra) from None
        self.model, self._ncnn = model, ncnn
        wanted = provider.lower() or "cpu"
        devices = ncnn.get_gpu_count() if wanted == "vulkan" else 0
        if wanted not in ("cpu", "vulkan") or (wanted == "vulkan" and devices < 1):
            raise NotSupported(str(model), f"run on '{provider}'", "this ncnn has: cpu")
        described = onnx_file.look(model)
        _refuse(model, described)
        self.inputs, self.outputs = list(described.inputs), list(described.outputs)
        version = "+".join(f"{name}{_version(name)}" for name in self.packages)
        place = engine_cache.entry(model, "ncnn", version, "any", lambda folder: _convert(model, described, folder))
        _refuse_layers(model, place / _PARAM)
        self._net: Any = ncnn.Net()
        options = self._net.opt
        options.num_threads = threads
        options.use_vulkan_compute = wanted == "vulkan"
        for name in (
            "use_fp16_packed",
            "use_fp16_storage",
            "use_fp16_arithmetic",
            "use_bf16_storage",
            "use_bf16_packed",
        ):
            if hasattr(options, name):
                setattr(options, name, False)
        if self._net.load_param(str(place / _PARAM)) or self._net.load_model(str(place / _BIN)):
            raise ModelError(str(model), "load", "ncnn does not take the files that pnnx made of it")
        self.provider = wanted
        self._batch: dict[str, int] = json.loads((place / _AXES).read_text(encoding="utf-8"))

    def _run(self, arrays: Arrays) -> list[NDArray[np.generic]]:
        with self._net.create_extractor() as extractor:
            kept = []  # ncnn does not copy
            for i, item in enumerate(self.inputs):
                axis = self._batch.get(f"in{i}", -1)
                array = arrays[item.name] if axis < 0 else arrays[item.name].squeeze(axis)
                kept.append(np.ascontiguousarray(array))
                extractor.input(f"in{i}", self._ncnn.Mat(kept[-1]).clone())
            found = []
            for i, item in enumerate(self.outputs):
                code, mat = extractor.extract(f"out{i}")
                if code:
                    raise ModelError(
                        str(self.model), "run", f"ncnn does not give its output '{item.name}' (code {code})"
                    )
                axis = self._batch.get(f"out{i}", -1)
                array = np.array(mat)
                found.append(_shaped(array if axis < 0 else np.expand_dims(array, axis), item, self.model))
        return found

    def close(self) -> None:
        super().close()
        self._net = None


def _shaped(array: NDArray[Any], item: TensorInfo, model: Path) -> NDArray[Any]:
    """With sides of 1 that ncnn leaves out. Raises ModelError where its sides are other ones."""
    wanted = item.shape
    while array.ndim > len(wanted) and array.shape[0] == 1:
        array = array[0]
    while array.ndim < len(wanted) and wanted[-array.ndim - 1] in (1, None):
        array = array[None]
    if array.ndim != len(wanted) or any(a not in (None, b) for a, b in zip(wanted, array.shape, strict=True)):
        text = f"ncnn gives '{item.name}' as {shaped(array.shape)}, not {shaped(wanted)}"
        raise ModelError(str(model), "run", text)
    return array


def _refuse(model: Path, described: onnx_file.OnnxFile) -> None:
    """Raises ModelError for inputs that ncnn cannot have."""
    for item in described.inputs:
        if item.dtype != "tensor(float)":
            raise ModelError(str(model), "load", f"its input '{item.name}' is {item.dtype}; ncnn takes tensor(float)")
        if None in item.shape:
            text = f"its input '{item.name}' is {shaped(item.shape)}; ncnn needs fixed sides: export it for one size"
            raise ModelError(str(model), "load", text)
        if not 1 <= len(item.shape) <= 5:
            text = f"its input '{item.name}' is {shaped(item.shape)}; ncnn takes arrays of 1 to 5 axes"
            raise ModelError(str(model), "load", text)


def _convert(model: Path, described: onnx_file.OnnxFile, folder: Path) -> None:
    """Make `.param` and `.bin` in a folder. Raises ModelError."""
    if find_spec("pnnx") is None:
        raise ModelError(str(model), "convert", "it needs pnnx: pip install --no-deps pnnx")
    work = folder / "work"
    work.mkdir()
    shutil.copyfile(model, work / "model.onnx")
    sides = ",".join(f"[{','.join(map(str, item.shape))}]f32" for item in described.inputs)
    run = "import sys; from pnnx import pnnx; sys.exit(pnnx())"
    command = [sys.executable, "-c", run, "model.onnx", f"inputshape={sides}", "fp16=0"]
    try:
        done = subprocess.run(
            command, cwd=work, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
            timeout=_PATIENCE_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ModelError(str(model), "convert", f"pnnx took more than {_PATIENCE_S:.0f} s") from None
    if not (work / _PARAM).is_file() or not (work / _BIN).is_file():
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        telling = next((line for line in said if "Op registered" in line or "not supported" in line.lower()), "")
        why = telling.partition("Error ")[2] or telling or " ".join(said[-1:])
        raise ModelError(str(model), "convert", f"pnnx: {' '.join(why.split())[:160]}")
    for name in (_PARAM, _BIN):
        shutil.move(work / name, folder / name)
    calls = (work / _CALLS).read_text(encoding="utf-8") if (work / _CALLS).is_file() else ""
    axes = {f"{way}{number}": int(axis or -1) if axis != _WHOLE else -1 for way, number, axis in _BATCH.findall(calls)}
    (folder / _AXES).write_text(json.dumps(axes) + "\n", encoding="utf-8")
    shutil.rmtree(work)


def _refuse_layers(model: Path, param: Path) -> None:
    """Raises ModelError that names the first layer which pnnx left as it was, for ncnn has none such."""
    for line in param.read_text(encoding="utf-8", errors="replace").splitlines()[2:]:
        kind, name = (line.split() + ["", ""])[:2]
        if "." in kind:
            raise ModelError(str(model), "load", f"ncnn has no operator {kind} (layer {name})")


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"
