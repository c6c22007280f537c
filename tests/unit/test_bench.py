"""What a layer costs, what it should take, what is measured, and what is kept: engines and the board's profile."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foveate.errors import FoveateError, ModelError
from foveate.paths import launch_folder
from foveate_drivers.backends import bench, bench_command, bench_layers, engine_cache, loading, profile
from foveate_drivers.backends.feeds import feeds
from foveate_drivers.backends.onnx import OnnxBackend
from foveate_drivers.backends.onnx_costs import Cost, Tensor, cost, graph_costs
from foveate_drivers.backends.onnx_file import look
from foveate_drivers.backends.parity import difference
from foveate_drivers.backends.roofline import Roofline, Sample
from foveate_drivers.conformance import backends as nets

EDGES = launch_folder() / "models" / "edges.onnx"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


def net(name: str, folder: Path) -> Path:
    pytest.importorskip("onnx", reason="nets are made with the extra 'bench'")
    return nets.ModelBench(OnnxBackend, [], folder, OnnxBackend).net(name, getattr(nets, name))


# --- costs


def test_layers_cost_what_their_sizes_say() -> None:
    image = Tensor((1, 8, 20, 24))
    dense = cost("a", "Conv", {}, [image, Tensor((16, 8, 3, 3))], [Tensor((1, 16, 10, 12))], frozenset({1}))
    assert dense.operations == 2 * 16 * 10 * 12 * 8 * 9 and dense.weight_bytes == 16 * 8 * 9 * 4
    assert dense.moved_bytes == 4 * (8 * 20 * 24 + 16 * 10 * 12)
    deep = cost("b", "Conv", {"group": 8}, [image, Tensor((8, 1, 3, 3))], [image], frozenset({1}))
    assert deep.operations == 2 * 8 * 20 * 24 * 9 and deep.family.startswith("depthwise")
    gemm = cost("c", "Gemm", {"transB": 1}, [Tensor((3, 64)), Tensor((10, 64)), Tensor((10,))], [Tensor((3, 10))])
    assert gemm.operations == 2 * 3 * 10 * 64
    up = cost("d", "ConvTranspose", {}, [Tensor((1, 4, 5, 6)), Tensor((4, 3, 2, 2))], [Tensor((1, 3, 10, 12))])
    assert up.operations == 2 * 4 * 5 * 6 * 3 * 4
    whole = [Tensor((1, 8, 4, 4), 1), Tensor(()), Tensor((), 1), Tensor((4, 8, 1, 1), 1)]
    integer = cost("e", "QLinearConv", {}, whole, [Tensor((1, 4, 4, 4), 1)], frozenset({3}))
    assert integer.integer and integer.family == "qconv" and integer.weight_bytes == 32
    assert cost("f", "Reshape", {}, [image, Tensor((2,), 8)], [Tensor((1, 3840))]).bytes == 0


def test_a_transposition_is_known_by_how_it_turns_axes() -> None:
    def turn(shape: tuple[int, ...], perm: list[int]) -> str:
        return cost("t", "Transpose", {"perm": perm}, [Tensor(shape)], [Tensor(tuple(shape[i] for i in perm))]).family

    assert turn((1, 8, 5, 6), [0, 2, 3, 1]) == turn((8, 30), [1, 0]) == "Transpose 10"
    assert turn((1, 2, 4, 5, 6), [0, 2, 1, 3, 4]) == "Transpose 102"
    assert turn((4, 1, 5), [1, 0, 2]) == "Transpose 0", "nothing moves in memory"


def test_what_surrounds_a_quantized_layer_belongs_to_it(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="nets are made with the extra 'bench'")
    costs = {c.operator: c for c in graph_costs(onnx.load(net("integers", tmp_path)))}
    assert set(costs) == {"QuantizeLinear", "Conv", "DequantizeLinear"}, "what comes in and goes out is in float32"
    assert costs["Conv"].integer and costs["Conv"].moved_bytes == 2 * 8 * 16 * 16, "images of 8 bits"
    assert costs["Conv"].weight_bytes == 8 * 8 * 9 + 4 * 8, "weights of 8 bits, and a bias"


def test_an_activation_belongs_to_its_convolution(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="nets are made with the extra 'bench'")
    costs = graph_costs(onnx.load(net("convolution", tmp_path)))
    assert [c.operator for c in costs] == ["Conv"] and costs[0].operations == 2 * 16 * 10 * 12 * 8 * 9


# --- roofline


def board(**samples: list[Sample]) -> Roofline:
    return Roofline({"float32": {1: 50.0}}, {1 << 17: 50.0, 1 << 27: 10.0}, 2.0, samples)


def layer(family: str, operations: int, moved: int, *features: float) -> Cost:
    return Cost("l", "Conv", family, operations, 0, moved, family.startswith("q"), features)


def test_a_layer_takes_as_long_as_those_of_its_family_that_are_like_it() -> None:
    roofline = board(conv=[Sample((3.0,), 1e6, 20.0), Sample((9.0,), 1e6, 100.0)])
    near, far = roofline.predict(layer("conv", 10**7, 1000, 3.0)), roofline.predict(layer("conv", 10**7, 1000, 9.0))
    assert near.bound == far.bound == "compute"
    assert near.us == pytest.approx(202, rel=0.02) and far.us == pytest.approx(1002, rel=0.02)
    between = roofline.predict(layer("conv", 10**7, 1000, 6.0)).us
    assert near.us < between < far.us


def test_memory_and_overhead_bound_what_computes_little() -> None:
    roofline = board(conv=[Sample((3.0,), 1e6, 1.0)], Add=[Sample((3.0,), 1e6, 20.0)])
    assert roofline.predict(layer("conv", 1000, 1 << 27, 3.0)).bound == "memory"
    assert roofline.predict(layer("conv", 1000, 1000, 3.0)).bound == "overhead"
    assert roofline.predict(layer("Add", 10**6, 10**7, 3.0)).us == pytest.approx(2 + 10**7 / 1e4, rel=0.7)
    assert roofline.predict(layer("Unheard", 0, 10**6, 3.0)).us > 2, "of a family that nobody timed"


def test_a_roofline_comes_back_from_its_file() -> None:
    roofline = board(conv=[Sample((3.0, 4.0), 1e6, 20.0)])
    assert Roofline.of(json.loads(json.dumps(roofline.plain()))) == roofline
    with pytest.raises(LookupError):
        Roofline.of({"samples": {"conv": [["x"]]}})


def test_what_would_pay_says_what_is_gained_or_why_nothing() -> None:
    from foveate_drivers.backends.layers import Layer

    roofline = board(conv=[Sample((3.0,), 1e6, 20.0)], qconv=[Sample((3.0,), 1e6, 10.0)])
    for family, said in (("conv", "8 bits      1.9"), ("qconv", "have them already")):
        judged = bench_layers.judge([Layer(layer(family, 10**7, 1000, 3.0), "first", 200.0)], roofline)
        lines = bench_layers.what_would_pay(judged, roofline)
        assert said in lines[0] and "no faster" in lines[1] and "no faster" in lines[2]
        assert any("first" in line for line in bench_layers.table(judged))


@pytest.mark.heavy
def test_layers_of_a_real_model_are_found_and_mostly_predicted() -> None:
    """All of the probes; on a busy computer two thirds of the time within a factor of 3 still hold."""
    pytest.importorskip("onnx")
    from foveate_drivers.backends.layers import measure
    from foveate_drivers.backends.roofline import measured

    backend = OnnxBackend(EDGES)
    layers = measure(EDGES, feeds(EDGES, backend.inputs), 0.5)
    assert sum(item.cost.family == "qconv" for item in layers) >= 8
    assert sum(bool(item.origin) for item in layers) > len(layers) / 2
    judged = bench_layers.judge(layers, measured(seconds=0.5))
    total = sum(j.layer.measured_us for j in judged)
    assert sum(j.layer.measured_us for j in judged if 1 / 3 <= j.ratio <= 3) > 0.66 * total


# --- engines that are kept


def test_an_engine_is_built_once_and_again_when_it_is_damaged(tmp_path: Path) -> None:
    built: list[int] = []

    def build(folder: Path) -> None:
        built.append(len(built))
        (folder / "engine.bin").write_bytes(b"engine" * 100)

    def entry(version: str = "1.0") -> Path:
        return engine_cache.entry(EDGES, "some", version, "a CPU @ 2 GHz", build)

    place = entry()
    assert entry() == place and built == [0] and (place / "engine.bin").read_bytes() == b"engine" * 100
    assert engine_cache.root() == tmp_path / "cache" / "foveate" / "engines" == place.parent
    entry("2.0")
    assert built == [0, 1], "another version is another engine"
    for spoil in (lambda p: (p / "engine.bin").write_bytes(b"engime" * 100), lambda p: (p / "engine.bin").unlink(),
                  lambda p: (p / "entry.json").write_text("{")):  # fmt: skip
        spoil(place)
        assert entry() == place and engine_cache.whole(place)
    assert len(built) == 5 and not [p for p in place.parent.iterdir() if p.name.startswith(".")]


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_bytes(b"x")
        raise ModelError("m", "convert", "no such operator")

    with pytest.raises(ModelError, match="no such operator"):
        engine_cache.entry(EDGES, "some", "1", "cpu", build)
    assert list(engine_cache.root().iterdir()) == []


def test_a_slow_build_says_that_it_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[str] = []
    said = threading.Event()

    def tell(line: str) -> None:
        told.append(line)
        said.set()

    def build(folder: Path) -> None:
        assert said.wait(20)
        (folder / "engine").write_bytes(b"x")

    monkeypatch.setattr(engine_cache, "_SLOW_S", 0.01)
    engine_cache.entry(EDGES, "some", "1", "cpu", build, tell)
    assert "edges.onnx: building its some engine" in told[0] and "is built" in told[-1]


def test_a_folder_that_cannot_be_written_is_told_and_the_engine_serves_this_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    told: list[str] = []
    place = engine_cache.entry(EDGES, "some", "1", "cpu", lambda folder: (folder / "e").touch(), told.append)
    assert (place / "e").exists() and "cannot be kept" in told[0]


# --- the board's profile


def test_a_profile_is_merged_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "b" / "board.yaml"
    assert profile.read(path) == {}
    profile.write(path, {"models": {"a": {"name": "a.onnx"}}, "roofline": {"overhead_us": 1.0}})
    profile.write(path, {"models": {"b": {"name": "b.onnx"}}})
    data = profile.read(path)
    assert set(data["models"]) == {"a", "b"} and data["roofline"] == {"overhead_us": 1.0}
    assert data["board"]["cpu"] == profile.cpu_name() and data["board"]["libraries"]["onnxruntime"]
    assert [p.name for p in path.parent.iterdir()] == ["board.yaml"]
    text = path.read_text().replace(profile.cpu_name(), "another computer")
    path.write_text(text)
    profile.write(path, {"models": {"c": {}}})
    assert set(profile.read(path)["models"]) == {"c"}, "what another computer measured is not this one's"


@pytest.mark.parametrize("text", ["", "[]", "{a", "foveate_board: 9", "!!python/object:os.system {}"])
def test_a_file_that_is_no_profile_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "board.yaml"
    path.write_text(text)
    with pytest.raises(FoveateError, match=r"board\.yaml: not a board profile") as caught:
        profile.read(path)
    assert "\n" not in str(caught.value)


def test_auto_is_what_the_profile_says_of_this_very_file(monkeypatch: pytest.MonkeyPatch) -> None:
    assert profile.chosen(EDGES, "", 3) == ("onnx", "", 3), "no profile"
    choice = {"backend": "opencv_dnn", "provider": "", "threads": 2}
    profile.write(profile.default_path(), {"models": {profile.digest(EDGES): {"choice": choice}}})
    assert profile.chosen(EDGES, "", 3) == ("opencv_dnn", "", 2)
    assert profile.chosen(EDGES, "cpu", 3) == ("onnx", "cpu", 3), "a provider is one of onnxruntime's"
    assert profile.chosen(EDGES.with_name("regions.onnx"), "", 3) == ("onnx", "", 3), "a model that it does not know"
    loaded = loading.load(EDGES, backend="auto")
    assert type(loaded.backend).__name__ == "OpenCvBackend"
    loaded.prove()
    monkeypatch.setattr(profile, "cpu_name", lambda: "another computer")
    assert profile.chosen(EDGES, "", 3) == ("onnx", "", 3)


def test_a_node_takes_auto() -> None:
    from foveate_nodes.detection.detect import Detect

    options = {"model": launch_folder() / "models" / "vehicles_people.onnx", "provider": "", "threads": 1}
    assert list(Detect.check(**options, backend="auto")) == []
    said = list(Detect.check(**options, backend="autp"))
    assert len(said) == 1 and "unknown backend 'autp'" in str(said[0])


# --- measuring


def test_differences_are_shares_of_the_largest_value() -> None:
    one = [np.array([1.0, -4.0], np.float32)]
    assert difference([np.array([1.0, -3.0], np.float32)], one) == 0.25
    assert difference([np.zeros(3, np.float32)], one) is None
    assert difference([np.array([np.nan, -4.0], np.float32)], one) == np.inf
    assert difference([np.array([5], np.uint8)], [np.array([10], np.uint8)]) == 0.5


def row(name: str, threads: int, p50_ms: float, **more: Any) -> bench.Row:
    return bench.Row(EDGES, name, "", threads, p50_ms=p50_ms, **{"agrees": True, **more})


def test_the_choice_is_the_fastest_that_agrees_and_more_threads_must_pay() -> None:
    def chosen(*rows: bench.Row) -> tuple[str, int] | None:
        found = bench.choice(list(rows))
        return None if found is None else (found["backend"], found["threads"])

    assert chosen(row("a", 1, 10.0), row("b", 1, 5.0, agrees=False), row("c", 1, 1.0, why="no")) == ("a", 1)
    assert chosen(row("a", 1, 10.0), row("a", 2, 9.5)) == ("a", 1)
    assert chosen(row("a", 1, 10.0), row("a", 2, 5.5), row("b", 1, 7.0)) == ("a", 2)
    assert chosen(row("a", 1, 10.0, why="no")) is None


def test_feeds_are_the_golden_input_or_the_same_noise_every_time(tmp_path: Path) -> None:
    backend = OnnxBackend(EDGES)
    with np.load(EDGES.with_suffix(".golden.npz")) as pair:
        assert np.array_equal(feeds(EDGES, backend.inputs)["image"], pair["image"])
    sized = feeds(EDGES, backend.inputs, {"image": (1, 1, 16, 24)})["image"]
    assert sized.shape == (1, 1, 16, 24) and np.array_equal(
        sized, feeds(EDGES, backend.inputs, {"image": (1, 1, 16, 24)})["image"]
    )
    for shapes, said in (({"imag": (1,)}, "no input 'imag'"), ({"image": (1, 3, 8, 8)}, "1 x 1 x")):
        with pytest.raises(ModelError, match=said):
            feeds(EDGES, backend.inputs, shapes)  # type: ignore[arg-type]


def test_a_file_says_its_inputs_without_any_library() -> None:
    for model in sorted((launch_folder() / "models").glob("*.onnx")):
        backend, found = OnnxBackend(model), look(model)
        assert [(i.name, i.shape, i.dtype) for i in found.inputs] == [
            (i.name, i.shape, i.dtype) for i in backend.inputs
        ]
        assert [item.name for item in found.outputs] == [item.name for item in backend.outputs]


@pytest.mark.live
def test_bench_measures_prints_and_keeps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report = tmp_path / "report.json"
    arguments = [str(EDGES), "--backend", "onnx,litert", "--threads", "1", "--seconds", "0.3", "--json", str(report)]
    assert bench_command.main([*arguments, "--shape", "image=1x1x32x40"]) == 0
    shown = capsys.readouterr().out
    assert "1 x 1 x 32 x 40" in shown and "1.00x" in shown and "backend: auto is onnx, threads: 1" in shown
    data = json.loads(report.read_text())["models"][profile.digest(EDGES)]
    measured, refused = data["rows"]
    assert 0 < measured["p50_ms"] <= measured["p99_ms"] and measured["memory_mb"] > 1 and measured["difference"] == 0
    assert measured["load_ms"] > 0 and measured["runs"] >= 1
    assert "pip install" in refused["why"] or "takes .tflite" in refused["why"]
    assert profile.read(profile.default_path())["models"][profile.digest(EDGES)]["choice"]["backend"] == "onnx"


@pytest.mark.live
def test_bench_says_why_nothing_could_be_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = tmp_path / "bad.onnx"
    bad.write_bytes(b"nothing")
    assert (
        bench_command.main([str(bad), "--backend", "onnx", "--threads", "1", "--no-profile", "--seconds", "0.1"]) == 1
    )
    shown = capsys.readouterr().out
    assert "not an ONNX file" in shown and not profile.default_path().exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["nowhere.onnx"], "no such file"), ([str(EDGES), "--backend", "onx"], "did you mean 'onnx'"),
     ([str(Path(__file__)), ], "no backend takes")],
)  # fmt: skip
def test_bench_refuses_in_one_line(arguments: list[str], said: str) -> None:
    with pytest.raises(FoveateError, match=said) as caught:
        bench_command.main(arguments)
    assert "\n" not in str(caught.value)


def test_a_worker_that_dies_is_said_to() -> None:
    found = bench.Row(EDGES, "onnx", "", 1)
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        worker = bench.Worker(found, EDGES, {}, Path(folder) / "o.npz", Path(folder) / "e.txt")
        worker.answer(60)
        worker._process.kill()
        with pytest.raises(bench.Gone, match="SIGKILL"):
            worker.run(10)
        worker.end()
