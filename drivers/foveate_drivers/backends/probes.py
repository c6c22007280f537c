"""Small graphs whose layers are timed once per board: what its kernels reach, family by family (needs `onnx`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Feeds = dict[str, NDArray[Any]]
# channels in, channels out, side, taps of a side, stride
_CONVOLUTIONS = (
    (1, 16, 128, 3, 2), (3, 16, 128, 3, 2), (3, 24, 160, 3, 2), (3, 16, 96, 3, 1), (8, 16, 64, 3, 1),
    (16, 16, 64, 3, 1), (16, 32, 64, 3, 2), (32, 32, 32, 3, 1), (64, 64, 32, 3, 1), (64, 128, 16, 3, 2),
    (128, 128, 16, 3, 1), (128, 128, 8, 3, 1), (32, 32, 32, 5, 1), (64, 4, 16, 3, 1), (12, 20, 32, 3, 1),
    (32, 1, 32, 3, 1), (8, 8, 96, 3, 1),
    (8, 16, 96, 1, 1), (8, 6, 96, 1, 1), (16, 32, 64, 1, 1), (24, 24, 32, 1, 1), (32, 32, 32, 1, 1), (64, 64, 32, 1, 1),
    (64, 64, 52, 1, 1), (128, 128, 16, 1, 1), (256, 256, 8, 1, 1), (256, 80, 13, 1, 1), (96, 4, 16, 1, 1),
    (64, 1, 20, 1, 1), (128, 32, 1, 1, 1), (64, 256, 1, 1, 1), (512, 256, 13, 1, 1), (336, 96, 22, 1, 1),
    (16, 8, 4, 1, 1), (256, 6, 64, 1, 1), (64, 8, 47, 1, 1),
    (2, 1, 31, 3, 1), (2, 2, 31, 1, 1), (4, 4, 31, 3, 1), (4, 8, 31, 1, 1), (8, 4, 62, 1, 1), (8, 8, 31, 3, 1),
    (16, 16, 128, 3, 1), (16, 16, 16, 3, 1), (64, 64, 4, 3, 1), (16, 64, 32, 1, 1),
)  # fmt: skip
# channels, side, taps, stride
_DEPTHWISE = (
    (16, 96, 3, 1), (32, 64, 3, 1), (64, 40, 3, 1), (96, 22, 5, 1), (128, 16, 3, 1), (256, 8, 3, 1), (192, 11, 5, 1),
    (32, 64, 3, 2), (96, 32, 3, 2), (256, 14, 3, 2), (64, 13, 5, 1), (24, 20, 3, 1), (4, 31, 3, 1), (8, 31, 3, 1),
    (16, 128, 3, 1), (64, 4, 3, 1), (2, 62, 3, 1),
)  # fmt: skip
_TRANSPOSED = ((16, 16, 27, 2), (8, 8, 64, 2), (64, 32, 16, 2), (8, 8, 54, 2))  # channels in, out, side, stride
_PRODUCTS = (  # rows, inner, columns
    (1, 64, 10), (1, 256, 256), (1, 1024, 1000), (16, 128, 128), (64, 64, 64), (196, 192, 192), (196, 192, 768),
    (512, 512, 512), (1024, 64, 64),
)  # fmt: skip
_SHAPES = ((1, 8, 24, 24), (1, 16, 48, 48), (1, 32, 80, 80))  # of what is no convolution
_TURNS = ((0, 2, 3, 1), (0, 3, 1, 2), (0, 2, 1, 3), (0, 1, 3, 2), (0, 3, 2, 1))
_PLAIN = (
    "Relu", "Sigmoid", "Tanh", "Exp", "Sqrt", "Erf", "Abs", "Neg", "LeakyRelu", "HardSigmoid", "HardSwish", "Softplus",
    "Floor", "Elu",
)  # fmt: skip
_PAIRS = ("Add", "Sub", "Mul", "Div", "Max", "Pow")


class Probe:
    """A graph under construction: each probe has an input and an output of its own, of which `whole` gives all."""

    def __init__(self, seed: int = 0, *, whole: bool = False) -> None:
        import onnx

        self._whole = whole
        self._onnx, self._random = onnx, np.random.default_rng(seed)
        self._nodes: list[Any] = []
        self._weights: list[Any] = []
        self._inputs: list[Any] = []
        self._outputs: list[Any] = []
        self._fixed: list[Any] = []
        self.feeds: Feeds = {}
        self._count = 0

    def given(self, *shape: int | str, kind: Any = np.float32) -> str:
        """A new input of the graph; sides that are words are free."""
        name = self._name("x")
        sides = [side if isinstance(side, int) else 8 for side in shape]
        data = self._random.normal(size=sides) if kind == np.float32 else self._random.integers(0, 255, sides)
        self.feeds[name] = data.astype(kind)
        code = self._onnx.helper.np_dtype_to_tensor_dtype(np.dtype(kind))
        self._inputs.append(self._onnx.helper.make_tensor_value_info(name, code, shape))
        return name

    def held(self, *shape: int, scale: float = 0.1) -> str:
        return self.constant((self._random.normal(size=shape) * scale).astype(np.float32))

    def constant(self, value: Any) -> str:
        name = self._name("w")
        self._weights.append(self._onnx.numpy_helper.from_array(np.asarray(value), name))
        return name

    def floats(self, *values: float) -> str:
        return self.constant(np.array(values, np.float32))

    def numbers(self, *values: int) -> str:
        return self.constant(np.array(values, np.int64))

    def node(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
        """The name of its first output."""
        names = [self._name("y") for _ in range(outputs)]
        self._nodes.append(self._onnx.helper.make_node(operator, list(inputs), names, name=names[0], **attributes))
        self._loose = names
        return names[0]

    def give(self, *names: str) -> None:
        """Make corners of tensors outputs of the graph, so that they are computed."""
        for name in names or tuple(self._loose):
            if self._whole:
                self._outputs.append(self._onnx.helper.make_empty_tensor_value_info(name))
                continue
            first = [self.numbers(value, value) for value in (0, 1)]  # as outputs they would fill the cache
            axes = self.numbers(0, 1)
            self._outputs.append(self._onnx.helper.make_empty_tensor_value_info(self.node("Slice", name, *first, axes)))

    def constrain(self, shape: tuple[int, ...], name: str) -> None:
        """Make a tensor of floats an output whose shape cannot be inferred."""
        self._fixed.append(self._onnx.helper.make_tensor_value_info(name, 1, shape))

    def quantized(self, name: str, step: float = 0.02) -> str:
        """Through eight bits, as the inputs of an integer layer are."""
        scale, zero = self.constant(np.float32(step)), self.constant(np.uint8(128))
        return self.node("DequantizeLinear", self.node("QuantizeLinear", name, scale, zero), scale, zero)

    def integers(self, *shape: int) -> str:
        """Weights of which each row has its own scale; of 7 bits, for with 8 the sums of pairs overflow on x86
        processors without VNNI, in onnxruntime and OpenVINO alike."""
        value = self.constant(self._random.integers(-63, 64, shape, np.int8))
        scale = self.constant(np.full(shape[0], 0.01, np.float32))
        return self.node("DequantizeLinear", value, scale, self.constant(np.zeros(shape[0], np.int8)), axis=0)

    def bytes(self) -> bytes:
        helper = self._onnx.helper
        graph = helper.make_graph(self._nodes, "probes", self._inputs, [], self._weights)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        inferred = self._onnx.shape_inference.infer_shapes(model)
        known = {item.name: item for item in inferred.graph.value_info}
        model.graph.output.extend([*(known[item.name] for item in self._outputs), *self._fixed])
        return model.SerializeToString()

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"{kind}{self._count}"


def graphs() -> list[tuple[bytes, Feeds]]:
    """Model files and their inputs."""
    made = []
    for fill in (_convolutions, _integer_convolutions, _products, _elements, _moves, _bytes):
        # corners of what is turned or dequantized onnxruntime would cut off first; whole outputs fill the cache
        probe = Probe(whole=fill in (_integer_convolutions, _moves, _bytes))
        fill(probe)
        made.append((probe.bytes(), probe.feeds))
    return made


def _convolutions(p: Probe) -> None:
    for cin, cout, side, taps, stride in _CONVOLUTIONS:
        _convolution(p, p.given(1, cin, side, side), p.held(cout, cin, taps, taps), taps, stride)
    for channels, side, taps, stride in _DEPTHWISE:
        x, w = p.given(1, channels, side, side), p.held(channels, 1, taps, taps)
        _convolution(p, x, w, taps, stride, group=channels)
    for cin, cout, side, taps, stride in _CONVOLUTIONS:  # of weights that are no constants
        _convolution(p, p.given(1, cin, side, side), p.given(cout, cin, taps, taps), taps, stride)
    for channels, side, taps, stride in _DEPTHWISE:
        x, w = p.given(1, channels, side, side), p.given(channels, 1, taps, taps)
        _convolution(p, x, w, taps, stride, group=channels)
    for cin, cout, side, stride in _TRANSPOSED:
        x, w = p.given(1, cin, side, side), p.held(cin, cout, 3, 3)
        p.give(p.node("ConvTranspose", x, w, kernel_shape=[3, 3], strides=[stride] * 2, pads=[1, 1, 1, 1]))
    for channels, side in ((16, 64), (32, 40), (64, 26)):  # what comes between convolutions
        w = p.held(channels, channels, 1, 1)
        x = p.node("Conv", p.given(1, channels, side, side), w, kernel_shape=[1, 1])
        for pooled in (
            p.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
            p.node("MaxPool", x, kernel_shape=[5, 5], strides=[1, 1], pads=[2, 2, 2, 2]),
            p.node("MaxPool", x, kernel_shape=[13, 13], strides=[1, 1], pads=[6, 6, 6, 6]),
            p.node("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
            p.node("GlobalAveragePool", x), p.node("Mul", x, p.node("Sigmoid", x)),
            p.node("Resize", x, "", p.floats(1, 1, 2, 2), mode="nearest",
                   coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
        ):  # fmt: skip
            p.give(p.node("Conv", pooled, w, kernel_shape=[1, 1]))


def _integer_convolutions(p: Probe) -> None:
    for cin, cout, side, taps, stride in _CONVOLUTIONS:
        _convolution(p, p.quantized(p.given(1, cin, side, side)), p.integers(cout, cin, taps, taps), taps, stride, True)
    for channels, side, taps, stride in _DEPTHWISE:
        x, w = p.quantized(p.given(1, channels, side, side)), p.integers(channels, 1, taps, taps)
        _convolution(p, x, w, taps, stride, True, group=channels)


def _convolution(p: Probe, x: str, w: str, taps: int, stride: int, integer: bool = False, group: int = 1) -> None:
    pad = [taps // 2] * 4
    y = p.node("Conv", x, w, kernel_shape=[taps] * 2, strides=[stride] * 2, pads=pad, group=group)
    p.give(p.quantized(y) if integer else y)


def _products(p: Probe) -> None:
    for rows, inner, columns in _PRODUCTS:
        x = p.given(rows, inner)
        p.give(p.node("MatMul", x, p.held(inner, columns)))
        p.give(p.node("Gemm", x, p.held(inner, columns), p.held(columns)))
        scale, zero = p.constant(np.float32(0.01)), p.constant(np.int8(0))
        w = p.constant(np.random.default_rng(1).integers(-127, 127, (inner, columns), np.int8))
        held = p.node("DequantizeLinear", w, scale, zero)
        p.give(p.quantized(p.node("MatMul", p.quantized(x), held)))
        p.give(p.node("MatMulInteger", p.given(rows, inner, kind=np.uint8), w))


def _elements(p: Probe) -> None:
    for shape in _SHAPES:
        channels = shape[1]
        x, same = p.given(*shape), p.given(*shape)
        spread = p.given(1, channels, 1, 1)
        for operator in _PLAIN:
            p.give(p.node(operator, x))
        p.give(p.node("Clip", x, p.constant(np.float32(0)), p.constant(np.float32(6))))
        for operator in _PAIRS:
            p.give(p.node(operator, p.node("Abs", x) if operator == "Pow" else x, same))
        for operator in ("Add", "Mul", "Sub", "Div"):
            p.give(p.node(operator, x, spread))
            p.give(p.node(operator, x, p.constant(np.float32(0.5))))
        above = p.node("Greater", x, p.constant(np.float32(0.1)))
        p.give(p.node("Cast", above, to=1))
        p.give(p.node("Where", above, p.constant(np.float32(0)), x))
        p.give(p.node("Less", x, same))
        p.give(p.node("Mul", x, p.node("Sigmoid", x)))
        p.give(p.node("BatchNormalization", x, *(p.held(channels, scale=1.0) for _ in range(3)),
                      p.constant(np.full(channels, 1, np.float32))))  # fmt: skip
        for softened in (x, p.given(1, 5, shape[2] * shape[3], 2)):
            for axis in (1, -1):
                p.give(p.node("Softmax", softened, axis=axis))
        wide = shape[-1]
        p.give(p.node("LayerNormalization", x, p.held(wide), p.held(wide), axis=-1))
        p.give(p.node("InstanceNormalization", x, p.held(channels), p.held(channels)))
        for operator in ("ReduceMean", "ReduceMax"):
            p.give(p.node(operator, x, axes=[2, 3]))
        p.give(p.node("ReduceSum", x, p.numbers(1)))
        p.give(p.node("GlobalAveragePool", x))
        for operator in ("MaxPool", "AveragePool"):
            p.give(p.node(operator, x, kernel_shape=[2, 2], strides=[2, 2]))


def _moves(p: Probe) -> None:
    for shape in _SHAPES:
        x, same = p.given(*shape), p.given(*shape)
        p.give(p.node("Concat", x, same, axis=1))
        p.give(p.node("Concat", x, same, axis=-1))
        p.node("Split", x, axis=1, outputs=2)
        p.give()
        for perm in _TURNS:
            p.give(p.node("Transpose", x, perm=perm))
        shuffled = p.given(1, 2, shape[1] // 2, *shape[2:])
        p.give(p.node("Transpose", shuffled, perm=(0, 2, 1, 3, 4)))
        _sliced(p, x, shape)
        for mode, way in (("nearest", "asymmetric"), ("nearest", "half_pixel"), ("linear", "asymmetric"),
                          ("linear", "half_pixel"), ("linear", "align_corners")):  # fmt: skip
            twice = p.floats(1, 1, 2, 2)
            p.give(p.node("Resize", x, "", twice, mode=mode, coordinate_transformation_mode=way))
        p.give(p.node("Pad", x, p.numbers(0, 0, 1, 1, 0, 0, 1, 1)))
        p.give(p.node("Gather", x, p.constant(np.arange(0, shape[1], 2)), axis=1))
        p.give(p.node("DepthToSpace", x, blocksize=2))


def _sliced(p: Probe, x: str, shape: tuple[int, ...]) -> None:
    p.give(p.node("Slice", x, p.numbers(0), p.numbers(shape[1] // 2), p.numbers(1)))
    p.give(p.node("Slice", x, p.numbers(0, 0), p.numbers(9999, 9999), p.numbers(2, 3), p.numbers(2, 2)))


def _bytes(p: Probe) -> None:
    """Quantizing, and what is done with integers as they are."""
    for shape in _SHAPES:
        scale, zero = p.constant(np.float32(0.02)), p.constant(np.uint8(128))
        p.give(p.node("QuantizeLinear", p.given(*shape), scale, zero))
        p.give(p.node("DequantizeLinear", p.given(*shape, kind=np.uint8), scale, zero))
        raw = p.given(*shape, kind=np.uint8)
        for perm in _TURNS[:2]:
            p.give(p.node("Transpose", raw, perm=perm))
        p.give(p.node("MaxPool", raw, kernel_shape=[2, 2], strides=[2, 2]))
        p.give(p.node("Concat", raw, p.given(*shape, kind=np.uint8), axis=1))
        for sides in ([1, 1, 2, 2], [1, 2, 2, 1]):
            twice = p.floats(*sides)
            p.give(p.node("Resize", raw, "", twice, mode="nearest", coordinate_transformation_mode="asymmetric"))
        x, y = p.quantized(p.given(*shape)), p.quantized(p.given(*shape))
        makers: tuple[Callable[[], str], ...] = (
            lambda x=x, y=y: p.node("Add", x, y), lambda x=x, y=y: p.node("Mul", x, y),  # type: ignore[misc]
            lambda x=x: p.node("Sigmoid", x), lambda x=x: p.node("Resize", x, "", p.floats(1, 1, 2, 2)),  # type: ignore[misc]
            lambda x=x: p.node("AveragePool", x, kernel_shape=[2, 2], strides=[2, 2]),  # type: ignore[misc]
            lambda x=x: p.node("GlobalAveragePool", x),  # type: ignore[misc]
        )  # fmt: skip
        for make in makers:
            p.give(p.quantized(make()))
