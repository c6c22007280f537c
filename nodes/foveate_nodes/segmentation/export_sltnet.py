"""A trained SLTNet as ONNX with its state as inputs and outputs, whole and in integers, with manifest and golden pair
(extra train)."""

from __future__ import annotations

import hashlib
import json
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from foveate_nodes.segmentation import liveness
from foveate_nodes.segmentation.clips import Clips
from foveate_nodes.segmentation.folding import folded
from foveate_nodes.segmentation.neuron import neurons
from foveate_nodes.segmentation.scores import Confusion
from foveate_nodes.segmentation.sltnet import SltNet
from foveate_nodes.segmentation.states import Stepping, at_rest

Arrays = dict[str, NDArray[np.float32]]
GOLDEN_AGREEMENT = 0.98  # of pixels; other processors add in another order, and a neuron at its threshold may turn over


def export(
    net: SltNet, path: Path, clips: Clips, manifest: dict[str, Any], *, integers: bool, carried: bool = True
) -> float:  # fmt: skip
    """Write the network without dead blocks and with norms folded, for one slice of the size of `clips` at a time.

    Inputs `slice` (1 x bins x H x W) and a membrane each; outputs `logits` (1 x classes x H x W) and the membranes
    afterwards, in the same order. `integers`: convolutions with weights of 7 bits and activations of 8; spikes are
    exact in them. Returns mIoU of the file over `clips`, which its manifest has too.
    """
    small = folded(liveness.without_dead(net.eval())).eval()
    first = clips[0].grids[:1]
    rest = at_rest(small, 1, *first.shape[2:])
    names = [f"mem.{name}" for name, _ in neurons(small)]
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "float.onnx"
        written(small, first, rest, names, whole)
        if integers:
            _quantized(whole, path, clips, names)
        else:
            path.write_bytes(whole.read_bytes())
    session = opened(path)
    zeros = dict(zip(names, (each.numpy() for each in rest), strict=True))
    golden = session.run(["logits"], {"slice": first, **zeros})[0]
    reached = _reached(session, clips, carried)
    manifest = {**manifest, "exported_miou": reached, "golden_agreement": GOLDEN_AGREEMENT, "golden_tolerance": 0.0}
    manifest["sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
    np.savez_compressed(path.with_suffix(".golden.npz"), image=first, output=golden)
    path.with_suffix(".json").write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
    return reached


def _reached(session: Any, clips: Clips, carried: bool) -> float:
    """mIoU of a session that is given streams."""
    confusion = Confusion(len(clips.classes))
    for i in range(len(clips)):
        clip = clips[i]
        streams = [clip.grids] if carried else clip.grids[:, None]
        given = [label for stream in streams for label in labels_of(session, stream)]
        for truth, label in zip(clip.labels, given, strict=True):
            confusion.add(truth, label)
    return confusion.miou


def written(
    small: nn.Module, first: NDArray[np.float32], rest: list[torch.Tensor], names: list[str], path: Path
) -> None:
    """A network that has neurons and a layout as ONNX: see `export`."""
    stepping = Stepping(small).eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the exporter warns of sizes that are fixed here: they shall be
        torch.onnx.export(
            stepping, (torch.from_numpy(first), *rest), str(path), dynamo=False, opset_version=17,
            input_names=["slice", *names], output_names=["logits", *(f"next.{name}" for name in names)],
        )  # fmt: skip


class _Stream:
    """What onnxruntime's quantizer reads: slices of streams, each with the membranes that it meets there."""

    def __init__(self, whole: Path, clips: Clips, names: list[str], count: int = 24) -> None:
        import onnxruntime

        self._session = onnxruntime.InferenceSession(str(whole), providers=["CPUExecutionProvider"])
        self._names = names
        self._shapes = {item.name: item.shape for item in self._session.get_inputs()}
        self._clips = (clips[int(i)] for i in np.linspace(0, len(clips) - 1, min(count, len(clips))))
        self._slices: list[NDArray[np.float32]] = []
        self._state: Arrays = {}

    def get_next(self) -> Arrays | None:
        if not self._slices:
            clip = next(self._clips, None)
            if clip is None:
                return None
            self._slices = list(clip.grids[:, None])
            self._state = {name: np.zeros(self._shapes[name], np.float32) for name in self._names}
        given = {"slice": self._slices.pop(0), **self._state}
        self._state = dict(zip(self._names, self._session.run(None, given)[1:], strict=True))
        return given


def _quantized(whole: Path, path: Path, clips: Clips, names: list[str]) -> None:
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    plain = whole.with_name("plain.onnx")
    quant_pre_process(str(whole), str(plain), skip_symbolic_shape=True)  # equal biases are one tensor before
    quantize_static(
        str(plain), str(path), _Stream(whole, clips, names), quant_format=QuantFormat.QDQ, per_channel=True,
        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, op_types_to_quantize=["Conv"],
        calibrate_method=CalibrationMethod.MinMax, reduce_range=True,
    )  # fmt: skip


def opened(path: Path, threads: int = 1) -> Any:
    """An onnxruntime session on the processor."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def labels_of(session: Any, grids: NDArray[np.float32]) -> list[NDArray[np.uint8]]:
    """The classes of a stream of slices (steps x bins x H x W), from a network at rest."""
    inputs = session.get_inputs()
    state = {item.name: np.zeros(item.shape, np.float32) for item in inputs[1:]}
    found = []
    for grid in grids:
        logits, *after = session.run(None, {"slice": grid[None], **state})
        state = dict(zip(state, after, strict=True))
        found.append(logits[0].argmax(0).astype(np.uint8))
    return found
