"""Compression methods by network: bits, size, accuracy against floating point over three seeds, and latencies.

    python benchmarks/compression.py --work DIR              trains the networks, compresses them (hours on two cores)
    python benchmarks/compression.py --work DIR --tables     what was reached, and latencies, measured now
    python benchmarks/compression.py --work DIR --only resnet/mvq
    python benchmarks/compression.py --work DIR --codes      the error of weights by the size of their codebooks

Networks and data are those of `networks.py`; a seed chooses the 256 calibration images and what a method draws. The
vision transformer has outliers behind its norms, as large ones do (`inject`). What is done is kept in DIR.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from networks import CIFAR10, Images, cifar10, trained
from torch import Tensor, nn

from foveate_compression import recipe as recipes
from foveate_compression.coding import normalised
from foveate_compression.export.fused import INTEGER, kernels
from foveate_compression.export.writer import model_of
from foveate_compression.methods.method import applied, silent
from foveate_compression.methods.mvq import Mvq
from foveate_compression.network import Network, rows
from foveate_compression.networks.outliers import inject
from foveate_compression.networks.resnet import released
from foveate_compression.networks.vit import ViT
from foveate_compression.work import Work

SEEDS = (0, 1, 2)
_SAMPLES, _TUNE = 256, 150
_LEARNT = f"{{method: reconstruct, iterations: {_TUNE}}}"
_BEHIND = "{method: recalibrate}, {method: plain, activations: 8}"
_MASKED = f"adapt: {_TUNE}, tune: {_TUNE}"  # as many iterations for each
_CODES = {
    "VQ, 16x": f"size: 4, codewords: 128, keep: 0, tune: {2 * _TUNE}",
    "prune, then VQ, 16x": f"size: 8, codewords: 64, keep: 4, of: 8, masked: false, {_MASKED}",
    "MVQ, 16x": f"size: 8, codewords: 64, keep: 4, of: 8, {_MASKED}",
    "VQ, 22x": f"size: 8, codewords: 256, keep: 0, tune: {2 * _TUNE}",
    "prune, then VQ, 22x": f"size: 16, codewords: 64, keep: 4, of: 16, masked: false, {_MASKED}",
    "MVQ, 22x": f"size: 16, codewords: 64, keep: 4, of: 16, {_MASKED}",
}
_INTEGERS = {
    "int8": "{method: plain}",
    "W4A4": "{method: plain, weights: 4, activations: 4}",
    "W4A4, rounding learnt": f"{{method: plain, weights: 4, activations: 4}}, {_LEARNT}",
    "4 bits on average": "{method: mixed, average: 4.0}, {method: plain}",
    "W4A8": "{method: plain, weights: 4}",
}
_SHARED = "VQ4ALL, shared"  # by all networks that have it
_SPARSE = {
    "80 % zeros, uniform": "uniform: true, learn_shares: false",
    "80 % zeros, ERK": "learn_shares: false",
    "80 % zeros, FCPTS": "rate: 0.02",
}
_VIT4 = "{method: plain, weights: 4, activations: 4, attention: true}, {method: recalibrate}"
_CANDIDATES = f"{{method: vq4dit, codewords: 64, iterations: {_TUNE}"
_MINMAX4 = "{method: plain, weights: 4, activations: 4, attention: true, activation_range: minmax}"
_RELEASED = CIFAR10.parents[1] / "models" / "classifiers" / "resnet_cifar10" / "pretrained_models"
_CODED = [(4, 128, 0, 1), (8, 64, 4, 8), (4, 16, 2, 4), (8, 256, 0, 1), (8, 32, 3, 8), (16, 64, 4, 16), (8, 32, 6, 8),
          (8, 64, 0, 1), (8, 16, 2, 8)]  # size, codewords, keep, of  # fmt: skip
METHODS: dict[str, dict[str, str]] = {
    "resnet": {
        **_INTEGERS,
        **{name: f"{{method: mvq, {said}}}, {_BEHIND}" for name, said in _CODES.items()},
        **{name: f"{{method: fcpts, sparsity: 0.8, steps: {_TUNE}, {said}}}" for name, said in _SPARSE.items()},
        _SHARED: f"{{method: vq4all, codewords: 4096, iterations: {_TUNE}}}, {_BEHIND}",
    },
    "mobilenet": dict(_INTEGERS),
    "vit": {
        "int8": "{method: plain, attention: true}",
        "int8, dynamic": "{method: dynamic}",
        "W4A4, least and greatest": _MINMAX4,
        "W4A4, plain": _VIT4,
        "W4A4, RepQuant": f"{{method: repquant}}, {_VIT4}",
        "W4A4, Outlier Suppression+": f"{{method: outlier_suppression}}, {_VIT4}",
        _SHARED: f"{{method: vq4all, codewords: 4096, iterations: {_TUNE}}}, {_BEHIND}",
        "VQ4DiT, no data": f"{_CANDIDATES}}}, {{method: plain}}",
        "VQ4DiT, on images": f"{_CANDIDATES}, zero_data: false}}, {{method: plain}}",
        "W4A4, Outlier Suppression+, PTQ4SAM": f"{{method: outlier_suppression}}, {{method: ptq4sam}}, {_VIT4}",
        "W4A4, RepQuant, rounding learnt": f"{{method: repquant}}, {_VIT4}, {_LEARNT}",
    },
}


def network(name: str, work: Path) -> nn.Module:
    """A trained network; of the transformer one that is as hard to quantize as large ones."""
    net = trained(name, work / "networks")
    return inject(net, 0) if isinstance(net, ViT) else net


def arrays(data: Images, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Calibration images, test images and their classes."""
    chosen = np.random.default_rng(seed).permutation(len(data.train))[:_SAMPLES]
    given = torch.from_numpy(data.train[chosen]).float() / 255
    return given, torch.from_numpy(data.test).float() / 255, torch.from_numpy(data.test_label).long()


def one(name: str, method: str, seed: int, work: Path) -> None:
    """Compress a network (with those that it shares something with), and keep what was reached, and the file."""
    recipe = recipes.of_text(f"calibration: {{seed: {seed}}}\nsteps: [{METHODS[name][method]}]", method)
    given, test, label = arrays(cifar10(), seed)
    together = [each for each in METHODS if method in METHODS[each]] if method == _SHARED else [name]
    networks = [Network.of_module(network(each, work), test, each) for each in together]
    works = [Work(each, {each.graph.inputs[0]: given}) for each in networks]
    begin = time.perf_counter()
    for _, step in recipe.steps:
        torch.manual_seed(seed)
        applied(step, works, silent)
    seconds = time.perf_counter() - begin
    for each, made in zip(together, works, strict=True):
        path = _kept(each, method, seed, work)
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(model_of(made), str(path.with_suffix(".onnx")))
        reached = _reached(made, test, label)
        reached |= {"seconds": seconds, "bytes": path.with_suffix(".onnx").stat().st_size}
        path.write_text(json.dumps(reached))
        print(f"{each}/{method}, seed {seed}: {reached['float']:.1%} to {reached['accuracy']:.1%}, "
              f"{32 / reached['bits']:.1f}x, {seconds:.0f} s", flush=True)  # fmt: skip


def _reached(work: Work, test: Tensor, label: Tensor) -> dict[str, float]:
    samples = {work.network.graph.inputs[0]: test}
    accuracy = [float((next(iter(work.outputs(samples, whole=whole).values())).argmax(1) == label).float().mean())
                for whole in (True, False)]  # fmt: skip
    weights = sum(work.network.weight(layer).numel() for layer in work.network.layers)
    zeros = sum(int((work.weight(layer) == 0).sum()) for layer in work.network.layers) / weights
    return {"float": accuracy[0], "accuracy": accuracy[1], "bits": work.bits() / weights, "zeros": zeros}


def _kept(name: str, method: str, seed: int, work: Path) -> Path:
    return work / name / method.replace(" ", "_").replace(",", "").replace("%", "percent") / f"{seed}.json"


def all_of_them(work: Path, only: str) -> None:
    """Compress what is not there yet; a seed after the other, so that an early end leaves whole tables."""
    for seed in SEEDS:
        for name, methods in METHODS.items():
            for method in methods:
                if only in f"{name}/{method}" and not _kept(name, method, seed, work).exists():
                    one(name, method, seed, work)


def tables(work: Path, rounds: int) -> None:
    """Print what was reached, then latencies, networks interleaved."""
    print("| network | method | bits a weight | smaller | file, kB | accuracy, mean (least to most) | against float "
          "| zeros | s |\n|---|---|---|---|---|---|---|---|---|")  # fmt: skip
    for name, methods in METHODS.items():
        for method in methods:
            paths = [path for seed in SEEDS if (path := _kept(name, method, seed, work)).exists()]
            found = [json.loads(path.read_text()) for path in paths]
            if not found:
                continue
            mean = {key: statistics.mean(each[key] for each in found) for key in found[0]}
            accuracy = [each["accuracy"] for each in found]
            print(f"| {name} | {method} | {mean['bits']:.2f} | {32 / mean['bits']:.1f}x | {mean['bytes'] / 1e3:.0f} | "
                  f"{mean['accuracy']:.1%} ({min(accuracy):.1%} to {max(accuracy):.1%}), {len(found)} seeds | "
                  f"{100 * (mean['accuracy'] - mean['float']):+.1f} | {mean['zeros']:.1%} | "
                f"{mean['seconds']:.0f} |")  # fmt: skip
    latency(work, rounds)


def latency(work: Path, rounds: int) -> None:
    """Milliseconds an image on one thread, and what onnxruntime made of the layers."""
    import onnxruntime

    sessions: dict[tuple[str, str], Any] = {}
    for name, methods in METHODS.items():
        whole = work / name / "float.onnx"
        if whole.parent.exists():
            net = network(name, work)
            onnx.save(Network.of_module(net, torch.zeros(1, 3, 32, 32), name).model, str(whole))
            found = {"float": whole} | {method: _kept(name, method, 0, work).with_suffix(".onnx") for method in methods}
            for method, path in found.items():
                if path.exists():
                    options = onnxruntime.SessionOptions()
                    options.intra_op_num_threads = 1
                    sessions[name, method] = (onnxruntime.InferenceSession(str(path), options), path)
    times: dict[tuple[str, str], list[float]] = {key: [] for key in sessions}
    image = np.zeros((1, 3, 32, 32), np.float32)
    for _ in range(rounds):
        for key, (session, _) in sessions.items():
            begin = time.perf_counter()
            session.run(None, {session.get_inputs()[0].name: image})
            times[key].append(1e3 * (time.perf_counter() - begin))
    print("\n| network | method | ms | times as fast as float | integer kernels |\n|---|---|---|---|---|")
    for (name, method), (_, path) in sessions.items():
        took = statistics.median(times[name, method])
        count = sum(number for kind, number in kernels(path).items() if kind in INTEGER)
        print(f"| {name} | {method} | {took:.2f} | {statistics.median(times[name, 'float']) / took:.2f} | {count} |")


def codes(work: Path) -> None:
    """Squared errors of normalised weights, relative to their squares, where nothing is tuned: plain VQ and MVQ."""
    networks = {"resnet": network("resnet", work)}
    networks |= {path.stem.partition("-")[0]: released(path) for path in sorted(_RELEASED.glob("resnet*.th"))}
    shown = " | ".join(networks)
    print(f"| vectors of | codewords | kept | {shown}, bits a weight: error |\n|{'---|' * (3 + len(networks))}")
    for size, count, keep, of in _CODED:
        cells = []
        for name, net in networks.items():
            made = Work(Network.of_module(net, torch.zeros(1, 3, 32, 32), name), {})
            Mvq(size=size, codewords=count, keep=keep, of=of, tune=0, iterations=30).apply(made, silent)
            lost = whole = bits = number = 0.0
            for weight, form in made.forms.items():
                wanted = rows(made.constant(weight), form.layer).flatten(1)
                scale = normalised(wanted).scale[:, None]
                off = (rows(form().detach(), form.layer).flatten(1) - wanted) / scale
                lost, whole = lost + float(off.square().sum()), whole + float((wanted / scale).square().sum())
                bits, number = bits + form.bits(), number + wanted.numel()
            cells.append(f"{bits / number:.2f}: {lost / whole:.3f}")
        print(f"| {size} | {count} | {f'{keep} of {of}' if keep else 'all'} | {' | '.join(cells)} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of networks and results")
    parser.add_argument("--only", default="", help="those whose NETWORK/METHOD has this in it")
    parser.add_argument("--tables", action="store_true", help="print what was reached, and measure latencies")
    parser.add_argument("--codes", action="store_true", help="print errors of weights by codebook")
    parser.add_argument("--rounds", type=int, default=50, help="of the latency measurement")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.codes:
        codes(options.work)
    elif options.tables:
        tables(options.work, options.rounds)
    else:
        all_of_them(options.work, options.only)


if __name__ == "__main__":
    main()
