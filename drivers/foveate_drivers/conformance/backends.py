"""What every inference backend promises; nets are made here and held against onnxruntime (needs `onnx`)."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate import catalog
from foveate.clock import process_ns
from foveate.errors import BackendMissing, FoveateError, ModelError, NotSupported, StateError
from foveate_drivers.backends.base import DTYPES, Backend, TensorInfo
from foveate_drivers.backends.feeds import feeds
from foveate_drivers.backends.onnx import OnnxBackend
from foveate_drivers.backends.onnx_file import look
from foveate_drivers.backends.parity import difference, has_integers
from foveate_drivers.backends.probes import Probe
from foveate_drivers.conformance.suite import Failed, Skipped, expect, expect_error

Feeds = dict[str, NDArray[Any]]


@dataclass
class ModelBench:
    """A backend to be checked: how to load a model on it, and models that it must be able to run."""

    make: Callable[..., Backend]  # (model, provider=..., threads=...)
    models: list[Path]  # one at least
    folder: Path  # empty; for nets that are made
    kind: type[Backend] = field(default=Backend)

    def net(self, name: str, fill: Callable[[Probe], None]) -> Path:
        """An ONNX file of a few nodes. Raises Skipped where the backend takes none, or `onnx` is absent."""
        if ".onnx" not in self.kind.suffixes:
            raise Skipped(f"it takes {', '.join(self.kind.suffixes)}")
        try:
            catalog.optional("onnx", name, "bench")
        except BackendMissing as error:
            raise Skipped(str(error)) from None
        probe = Probe(1, whole=True)
        fill(probe)
        path = self.folder / f"{name}.onnx"
        path.write_bytes(probe.bytes())
        return path


def checks(suite: ModuleType) -> list[Callable[[ModelBench], None]]:
    """All checks of this module, in their order."""
    return [item for name, item in vars(suite).items() if name.startswith("check_")]


# --- nets


def convolution(p: Probe) -> None:
    x = p.given(1, 8, 20, 24)
    y = p.node("Conv", x, p.held(16, 8, 3, 3), p.held(16), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    p.give(p.node("Relu", y))


def depthwise(p: Probe) -> None:
    x, w = p.given(1, 16, 15, 17), p.held(16, 1, 3, 3)
    p.give(p.node("Conv", x, w, kernel_shape=[3, 3], pads=[1, 1, 1, 1], group=16))


def resize(p: Probe) -> None:
    scale = p.floats(1, 1, 2, 2)
    x = p.given(1, 4, 9, 11)
    p.give(p.node("Resize", x, "", scale, mode="nearest", coordinate_transformation_mode="asymmetric",
                  nearest_mode="floor"))  # fmt: skip


def smooth_resize(p: Probe) -> None:
    p.give(p.node("Resize", p.given(1, 4, 9, 11), "", p.floats(1, 1, 2, 2), mode="linear"))


def concat(p: Probe) -> None:
    x, y = p.given(1, 3, 8, 8), p.given(1, 5, 8, 8)
    p.give(p.node("Relu", p.node("Concat", x, y, axis=1)))


def softmax(p: Probe) -> None:
    p.give(p.node("Softmax", p.given(1, 6, 10), axis=-1))


def gemm(p: Probe) -> None:
    p.give(p.node("Gemm", p.given(1, 64), p.held(10, 64), p.held(10), transB=1))


def layer_norm(p: Probe) -> None:
    p.give(p.node("LayerNormalization", p.given(1, 12, 32), p.held(32, scale=1.0), p.held(32), axis=-1))


def pooling(p: Probe) -> None:
    x = p.given(1, 8, 16, 16)
    p.give(p.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]))
    p.give(p.node("GlobalAveragePool", x))


def curves(p: Probe) -> None:
    x = p.given(1, 4, 8, 8)
    p.give(p.node("Mul", x, p.node("Sigmoid", x)))
    p.give(p.node("Tanh", x))


def integers(p: Probe) -> None:
    x = p.quantized(p.given(1, 8, 16, 16))
    y = p.node("Conv", x, p.integers(8, 8, 3, 3), p.held(8), kernel_shape=[3, 3], pads=[1, 1, 1, 1])
    p.give(p.quantized(y, 0.3))


NETS = (convolution, depthwise, resize, smooth_resize, concat, softmax, gemm, layer_norm, pooling, curves, integers)


# --- what is promised


def check_says_what_it_is(bench: ModelBench) -> None:
    """It names the provider that runs; inputs and outputs have names, types and shapes of the file."""
    for model in bench.models:
        with _loaded(bench, model) as backend:
            expect(backend.provider, "it names no provider")
            expect(backend.inputs and backend.outputs, f"{model.name}: no inputs or no outputs")
            if model.suffix != ".onnx":
                continue
            described = look(model)
            _same(described.inputs, backend.inputs, f"{model.name}: inputs")
            _same(described.outputs, backend.outputs, f"{model.name}: outputs")


def check_gives_what_it_says(bench: ModelBench) -> None:
    """Outputs have the types and shapes that `outputs` says, as many and in that order."""
    for model in bench.models:
        with _loaded(bench, model) as backend:
            found = backend.run(feeds(model, backend.inputs))
            expect(len(found) == len(backend.outputs), f"{len(found)} outputs, not {len(backend.outputs)}")
            for array, item in zip(found, backend.outputs, strict=True):
                _is(array, item)


def check_nets_are_computed_as_by_onnxruntime(bench: ModelBench) -> None:
    """Each small net's outputs are onnxruntime's within what the class promises; what it cannot run it refuses."""
    ran = 0
    for fill in NETS:
        model = bench.net(fill.__name__, fill)
        reference = OnnxBackend(model)
        given = feeds(model, reference.inputs)
        try:
            backend = bench.make(model)
            found = backend.run(given)
        except ModelError as error:
            _one_line(error)
            continue
        ran += 1
        far = difference(found, reference.run(given))
        limit = backend.parity_integer if has_integers(model) else backend.parity
        expect(far is not None, f"{fill.__name__}: outputs of shapes {[a.shape for a in found]}")
        expect(far is not None and far <= limit, f"{fill.__name__}: differs by {far:.2g}, promised is {limit:g}")
        for array, item in zip(found, reference.outputs, strict=True):
            _is(array, item)
        backend.close()
    expect(ran >= len(NETS) // 2, f"it runs {ran} of {len(NETS)} nets")


def check_the_same_twice(bench: ModelBench) -> None:
    """The same arrays give the same bytes again, from the same object and from a new one."""
    for model in bench.models:
        with _loaded(bench, model) as backend, _loaded(bench, model) as other:
            given = feeds(model, backend.inputs)
            first = [array.tobytes() for array in backend.run(given)]
            expect(first == [array.tobytes() for array in backend.run(given)], "the second run gave other bytes")
            expect(first == [array.tobytes() for array in other.run(given)], "a second object gave other bytes")


def check_arrays_are_left_alone(bench: ModelBench) -> None:
    """A run changes neither what it was given nor what an earlier run gave."""
    model = bench.models[0]
    with _loaded(bench, model) as backend:
        given = feeds(model, backend.inputs)
        before = {name: array.tobytes() for name, array in given.items()}
        first = backend.run(given)
        kept = [array.tobytes() for array in first]
        expect(all(array.tobytes() == before[name] for name, array in given.items()), "it changed what it was given")
        changed = {name: (array[..., ::-1] if array.ndim else array).copy() for name, array in given.items()}
        backend.run(changed)
        expect(kept == [array.tobytes() for array in first], "a run changed what the one before gave")


def check_takes_views(bench: ModelBench) -> None:
    """An array whose rows do not follow one another is as good as its copy."""
    model = bench.models[0]
    with _loaded(bench, model) as backend:
        given = feeds(model, backend.inputs)
        views = {name: _scattered(array) for name, array in given.items()}
        one, two = backend.run(given), backend.run(views)
        expect(all(a.tobytes() == b.tobytes() for a, b in zip(one, two, strict=True)), "a view gives another result")


def check_one_thread_is_one(bench: ModelBench) -> None:
    """With `threads=1` it uses no more than a processor; with 2 it gives the same within what it promises."""
    model = bench.models[0]
    with _loaded(bench, model) as backend:
        given = feeds(model, backend.inputs)
        alone = backend.run(given)
        shares = []
        for _ in range(3):
            begun, used = process_ns(), _processor_s()
            while process_ns() - begun < 60_000_000:
                backend.run(given)
            shares.append((_processor_s() - used) * 1e9 / (process_ns() - begun))
        expect(min(shares) < 1.4, f"it uses {min(shares):.1f} processors with threads=1")
    two = bench.make(model, threads=2)
    far = difference(two.run(given), alone)
    expect(far is not None and far <= max(two.parity, two.parity_integer), f"with 2 threads it differs by {far}")
    two.close()


def check_free_sides(bench: ModelBench) -> None:
    """A model with free sides runs at several sizes as onnxruntime does, or is refused in one line."""

    def fill(p: Probe) -> None:
        x = p.given(1, 3, "height", "width")
        p.give(p.node("Relu", p.node("Conv", x, p.held(8, 3, 3, 3), kernel_shape=[3, 3], pads=[1, 1, 1, 1])))

    model = bench.net("free", fill)
    try:
        backend = bench.make(model)
    except ModelError as error:
        _one_line(error)
        expect("?" in str(error), f"it does not say that sides are free: {error}")
        return
    reference = OnnxBackend(model)
    name = backend.inputs[0].name
    for height, width in ((16, 24), (31, 17), (16, 24)):
        given = {name: np.random.default_rng(height).normal(size=(1, 3, height, width)).astype(np.float32)}
        far = difference(backend.run(given), reference.run(given))
        expect(far is not None and far <= backend.parity, f"at {height} x {width} it differs by {far}")
    backend.close()


def check_wrong_inputs_are_named(bench: ModelBench) -> None:
    """A missing or unknown input, another shape and another type raise ModelError, each in a line with its name."""
    model = bench.models[0]
    with _loaded(bench, model) as backend:
        given = feeds(model, backend.inputs)
        item = backend.inputs[0]
        array = given[item.name]
        other = np.float64 if array.dtype != np.float64 else np.float32
        wrong: list[tuple[Feeds, str]] = [
            ({}, item.name), ({**given, "no_such_input": array}, "no_such_input"),
            ({**given, item.name: array[None]}, item.name), ({**given, item.name: array.astype(other)}, item.name),
        ]  # fmt: skip
        for arrays, word in wrong:
            error = _refused(backend, arrays)
            expect(word in str(error), f"the error does not name '{word}': {error}")
        backend.run(given)


def check_closed_it_refuses(bench: ModelBench) -> None:
    """Once closed, `run` raises StateError; `close` may be called twice."""
    model = bench.models[0]
    backend = bench.make(model)
    given = feeds(model, backend.inputs)
    backend.close()
    backend.close()
    expect_error(StateError, lambda: backend.run(given), "run after close")


def check_unknown_operators_are_named(bench: ModelBench) -> None:
    """A model with an operator that it does not know is refused when it is loaded, by that operator's name."""

    def fill(p: Probe) -> None:
        p.constrain((1, 4, 8, 8), p.node("Frobnicate", p.node("Relu", p.given(1, 4, 8, 8))))

    model = bench.net("unknown", fill)

    def act() -> None:
        backend = bench.make(model)
        backend.run(feeds(model, backend.inputs))

    error = expect_error(ModelError, act, "an unknown operator")
    expect("Frobnicate" in str(error), f"the error does not name the operator: {error}")


def check_files_that_are_no_models(bench: ModelBench) -> None:
    """No file, an empty one, one cut off and one of noise raise ModelError in a line that names the file."""
    data = bench.models[0].read_bytes()
    suffix = bench.models[0].suffix
    contents = {"empty": b"", "cut": data[: len(data) // 3], "noise": bytes(range(256)) * 40}
    for name, content in contents.items():
        path = bench.folder / f"{name}{suffix}"
        path.write_bytes(content)
        error = expect_error(ModelError, lambda path=path: bench.make(path), f"a file that is {name}")  # type: ignore[misc]
        expect(path.name in str(error), f"the error does not name the file: {error}")
    expect_error(ModelError, lambda: bench.make(bench.folder / f"nowhere{suffix}"), "no file")


def check_unknown_providers_are_refused(bench: ModelBench) -> None:
    """A provider that is not there raises NotSupported with those that are, and nothing runs elsewhere instead."""
    error = expect_error(NotSupported, lambda: bench.make(bench.models[0], provider="abacus"), "an unknown provider")
    expect("abacus" in str(error) and "cpu" in str(error).lower(), f"the error does not say what there is: {error}")


# --- how


def _loaded(bench: ModelBench, model: Path) -> Any:
    return closing(bench.make(model))


def _is(array: NDArray[Any], item: TensorInfo) -> None:
    dtype = DTYPES.get(item.dtype)
    expect(dtype is None or array.dtype == dtype, f"'{item.name}' is {array.dtype}, not {dtype}")
    fits = len(array.shape) == len(item.shape) and all(
        want in (have, None) for want, have in zip(item.shape, array.shape, strict=True)
    )
    expect(fits, f"'{item.name}' is {array.shape}, not {item.shape}")


def _same(wanted: tuple[TensorInfo, ...], found: list[TensorInfo], what: str) -> None:
    names = [item.name for item in found]
    expect(names == [item.name for item in wanted], f"{what} are {names}")
    for a, b in zip(wanted, found, strict=True):
        expect(a.dtype == b.dtype, f"{what}: '{a.name}' is {b.dtype}, the file says {a.dtype}")
        sides = zip(a.shape, b.shape, strict=True) if len(a.shape) == len(b.shape) else iter([(0, 1)])
        fits = not a.shape or all(x == y or None in (x, y) for x, y in sides)
        expect(fits, f"{what}: '{a.name}' is {b.shape}, the file says {a.shape}")


def _refused(backend: Backend, arrays: Feeds) -> FoveateError:
    return expect_error(ModelError, lambda: backend.run(arrays), "arrays that do not fit")


def _one_line(error: FoveateError) -> None:
    if "\n" in str(error):
        raise Failed(f"the error is not one line: {error}")


def _scattered(array: NDArray[Any]) -> NDArray[Any]:
    if not array.ndim:
        return array
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    return wide[..., ::2]


def _processor_s() -> float:
    """Time of the processor that this process took, all threads together."""
    times = os.times()
    return times.user + times.system
