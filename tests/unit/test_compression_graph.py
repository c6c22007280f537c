"""ONNX graphs run by torch: every operator gives what onnxruntime gives, parts run, what is missing is named; a graph
that was prepared gives what the file gives."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the extra 'compress'")
onnx = pytest.importorskip("onnx", reason="needs the extra 'compress'")
onnxruntime = pytest.importorskip("onnxruntime", reason="needs the extra 'compress'")

from onnx import helper, numpy_helper  # noqa: E402

from foveate.errors import ModelError  # noqa: E402
from foveate_compression.network import Network  # noqa: E402
from foveate_drivers.backends.torch_graph import TorchGraph  # noqa: E402
from foveate_drivers.backends.torch_operators import OPERATORS  # noqa: E402

pytestmark = pytest.mark.heavy


def f32(*shape: int, seed: int = 0, low: float = -1.0) -> Any:
    return np.random.default_rng(seed).uniform(low, 1.0, shape).astype(np.float32)


def i64(*values: int) -> Any:
    return np.array(values, np.int64)


def model(
    nodes: Sequence[Any], inputs: dict[str, Any], outputs: Sequence[str], constants: dict[str, Any] | None = None,
    opset: int = 17,
) -> Any:  # fmt: skip
    """A model whose inputs have the shapes of these arrays."""
    infos = [helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
             for name, value in inputs.items()]  # fmt: skip
    held = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    ends = [helper.make_empty_tensor_value_info(name) for name in outputs]
    graph = helper.make_graph(nodes, "g", infos, ends, held)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8 if opset < 21 else 10)


def by_onnxruntime(made: Any, given: dict[str, Any]) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(made.SerializeToString(), options).run(None, given)


def by_torch(made: Any, given: dict[str, Any]) -> list[Any]:
    tensors = {name: torch.from_numpy(np.array(value)) for name, value in given.items()}
    return [value.numpy() for value in TorchGraph(made, "test").run(tensors).values()]


X, V, POSITIVE = f32(2, 4, 7, 9), f32(3, 5), f32(2, 6, low=0.1)
Q, B = np.arange(24, dtype=np.uint8).reshape(2, 3, 4), np.array([[True, False], [False, True]])
W, WG, WT = f32(6, 4, 3, 3, seed=1), f32(6, 2, 3, 2, seed=2), f32(4, 3, 3, 3, seed=3)
HALVES = np.array([-2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 0.0], np.float32)
Case = tuple[str, list[Any], dict[str, Any], int, int]  # operator, inputs, attributes, opset, outputs


def case(kind: str, *arrays: Any, opset: int = 17, outputs: int = 1, **attributes: Any) -> Case:
    return kind, list(arrays), attributes, opset, outputs


CASES: list[Case] = [
    *(case(kind, V) for kind in ("Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "Identity", "Neg", "Relu", "Sigmoid",
      "Sign", "Sin", "Softplus", "Tanh", "HardSwish", "LeakyRelu", "Elu", "HardSigmoid", "Dropout")),
    *(case(kind, POSITIVE) for kind in ("Log", "Sqrt", "Reciprocal")),
    *(case(kind, V, f32(5, seed=1)) for kind in ("Add", "Sub", "Mul", "Div", "Greater", "GreaterOrEqual", "Less",
      "LessOrEqual")), *(case(kind, V, f32(5, seed=1), f32(3, 1, seed=2)) for kind in ("Max", "Min", "Sum")),
    *(case(kind, B, ~B) for kind in ("And", "Or")), case("Not", B), case("Equal", Q, Q[:, :1]), case("Round", HALVES),
    case("Pow", POSITIVE, np.float32([2.5])), case("Pow", V, i64(3)), case("Div", i64(7, -7, 9), i64(2, 2, -4)),
    case("Mish", V, opset=18), case("LeakyRelu", V, alpha=0.3), case("Elu", V, alpha=0.7),
    case("HardSigmoid", V, alpha=0.5, beta=0.1), case("PRelu", X, f32(4, 1, 1)), case("Where", B, f32(2, 2), f32(1, 2)),
    case("Gelu", V, opset=20), case("Gelu", V, opset=20, approximate="tanh"), case("Sum", V),
    case("Dropout", V, outputs=2), case("Clip", V, opset=9, min=-0.3, max=0.4),
    case("Clip", V, np.float32(-0.3), np.float32(0.4)), case("Clip", V, None, np.float32(0.2)),
    case("Clip", V, np.float32(0.2)), case("Clip", i64(1, 5, 9), np.int64(2), np.int64(6)),
    case("MatMul", f32(2, 3, 4), f32(4, 5)), case("MatMul", f32(2, 3, 4), f32(2, 4, 5)),
    case("MatMul", f32(4), f32(4, 2)),
    *(case(kind, X, opset=opset, axis=axis) for kind in ("Softmax", "LogSoftmax") for opset, axis in ((11, 1), (11,
      2), (13, 1), (13, -1))), case("Softmax", X, opset=11), case("Softmax", X), case("Conv", X, W),
    case("Conv", X, W, f32(6), pads=[1, 2, 1, 2], strides=[2, 1]), case("Conv", X, W, pads=[0, 1, 2, 0]),
    case("Conv", X, W, dilations=[2, 3]), case("Conv", X, WG, group=2, dilations=[1, 2], strides=[1, 2]),
    *(case("Conv", X, W, auto_pad=how, strides=[2, 2]) for how in ("SAME_UPPER", "SAME_LOWER", "VALID")),
    case("Conv", f32(2, 3, 9), f32(4, 3, 2), pads=[1, 0]),
    case("Conv", f32(1, 2, 5, 6, 7), f32(3, 2, 2, 3, 2), pads=[1, 0, 1, 1, 0, 1]),
    case("Conv", X, f32(4, 1, 3, 3), group=4), case("ConvTranspose", X, WT),
    case("ConvTranspose", X, WT, f32(3), strides=[2, 3], pads=[1, 1, 1, 1], output_padding=[1, 0]),
    case("ConvTranspose", X, WT, group=2, dilations=[2, 1]),
    case("ConvTranspose", f32(1, 4, 6), f32(4, 2, 3), strides=[2]), case("Gemm", f32(3, 4), f32(4, 5), f32(5)),
    case("Gemm", f32(4, 3), f32(5, 4), f32(1, 5), transA=1, transB=1, alpha=0.5, beta=2.0),
    case("Gemm", f32(3, 4), f32(4, 5)),
    *(case(kind, X, kernel_shape=[3, 2], strides=[2, 2], ceil_mode=ceil, pads=[1, 0, 1, 0]) for kind in ("MaxPool",
      "AveragePool") for ceil in (0, 1)), case("MaxPool", X, kernel_shape=[3, 3], pads=[0, 1, 2, 0]),
    case("MaxPool", X, kernel_shape=[2, 2], dilations=[2, 3]),
    *(case("MaxPool", X, kernel_shape=[2, 3], strides=[2, 2], auto_pad=how) for how in ("SAME_UPPER", "SAME_LOWER")),
    case("MaxPool", f32(1, 2, 9), kernel_shape=[3], strides=[3]),
    case("MaxPool", X, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1),
    case("AveragePool", X, kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
    case("AveragePool", X, kernel_shape=[3, 3], pads=[0, 1, 2, 0], count_include_pad=1),
    case("AveragePool", X, kernel_shape=[2, 2], strides=[2, 2], ceil_mode=1, opset=19), case("GlobalAveragePool", X),
    case("GlobalMaxPool", X), case("GlobalAveragePool", f32(2, 3, 4)),
    case("BatchNormalization", X, f32(4), f32(4, seed=1), f32(4, seed=2), f32(4, low=0.1), epsilon=1e-3),
    case("LayerNormalization", V, f32(5), f32(5, seed=1)),
    case("LayerNormalization", X, f32(7, 9), axis=2, epsilon=1e-2),
    case("InstanceNormalization", X, f32(4), f32(4, seed=1)),
    case("GroupNormalization", X, f32(4), f32(4, seed=1), num_groups=2, opset=21),
    *(case(kind, X, opset=11, axes=[1, -1], keepdims=0) for kind in ("ReduceMean", "ReduceSum", "ReduceMax",
      "ReduceMin", "ReduceL2")),
    *(case(kind, X, i64(-2), opset=18) for kind in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceL2")),
    case("ReduceSum", X, i64(1, 2), opset=13), case("ReduceMean", X), case("ReduceMean", X, opset=18, keepdims=0),
    case("ReduceSum", X, i64(), opset=13, noop_with_empty_axes=1),
    case("ReduceMax", X, opset=18, noop_with_empty_axes=1),
    *(case(kind, X, axis=axis, keepdims=keep) for kind in ("ArgMax", "ArgMin") for axis, keep in ((1, 1), (-1, 0))),
    case("Reshape", X, i64(0, -1, 9)), case("Reshape", f32(0, 3), i64(3, 0), allowzero=1), case("Reshape", V, i64(-1)),
    *(case("Flatten", X, axis=axis) for axis in (0, 1, 3, -1)), case("Transpose", X),
    case("Transpose", X, perm=[0, 2, 3, 1]), case("Squeeze", f32(1, 3, 1), opset=11, axes=[0, -1]),
    case("Squeeze", f32(1, 3, 1), i64(2)), case("Squeeze", f32(1, 3, 1)), case("Unsqueeze", V, opset=11, axes=[0, 3]),
    case("Unsqueeze", V, i64(-1, 0)), case("Unsqueeze", V, i64(1), opset=18),
    case("Slice", X, opset=9, starts=[1, -3], ends=[9, 1000], axes=[2, 3]), case("Slice", X, i64(0, 1), i64(1, 3)),
    case("Slice", X, i64(-1), i64(-1000), i64(2), i64(-2)),
    case("Slice", X, i64(6, 5), i64(1, 0), i64(-2, 1), i64(-1, -1)),
    case("Slice", X, i64(0, 1), i64(2**62, 9), i64(3, 2), i64(3, 2)), case("Slice", X, i64(5), i64(2), i64(3)),
    case("Split", X, opset=11, outputs=2, axis=1, split=[1, 3]), case("Split", X, i64(2, 5), outputs=2, axis=2),
    case("Split", X, outputs=2, axis=1), case("Split", X, opset=18, outputs=3, axis=2, num_outputs=3),
    case("Split", X, outputs=3, axis=-1), case("Gather", X, i64(2, -1, 0), axis=1),
    case("Gather", X, np.int64(1), axis=-1), case("Gather", V, np.array([[0, 1], [2, -3]])),
    case("Expand", f32(3, 1), i64(2, 1, 4)), case("Expand", f32(3, 1), i64(1)), case("Concat", V, f32(3, 2), axis=1),
    case("Concat", V, V, axis=-2), case("Pad", X, i64(0, 1, 2, 0, 0, 0, 1, 3)),
    case("Pad", X, i64(0, 0, 1, 2, 0, 0, 3, 0), np.float32(0.7)), case("Pad", X, i64(2, 1), None, i64(-1), opset=18),
    case("Pad", V, opset=9, pads=[0, 1, 2, 0], value=0.5),
    *(case("Pad", X, i64(0, 0, 1, 2, 0, 0, 2, 1), mode=mode) for mode in ("reflect", "edge")),
    case("Pad", X, i64(*[0] * 8), mode="edge"), case("Pad", X, i64(0, 0, 0, 2, 0, 0, 0, 1), mode="reflect"),
    case("Pad", V, i64(0, 2, 0, 1), mode="edge"),
    *(case("Resize", X, None, np.float32([1, 1, 2, 1.5]), mode=mode, coordinate_transformation_mode=place) for mode in
      ("linear", "cubic", "nearest") for place in ("half_pixel", "pytorch_half_pixel", "asymmetric", "align_corners")),
    *(case("Resize", X, None, np.float32([1, 1, 1.6, 0.6]), mode="nearest", nearest_mode=near,
      coordinate_transformation_mode="asymmetric") for near in ("round_prefer_floor", "round_prefer_ceil", "floor",
      "ceil")),
    *(case("Resize", X, None, None, i64(2, 4, *sides), mode=mode) for sides in ((14, 5), (1, 9)) for mode in
      ("linear", "cubic")), case("Resize", X, None, np.float32([1, 1, 0.5, 0.3]), mode="linear"),
    case("Resize", X, None, None, i64(2, 4, 14, 18), opset=13),
    case("Resize", X, np.float32([]), np.float32([1, 1, 2, 2]), mode="cubic", cubic_coeff_a=-0.5, opset=11),
    case("Resize", X, np.float32([1, 1, 2, 3]), opset=10), case("Upsample", X, np.float32([1, 1, 2, 2]), opset=9),
    case("Upsample", X, np.float32([1, 1, 2, 3]), opset=9, mode="linear"), case("Shape", X),
    case("Shape", X, start=1, end=-1), case("ConstantOfShape", i64(2, 3)),
    case("ConstantOfShape", i64(2), value=helper.make_tensor("v", 7, [1], [5])), case("Tile", V, i64(2, 3)),
    case("Tile", V, i64(1, 2), opset=9), *(case("Cast", 5 * V, to=kind) for kind in (1, 6, 7, 9, 11)),
    case("Cast", Q, to=1), case("Range", np.int64(2), np.int64(9), np.int64(3)),
    case("Range", np.float32(1), np.float32(-1), np.float32(-0.5)),
    *(case("DepthToSpace", f32(2, 8, 2, 3), blocksize=2, mode=mode) for mode in ("DCR", "CRD")),
    case("QuantizeLinear", 100 * X, np.float32(0.7), np.uint8(120)), case("QuantizeLinear", 100 * X, np.float32(0.5)),
    case("QuantizeLinear", 100 * X, f32(4, low=0.1), np.zeros(4, np.int8)),
    case("QuantizeLinear", 9 * V, f32(3, low=0.1), np.zeros(3, np.int8), axis=0),
    case("DequantizeLinear", Q, np.float32(0.3), np.uint8(3)),
    case("DequantizeLinear", Q, f32(4), np.arange(4, dtype=np.uint8), axis=-1),
    case("DequantizeLinear", Q.astype(np.int32), np.float32(0.3)), case("DynamicQuantizeLinear", 3 * V, outputs=3),
    case("DynamicQuantizeLinear", POSITIVE, outputs=3),
    case("MatMulInteger", Q, Q[0].T.copy().astype(np.int8), np.uint8(7), np.int8(-3)),
    case("MatMulInteger", Q, Q[0].T.copy()),
]  # fmt: skip


@pytest.mark.parametrize("given_case", CASES, ids=lambda each: f"{each[0]}-{each[3]}")
def test_torch_gives_what_onnxruntime_gives(given_case: Case) -> None:
    kind, arrays, attributes, opset, count = given_case
    names = ["" if array is None else f"i{k}" for k, array in enumerate(arrays)]
    inputs = {name: np.asarray(array) for name, array in zip(names, arrays, strict=True) if name}
    outputs = [f"o{k}" for k in range(count)]
    needed = outputs[:1] if kind == "Dropout" else outputs
    made = model([helper.make_node(kind, names, outputs, "n", **attributes)], inputs, needed, opset=opset)
    for ours, theirs in zip(by_torch(made, inputs), by_onnxruntime(made, inputs), strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        if theirs.dtype.kind == "f":
            assert np.allclose(ours, theirs, rtol=1e-5, atol=1e-5)
        else:
            assert np.array_equal(ours, theirs)


def test_every_operator_is_held_against_onnxruntime() -> None:
    assert {each[0] for each in CASES} == OPERATORS.keys() - {"Constant"}


@pytest.mark.parametrize(("attribute", "value"), [("value_float", 1.5), ("value_ints", [1, 2]), ("value_floats", [0.5]),
                                                  ("value", helper.make_tensor("t", 1, [2], [1.0, 2.0]))])  # fmt: skip
def test_constants_of_nodes_are_read_whichever_attribute_has_them(attribute: str, value: Any) -> None:
    made = model([helper.make_node("Constant", [], ["c"], **{attribute: value}),
                  helper.make_node("Identity", ["c"], ["y"])], {}, ["y"])  # fmt: skip
    [[ours], [theirs]] = by_torch(made, {}), by_onnxruntime(made, {})
    assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)


def chain() -> Any:
    nodes = [helper.make_node("Mul", ["x", "two"], ["a"], "double"),
             helper.make_node("Add", ["a", "one"], ["b"], "more"),
             helper.make_node("Relu", ["b"], ["y"], "bend")]  # fmt: skip
    return model(nodes, {"x": V}, ["y"], {"two": np.float32(2), "one": np.float32(1)})


def test_parts_of_a_graph_run_with_other_constants_and_altered_tensors() -> None:
    graph, x = TorchGraph(chain(), "net"), torch.from_numpy(V)
    assert graph.run({"a": x}, ["b"])["b"].equal(x + 1)
    assert graph.run({"b": x}, ["y"])["y"].equal(x.relu())
    assert graph.run({"x": x}, ["a", "y"], constants={"two": torch.tensor(3.0)})["a"].equal(3 * x)
    assert graph.run({"x": x}, altered={"a": lambda t: t * 0})["y"].equal(torch.ones_like(x))
    assert graph.run({"x": x})["y"].equal((2 * x + 1).relu())
    halves = model([helper.make_node("Split", ["x"], ["a", "b"], "s", axis=1)], {"x": f32(2, 4)}, ["a", "b"])
    both = TorchGraph(halves, "net").run({"x": torch.ones(2, 4), "a": torch.zeros(2, 2)})
    assert both["a"].equal(torch.zeros(2, 2)) and both["b"].equal(torch.ones(2, 2))  # what is given is not made


def test_what_a_graph_lacks_is_named() -> None:
    graph = TorchGraph(chain(), "net.onnx")
    with pytest.raises(ModelError, match=r"net\.onnx.*x is not given"):
        graph.run({}, ["y"])
    with pytest.raises(ModelError, match=r"Add 'more'"):
        graph.run({"a": torch.zeros(2, 3)}, ["b"], constants={"one": torch.zeros(7)})
    strange = model([helper.make_node("Det", ["x"], ["y"], "volume")], {"x": f32(2, 2)}, ["y"])
    with pytest.raises(ModelError, match=r"net\.onnx.*Det \(of volume\)"):
        TorchGraph(strange, "net.onnx")
    pool = helper.make_node("MaxPool", ["x"], ["y", "where"], "pool", kernel_shape=[2, 2])
    with pytest.raises(ModelError, match=r"MaxPool 'pool': the output where"):
        TorchGraph(model([pool], {"x": X}, ["y", "where"]), "net.onnx").run({"x": torch.from_numpy(X)})
    foreign = model([helper.make_node("Relu", ["x"], ["y"], "n", domain="com.us")], {"x": V}, ["y"])
    with pytest.raises(ModelError, match=r"com\.us\.Relu \(of n\)"):
        TorchGraph(foreign, "net.onnx")


@pytest.mark.parametrize("node", [
    helper.make_node("MaxPool", ["x"], ["y", "where"], "pool", kernel_shape=[2, 2]),
    helper.make_node("ArgMax", ["x"], ["y"], "arg", axis=1, select_last_index=1),
    helper.make_node("Resize", ["x", "", "s"], ["y"], "size", mode="linear", antialias=1),
    helper.make_node("Pad", ["x", "p"], ["y"], "pad", mode="wrap"),
], ids=lambda node: node.name)  # fmt: skip
def test_what_of_an_operator_is_not_there_is_said_or_right(node: Any) -> None:
    constants = {"s": np.float32([1, 1, 0.5, 0.5]), "p": i64(0, 0, 1, 0, 0, 0, 0, 0)}
    x = np.tile(f32(1, 1, 4, 4).round(), (1, 2, 1, 1))  # classes are equal: the last is not the first
    made = model([node], {"x": x}, ["y"], constants, opset=19)
    try:
        ours = by_torch(made, {"x": x})[0]
    except ModelError as error:
        assert node.name in str(error)
    else:
        assert np.allclose(ours, by_onnxruntime(made, {"x": x})[0], atol=1e-5)


# --- preparation


NORM = {"s": f32(6, seed=1), "t": f32(6, seed=2), "m": f32(6, seed=3), "v": f32(6, seed=4, low=0.2)}
IMAGE, ROW = f32(1, 4, 6, 8, seed=9), f32(1, 5, seed=9)
node = helper.make_node


def normed(kind: str, weight: Any, x: Any, *bias: Any, **attributes: Any) -> Any:
    names = ["x", "w", *(f"b{i}" for i in range(len(bias)))]
    nodes = [node(kind, names, ["a"], **attributes), node("BatchNormalization", ["a", *NORM], ["y"], epsilon=1e-3)]
    return model(nodes, {"x": x}, ["y"], {"w": weight, **NORM, **dict(zip(names[2:], bias, strict=True))})


def shaped() -> Any:
    """Image to tokens by way of its own shape, as exporters write it."""
    nodes = [
        node("Conv", ["x", "w"], ["a"]), node("Shape", ["a"], ["n"]), node("Gather", ["n", "zero"], ["batch"]),
        node("Concat", ["batch", "rest"], ["to"], axis=0), node("Reshape", ["a", "to"], ["r"]),
        node("Constant", [], ["p"], value_floats=[0.5]), node("Mul", ["r", "p"], ["y"]),
    ]  # fmt: skip
    return model(nodes, {"x": IMAGE}, ["y"], {"w": f32(6, 4, 3, 3), "zero": i64(0), "rest": i64(6, -1)})


def shared() -> Any:
    nodes = [node("MatMul", ["x", "w"], ["a"]), node("Add", ["a", "b"], ["c"]), node("MatMul", ["c", "w"], ["d"]),
             node("Add", ["d", "b"], ["y"])]  # fmt: skip
    made = model(nodes, {"x": ROW}, ["y"], {"w": f32(5, 5), "b": f32(5)})
    made.graph.input.extend(
        [helper.make_tensor_value_info("w", 1, (5, 5)), helper.make_tensor_value_info("b", 1, (5,))]
    )
    return made  # as older exporters write it, constants among the inputs


GIVEN = {
    "conv": (lambda: normed("Conv", f32(6, 4, 3, 3), IMAGE, f32(6)), {"Conv": 1}),
    "conv of groups": (lambda: normed("Conv", f32(6, 2, 3, 3), IMAGE, group=2), {"Conv": 1}),
    "transposed": (lambda: normed("ConvTranspose", f32(4, 6, 3, 3), IMAGE, f32(6)), {"ConvTranspose": 1}),
    "transposed, groups": (lambda: normed("ConvTranspose", f32(4, 3, 3, 3), IMAGE, group=2),
                           {"ConvTranspose": 1, "BatchNormalization": 1}),
    "gemm": (lambda: normed("Gemm", f32(5, 6), ROW), {"Gemm": 1}),
    "gemm turned": (lambda: normed("Gemm", f32(6, 5), ROW, f32(6), transB=1, alpha=0.5), {"Gemm": 1}),
    "gemm, factors": (lambda: normed("Gemm", f32(6, 5), ROW, f32(6), transB=1, alpha=0.5, beta=3.0), {"Gemm": 1}),
    "shapes": (shaped, {"Conv": 1, "Reshape": 1, "Mul": 1}), "shared": (shared, {"MatMul": 2, "Add": 2}),
}  # fmt: skip


@pytest.mark.parametrize("name", GIVEN)
def test_a_prepared_network_gives_the_same_for_any_batch(name: str) -> None:
    make, kinds = GIVEN[name]
    given_model = make()
    outputs = by_onnxruntime(
        given_model, {"x": IMAGE if len(given_model.graph.input[0].type.tensor_type.shape.dim) == 4 else ROW}
    )
    given_model.graph.output[0].CopyFrom(helper.make_tensor_value_info("y", 1, outputs[0].shape))
    net = Network(given_model, "net")
    found = [each.op_type for each in net.model.graph.node]
    assert {kind: found.count(kind) for kind in found} == kinds and net.batched
    assert len({layer.weight for layer in net.layers}) == len(net.layers)  # none is shared any more
    shape = [side.dim_value for side in given_model.graph.input[0].type.tensor_type.shape.dim]
    several = f32(3, *shape[1:], seed=5)
    wanted = np.concatenate([by_onnxruntime(given_model, {"x": several[i : i + 1]})[0] for i in range(3)])
    assert np.allclose(by_onnxruntime(net.model, {"x": several})[0], wanted, atol=1e-5)
    assert np.allclose(net.run({"x": torch.from_numpy(several)})["y"].numpy(), wanted, atol=1e-5)


def test_a_batch_that_cannot_be_free_stays_one_and_is_run_one_by_one() -> None:
    nodes = [node("Reshape", ["x", "to"], ["a"]), node("MatMul", ["a", "w"], ["b"]), node("ReduceSum", ["b"], ["y"])]
    made = model(nodes, {"x": f32(1, 10)}, ["y"], {"to": i64(2, 5), "w": f32(5, 3)})
    net, several = Network(made, "net"), f32(3, 10, seed=5)
    assert not net.batched and net.graph.shapes["x"] == (1, 10)
    wanted = [by_onnxruntime(made, {"x": several[i : i + 1]})[0].item() for i in range(3)]
    assert np.allclose(net.run({"x": torch.from_numpy(several)})["y"].reshape(-1).numpy(), wanted, atol=1e-5)
