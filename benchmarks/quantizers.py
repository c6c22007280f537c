"""Eight bits by foveate beside onnxruntime's own quantizer, nncf and aimet-onnx; our k-means beside faiss.

    python benchmarks/quantizers.py --work DIR --peers PYTHON     quantizes and clusters (40 minutes on two cores)
    python benchmarks/quantizers.py --work DIR --tables           what was reached, and latencies, measured now
    python benchmarks/quantizers.py --work DIR --peers PYTHON --only resnet/nncf

Networks are those of `networks.py`, in DIR/networks, and seeds choose the calibration images, as `compression.py` has
it. Everyone gets the same file in floating point, its norms folded, and the same 256 images, and works on one core.
PYTHON is the interpreter of an environment of the peers' own (aimet-onnx 2.42.0 asks for any torch and, through
onnx2torch, for torchvision, which it does not need here):

    pip install onnxruntime==1.31.1 onnx==1.23.2 nncf==3.4.0 faiss-cpu==1.15.1 torch==2.13.0
    pip install --no-deps aimet-onnx==2.42.0 onnx2torch==1.5.15
    pip install onnx_ir==1.1.0 onnxscript==0.7.2 osqp==1.1.3 pandas==3.1.1 pybind11==3.1.0 bokeh==3.9.2 \\
        hvplot==0.12.2 jsonschema==4.26.0 tqdm==4.70.1 Jinja2 PyYAML

Accuracy is that of the written file in onnxruntime, once as it runs on this processor and once with its operators one
by one, in floating point, where nothing overflows: on x86 without VNNI pairs of products with weights of 8 bits do not
fit 16 bits. Seconds are those of the processor. What is done is kept in DIR.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import itertools
import json
import os
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

NETWORKS, SEEDS = ("resnet", "mobilenet"), (0, 1, 2)
_TUNE = 150  # iterations of learnt rounding, of ours and of AdaRound (by itself it takes 10,000: an hour)
OURS = {
    "foveate plain": "{method: plain}",
    "foveate plain, weights of 8 bits": "{method: plain, weights: 8, ends: 8}",
    "foveate rounding learnt": f"{{method: plain}}, {{method: reconstruct, iterations: {_TUNE}}}",
}
PEERS: dict[str, tuple[str, dict[str, Any]]] = {
    "onnxruntime reduced range": ("onnxruntime", {"reduce_range": True}),
    "onnxruntime": ("onnxruntime", {"reduce_range": False}),
    "nncf": ("nncf", {}),
    "nncf bias correction": ("nncf", {"fast_bias_correction": False}),
    "nncf by tensor, reduced range": ("nncf", {"plain": True}),
    "aimet-onnx min-max": ("aimet-onnx", {"scheme": "min_max"}),
    "aimet-onnx tf-enhanced": ("aimet-onnx", {"scheme": "tf_enhanced"}),
    "aimet-onnx AdaRound": ("aimet-onnx", {"scheme": "min_max", "iterations": _TUNE}),
}
_INTEGER = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulInteger", "ConvInteger")
_FLOAT = ("Conv", "FusedConv", "NhwcFusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")
_ITERATIONS, _REPEATS = 25, 5  # of k-means
VECTORS = {"resnet, 256": 256, "normal, 256": 256, "normal, 1024": 1024}  # and codewords
Floats = NDArray[np.float32]


def kept(work: Path, network: str, quantizer: str, seed: int) -> Path:
    """The file of what a quantizer reached; beside it, the model."""
    return work / network / quantizer.replace(" ", "_").replace(",", "") / f"{seed}.json"


def _alone() -> None:
    """One core and one thread: libraries that start a thread a core start one, and processor times can be compared."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[os.getpid() % len(cores)]})


def peer(job: Path) -> None:
    """Do what `job` says, in the peers' interpreter: from here to `_error` nothing imports torch or foveate."""
    said = json.loads(job.read_text())
    if said["library"] == "faiss":
        result = _faiss(said)
    else:
        given = np.load(said["given"])["given"]
        those: dict[str, Callable[..., float]] = {"onnxruntime": _onnxruntime, "nncf": _nncf, "aimet-onnx": _aimet}
        result = {"seconds": those[said["library"]](Path(said["source"]), given, Path(said["into"]), **said["options"]),
                  "version": importlib.metadata.version(said["library"])}  # fmt: skip
    Path(said["result"]).write_text(json.dumps(result))


def _onnxruntime(source: Path, given: Floats, into: Path, *, reduce_range: bool) -> float:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        parts = _parts(given, 32)

        def get_next(self) -> dict[str, Floats] | None:
            return next(self.parts, None)

    made = into.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(made))  # once before, for what it imports when it runs
    begin = time.process_time()
    quant_pre_process(str(source), str(made))
    quantize_static(str(made), str(into), Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                    reduce_range=reduce_range, activation_type=QuantType.QUInt8,
                    weight_type=QuantType.QInt8)  # fmt: skip
    return time.process_time() - begin


def _nncf(source: Path, given: Floats, into: Path, *, fast_bias_correction: bool = True, plain: bool = False) -> float:
    """`plain`: one scale a tensor for activations (by itself one a channel before a depthwise convolution, for which
    onnxruntime has no kernel), and weights of 7 bits in all layers, not in the first alone."""
    import nncf
    import onnx
    from nncf.quantization import advanced_parameters as chosen

    tensor = chosen.QuantizationParameters(per_channel=False)
    advanced = chosen.AdvancedQuantizationParameters(chosen.OverflowFix.ENABLE, activations_quantization_params=tensor)
    model = onnx.load(str(source))
    begin = time.process_time()
    made = nncf.quantize(model, nncf.Dataset(list(_parts(given, 1))), target_device=nncf.TargetDevice.CPU,
                         subset_size=len(given), fast_bias_correction=fast_bias_correction,
                         advanced_parameters=advanced if plain else None)  # fmt: skip
    onnx.save(made, str(into))
    return time.process_time() - begin


def _aimet(source: Path, given: Floats, into: Path, *, scheme: str, iterations: int = 0) -> float:
    import aimet_onnx
    import onnx

    model, parts = onnx.load(str(source)), list(_parts(given, 32))
    begin = time.process_time()
    sim = aimet_onnx.QuantizationSimModel(model, quant_scheme=scheme)
    if iterations:
        aimet_onnx.apply_adaround(sim, parts, num_iterations=iterations)
    sim.compute_encodings(parts)
    made = sim.to_onnx_qdq(export_int32_bias=True, prequantize_constants=True)
    onnx.save(made, str(into))
    return time.process_time() - begin


def _parts(given: Floats, size: int) -> Iterator[dict[str, Floats]]:
    for begin in range(0, len(given), size):
        yield {"input": given[begin : begin + size]}


def _faiss(said: dict[str, Any]) -> dict[str, Any]:
    """Codewords, and codes of all vectors, as ours gives them."""
    import faiss

    faiss.omp_set_num_threads(1)
    vectors = np.load(said["vectors"])["vectors"]
    means = faiss.Kmeans(vectors.shape[1], said["k"], niter=_ITERATIONS, nredo=1, seed=said["seed"] + 1,
                         min_points_per_centroid=1, max_points_per_centroid=len(vectors))  # fmt: skip
    begin = time.process_time()
    means.train(vectors)
    means.index.search(vectors, 1)
    return {"seconds": time.process_time() - begin, "error": _error(vectors, means.centroids)}


def _error(vectors: Floats, codebook: Floats, mask: Floats | None = None) -> float:
    """The mean squared error of an entry that counts, its vector at the nearest codeword, in float64."""
    total, book = 0.0, codebook.astype(np.float64)
    counted = np.ones_like(vectors) if mask is None else mask
    for begin in range(0, len(vectors), 2048):
        part, count = vectors[begin : begin + 2048].astype(np.float64), counted[begin : begin + 2048]
        far = count @ np.square(book).T - 2 * (part * count) @ book.T + np.square(part * count).sum(1)[:, None]
        total += float(far.min(1).sum())
    return total / float(counted.sum())


def in_peers(peers: Path, folder: Path, **said: Any) -> dict[str, Any]:
    """What this file answers in the peers' interpreter; {"failed": why} where it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    job, result = folder / "job.json", folder / "result.json"
    result.unlink(missing_ok=True)
    job.write_text(json.dumps({**said, "result": str(result)}))
    done = subprocess.run([peers, __file__, "--work", folder, "--job", job], capture_output=True, text=True,
                          env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False)  # fmt: skip
    if done.returncode == 0 and result.exists():
        return dict(json.loads(result.read_text()))
    lines = [line for line in done.stderr.splitlines() if line.strip()] or [f"exit code {done.returncode}"]
    return {"failed": lines[-1][:300]}


def ours(source: Path, given: Floats, into: Path, recipe: str, seed: int) -> float:
    """CPU seconds from a loaded network to the file."""
    import onnx
    import torch

    from foveate_compression import recipe as recipes
    from foveate_compression.export.writer import model_of
    from foveate_compression.methods.method import applied, silent
    from foveate_compression.network import Network
    from foveate_compression.work import Work

    network = Network.load(source)
    steps = recipes.of_text(f"steps: [{recipe}]", "quantizers").steps
    begin = time.process_time()
    work = Work(network, {network.graph.inputs[0]: torch.from_numpy(given)})
    torch.manual_seed(seed)
    for _, step in steps:
        applied(step, [work], silent)
    onnx.save(model_of(work), str(into))
    return time.process_time() - begin


def prepare(work: Path) -> None:
    """The networks as files, calibration images of every seed, and vectors to cluster, where they are not there yet:
    eight output channels at one place, of the residual network's layers of 1,000 and more; and what is normal."""
    import onnx
    import torch
    from compression import arrays, network
    from networks import cifar10

    from foveate_compression.methods.mvq import kept as largest
    from foveate_compression.network import Network
    from foveate_compression.vectors import Cut

    if (work / "vectors_normal.npz").exists():  # the last
        return
    data, cut = cifar10(), Cut(8)
    _, test, label = arrays(data, 0)
    np.savez(work / "test.npz", test=test.numpy(), label=label.numpy())
    for seed in SEEDS:
        np.savez(work / f"given_{seed}.npz", given=arrays(data, seed)[0].numpy())
    made = {name: Network.of_module(network(name, work), torch.zeros(1, 3, 32, 32), name) for name in NETWORKS}
    for name, each in made.items():
        (work / name).mkdir(exist_ok=True)
        onnx.save(each.model, str(work / name / "float.onnx"))
    rows = [made["resnet"].weight(layer).movedim(layer.axis, 0) for layer in made["resnet"].layers]
    found = [cut.vectors(each / each.std()) for each in rows if cut.fits(each) and each.numel() >= 8000]
    normal = torch.randn(200_000, 8, generator=torch.Generator().manual_seed(0))
    for name, vectors in {"resnet": torch.cat(found), "normal": normal}.items():
        mask = largest(vectors, 4, 8).float().numpy()
        np.savez(work / f"vectors_{name}.npz", vectors=vectors.contiguous().numpy(), mask=mask)


def quantized(work: Path, peers: Path | None, only: str) -> None:
    """What is not there yet; a seed after the other, so that an early end leaves whole tables."""
    for seed, network, name in itertools.product(SEEDS, NETWORKS, (*OURS, *PEERS)):
        path = kept(work, network, name, seed)
        if only not in f"{network}/{name}" or path.exists() or (name in PEERS and peers is None):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        source, given, into = work / network / "float.onnx", work / f"given_{seed}.npz", path.with_suffix(".onnx")
        result: dict[str, Any] = {}
        if name in OURS:
            result["seconds"] = ours(source, np.load(given)["given"], into, OURS[name], seed)
        else:
            library, options = PEERS[name]
            result = in_peers(peers or Path(), path.parent, library=library, options=options, source=str(source),
                              given=str(given), into=str(into))  # fmt: skip
        if "failed" not in result:
            result |= reached(into, source, work)
        path.write_text(json.dumps(result))
        print(f"{network}/{name}, seed {seed}: {result}", flush=True)


def reached(path: Path, source: Path, work: Path) -> dict[str, float]:
    """Of a file over the test images: the shares named rightly, here and exactly, and named as in floating point."""
    label, whole = np.load(work / "test.npz")["label"], named(source, work)
    here, exact = named(path, work), named(path, work, exact=True)
    return {"accuracy": float((here == label).mean()), "exact": float((exact == label).mean()),
            "same": float((here == whole).mean())}  # fmt: skip


def named(path: Path, work: Path, exact: bool = False) -> NDArray[np.int64]:
    """The classes of the test images; `exact`: every operator by itself, so that nothing overflows."""
    session = _session(path, exact)
    name = session.get_inputs()[0].name
    images = np.split(np.load(work / "test.npz")["test"], 20)
    return np.concatenate([session.run(None, {name: part})[0].argmax(1) for part in images])


def _session(path: Path, exact: bool = False) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    if exact:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def clustered(work: Path, peers: Path) -> None:
    """k-means of ours and of faiss in turns, with as many iterations, and of ours with a mask."""
    import torch

    from foveate_compression import kmeans

    def mine(vectors: Floats, mask: Floats | None, k: int, seed: int) -> dict[str, Any]:
        given, counted = torch.from_numpy(vectors), None if mask is None else torch.from_numpy(mask)
        begin = time.process_time()  # below: a tolerance that not even a rise of the last digits ends early
        found = kmeans.clustered(given, k, counted, iterations=_ITERATIONS, seed=seed, tolerance=-1.0)
        return {"seconds": time.process_time() - begin, "error": _error(vectors, found.codebook.numpy(), mask)}

    for name, k in VECTORS.items():
        path = work / f"vectors_{name.split(',')[0]}.npz"
        arrays = np.load(path)
        for seed in range(_REPEATS):
            into = kept(work, "kmeans", name, seed)
            if not into.exists():
                theirs = in_peers(peers, into.parent, library="faiss", vectors=str(path), k=k, seed=seed)
                reached = {"faiss": theirs, "foveate": mine(arrays["vectors"], None, k, seed),
                           "foveate, half masked": mine(arrays["vectors"], arrays["mask"], k, seed)}  # fmt: skip
                into.write_text(json.dumps(reached))
                print(f"{name}, seed {seed}: {reached}", flush=True)


def tables(work: Path, rounds: int) -> None:
    """Print what was reached, with latencies measured now, and k-means."""
    flags = Path("/proc/cpuinfo")
    print(f"This processor has {'' if flags.exists() and 'vnni' in flags.read_text() else 'no '}VNNI.\n")
    print("| network | quantizer | accuracy here, mean (least to most) | against float | without overflow | named "
          "here as by float | kB | CPU s | integer / float layers | ms | times as fast as float |\n"
          + "|---" * 11 + "|")  # fmt: skip
    for network in NETWORKS:
        source = work / network / "float.onnx"
        files = {name: kept(work, network, name, 0).with_suffix(".onnx") for name in (*OURS, *PEERS)}
        took = latencies({"float": source} | {name: path for name, path in files.items() if path.exists()}, rounds)
        whole = reached(source, source, work)
        _row(network, "float", source, [{**whole, "seconds": 0.0}], whole, took)
        for name, path in files.items():
            every = [kept(work, network, name, seed) for seed in SEEDS]
            found = [json.loads(each.read_text()) for each in every if each.exists()]
            if found and "failed" in found[0]:
                print(f"| {network} | {name} | fails: {found[0]['failed']} " + "| " * 9 + "|")
            elif found:
                _row(network, name, path, found, whole, took)
    _clusters(work)


def _row(network: str, name: str, path: Path, found: list[dict[str, Any]], whole: dict[str, float],
         took: dict[str, float]) -> None:  # fmt: skip
    from foveate_compression.export.fused import kernels

    here = [each["accuracy"] for each in found]
    mean = {key: statistics.mean(each[key] for each in found) for key in whole}
    count = kernels(path)
    layers = [sum(count.get(kind, 0) for kind in kinds) for kinds in (_INTEGER, _FLOAT)]
    print(f"| {network} | {name} {found[0].get('version', '')} | "
          f"{mean['accuracy']:.1%} ({min(here):.1%} to {max(here):.1%}), {len(here)} seeds | "
          f"{100 * (mean['accuracy'] - whole['accuracy']):+.1f} | {mean['exact']:.1%} | "
          f"{mean['same']:.1%} | {path.stat().st_size / 1e3:.0f} | "
          f"{statistics.median(each['seconds'] for each in found):.1f} | {layers[0]} / {layers[1]} | "
          f"{took[name]:.2f} | {took['float'] / took[name]:.2f} |")  # fmt: skip


def latencies(paths: dict[str, Path], rounds: int) -> dict[str, float]:
    """Milliseconds of the processor an image on one thread, the files in turns; the median."""
    sessions = {name: _session(path) for name, path in paths.items()}
    image = np.zeros((1, 3, 32, 32), np.float32)
    times: dict[str, list[float]] = {name: [] for name in sessions}
    for _, (name, session) in itertools.product(range(rounds), sessions.items()):
        given = {session.get_inputs()[0].name: image}
        session.run(None, given)  # the processor's caches hold another network
        begin = time.process_time()
        session.run(None, given)
        times[name].append(1e3 * (time.process_time() - begin))
    return {name: statistics.median(each) for name, each in times.items()}


def _clusters(work: Path) -> None:
    print("\n| vectors, codewords | k-means | CPU s, median | against faiss | squared error (least to most), seeds "
          "|\n|---|---|---|---|---|")  # fmt: skip
    for name in VECTORS:
        paths = [kept(work, "kmeans", name, seed) for seed in range(_REPEATS)]
        found = [json.loads(path.read_text()) for path in paths if path.exists()]
        for who in found[0] if found else ():
            seconds = {each: statistics.median(reached[each]["seconds"] for reached in found) for each in found[0]}
            error = [reached[who]["error"] for reached in found]
            print(f"| {name} | {who} | {seconds[who]:.2f} | {seconds[who] / seconds['faiss']:.2f} | "
                  f"{statistics.mean(error):.5f} ({min(error):.5f} to {max(error):.5f}), {len(error)} |")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of networks and results")
    parser.add_argument("--peers", type=Path, help="interpreter that has the peers' libraries")
    parser.add_argument("--only", default="", help="those whose NETWORK/QUANTIZER has this in it; or kmeans")
    parser.add_argument("--tables", action="store_true", help="print what was reached, and measure latencies")
    parser.add_argument("--rounds", type=int, default=300, help="of the latency measurement")
    parser.add_argument("--job", type=Path, help=argparse.SUPPRESS)  # the peers' half
    options = parser.parse_args()
    _alone()
    if options.job:
        return peer(options.job)
    import torch

    torch.set_num_threads(1)
    if options.tables:
        tables(options.work, options.rounds)
        return
    prepare(options.work)
    quantized(options.work, options.peers, options.only)
    if options.peers and options.only in ("", "kmeans"):
        clustered(options.work, options.peers)


if __name__ == "__main__":
    main()
