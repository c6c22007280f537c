"""`foveate bench`: how fast models run here, on every backend; what bounds them; and the board's profile."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from foveate import catalog
from foveate.errors import FoveateError, ModelError
from foveate_drivers.backends import bench, bench_layers, profile
from foveate_drivers.backends.bench import Row
from foveate_drivers.backends.feeds import feeds
from foveate_drivers.backends.loading import known_backends
from foveate_drivers.backends.roofline import Roofline, measured, peaks

_EXAMPLES = """examples:
  foveate bench launch/models/regions.onnx                         every backend that is installed, one thread and two
  foveate bench a.onnx a.int8.onnx --backend onnx,openvino         two precisions; outputs are held against the first
  foveate bench a.onnx --backend onnx:cuda --seconds 5
  foveate bench a.onnx --layers                                    what bounds each layer, and what would pay
"""


def main(arguments: list[str]) -> int:
    """Measure, print, and keep it in the board's profile; exit code 1 if nothing could be measured."""
    options = _parser().parse_args(arguments)
    for model in options.models:
        if not model.is_file():
            raise ModelError(str(model), "measure", "no such file")
    for name in (text.partition(":")[0] for text in options.backend):
        if name not in known_backends():
            raise FoveateError(f"unknown backend '{name}'{catalog.did_you_mean(name, known_backends())}")
    target = None if options.no_profile else options.profile or profile.default_path()
    if target is not None:
        profile.read(target)  # a file that is none is told before anything is measured
    tell = _teller(options.quiet)
    rows = bench.rows_of(options.models, options.backend, options.threads)
    if not rows:
        raise FoveateError(f"no backend takes {options.models[0].name}; known: {', '.join(known_backends())}")
    bench.measure(rows, seconds=options.seconds, shapes=dict(options.shape), tell=tell)
    tell("")
    _print_rows(options.models, rows)
    report: dict[str, Any] = {"board": profile.board(), "models": _models(options.models, rows)}
    roofline = _roofline(options, target, tell)
    if roofline is not None:
        report["roofline"] = roofline.plain()
    if options.layers and roofline is not None:
        for model in options.models:
            found = _layers(model, dict(options.shape), roofline)
            if found is not None:
                report["models"][profile.digest(model)]["layers"] = found
    if options.json is not None:
        options.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if target is not None:
        _keep(target, report)
    return 1 if all(row.why for row in rows) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="foveate bench", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=_EXAMPLES,
        description="How fast models run on this computer: every backend in a process of its own, all in turns.",
    )  # fmt: skip
    parser.add_argument(
        "models", nargs="+", type=Path, metavar="MODEL", help="an ONNX or TFLite file; siblings after it"
    )
    parser.add_argument("--backend", type=_names, default=[], metavar="NAMES", help="such as onnx,openvino:gpu (all)")
    parser.add_argument("--threads", type=_counts, default=[1, 2], metavar="N,N", help="numbers of threads (1,2)")
    parser.add_argument("--seconds", type=float, default=3.0, metavar="S", help="of runs for each row (3)")
    parser.add_argument("--shape", type=_shape, action="append", default=[], metavar="INPUT=1x3x240x320",
                        help="of an input with free sides")  # fmt: skip
    parser.add_argument("--layers", action="store_true", help="each layer: bound by what, predicted and measured time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything to a file")
    parser.add_argument("--quiet", action="store_true", help="no progress on stderr")
    keep = parser.add_mutually_exclusive_group()
    keep.add_argument("--profile", type=Path, metavar="FILE", help=f"the board's profile ({profile.default_path()})")
    keep.add_argument("--no-profile", action="store_true", help="do not write it")
    return parser


def _names(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


def _counts(text: str) -> list[int]:
    counts = [int(part) for part in text.split(",")]
    if not counts or min(counts) < 1 or max(counts) > 256:
        raise argparse.ArgumentTypeError(f"'{text}' are no numbers of threads; write 1,2")
    return counts


def _shape(text: str) -> tuple[str, list[int]]:
    name, _, sides = text.rpartition("=")
    try:
        shape = [int(side) for side in sides.split("x")]
    except ValueError:
        shape = []
    if not name or not shape or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no shape; write INPUT=1x3x240x320")
    return name, shape


def _teller(quiet: bool) -> bench.Tell:
    """Progress in one line of a terminal, which goes away; in nothing else."""
    if quiet or not sys.stderr.isatty():
        return lambda line: None
    return lambda line: print(f"\r\033[K{line}", end="", file=sys.stderr, flush=True)


def _print_rows(models: Sequence[Path], rows: list[Row]) -> None:
    for model in models:
        group = [row for row in rows if row.model == model]
        same = models[0] if any(row.sibling for row in group) else model
        base = next((r for r in rows if r.model == same and r.backend == "onnx" and not r.why), None)
        inputs = next((row.inputs for row in group if row.inputs), [])
        shapes = ", ".join(" x ".join(map(str, shape)) for _, shape, _ in inputs[:2])
        more = f" and {len(inputs) - 2} more" if len(inputs) > 2 else ""
        print(f"{model.name}  {model.stat().st_size / 1e6:.2f} MB  {shapes}{more}")
        print(f"  {'backend':<12} {'on':<14} threads {'p50 ms':>9} {'p99 ms':>9} {'per s':>8} {'ratio':>6} "
              f"{'load ms':>8} {'MB':>7} {'differs':>8}")  # fmt: skip
        for row in group:
            print(_line(row, base))
        best = bench.choice(group)
        if best is not None:
            on = f" on {best['provider']}" if best["provider"] else ""
            print(f"  backend: auto is {best['backend']}{on}, threads: {best['threads']}")


def _line(row: Row, base: Row | None) -> str:
    if row.why:
        return f"  {row.backend:<12} {row.provider or '-':<14} {row.threads:>7} {row.why}"
    ratio = f"{base.p50_ms / row.p50_ms:5.2f}x" if base is not None else "-"
    far = "-" if row.difference is None else f"{row.difference:.1e}"
    on = row.ran_on.removesuffix("ExecutionProvider")
    note = "" if row.agrees else f"  {row.unproven or f'beyond what {row.backend} promises'}"
    return (f"  {row.backend:<12} {on[:14]:<14} {row.threads:>7} {row.p50_ms:9.3f} {row.p99_ms:9.3f} "
            f"{row.rate:8.1f} {ratio:>6} {row.load_ms:8.1f} {row.memory_mb:7.1f} {far:>8}{note}")  # fmt: skip


def _models(models: Sequence[Path], rows: list[Row]) -> dict[str, Any]:
    """By the hash of the file."""
    found = {}
    for model in models:
        group = [row for row in rows if row.model == model]
        entry: dict[str, Any] = {"name": model.name, "rows": [row.plain() for row in group]}
        best = bench.choice(group)
        if best is not None:
            entry["choice"] = best
        found[profile.digest(model)] = entry
    return found


def _roofline(options: argparse.Namespace, target: Path | None, tell: bench.Tell) -> Roofline | None:
    """The board's, of its profile where that has it; with `--layers` all of it, else peaks and bandwidths."""
    try:
        catalog.optional("onnx", "--layers", "bench")
        catalog.optional("onnxruntime", "--layers", "onnx")
    except FoveateError as error:
        if options.layers:
            raise
        tell(str(error))
        return None
    known = _known_roofline(target)
    if known is not None and (known.samples or not options.layers):
        return known
    tell("measuring what this board reaches")
    found = measured(tell) if options.layers else peaks()
    tell("")
    return found


def _known_roofline(target: Path | None) -> Roofline | None:
    data = profile.read(target) if target is not None else {}
    if data.get("board") != profile.board():
        return None
    try:
        return Roofline.of(data["roofline"])
    except (LookupError, TypeError, ValueError):
        return None


def _layers(model: Path, shapes: dict[str, list[int]], roofline: Roofline) -> list[dict[str, Any]] | None:
    from foveate_drivers.backends.layers import measure
    from foveate_drivers.backends.onnx import OnnxBackend

    if model.suffix != ".onnx":
        print(f"{model.name}: layers are measured of ONNX files alone")
        return None
    backend = OnnxBackend(model)
    given = feeds(model, backend.inputs, {name: tuple(shape) for name, shape in shapes.items()})
    backend.close()
    judged = bench_layers.judge(measure(model, given), roofline)
    print(f"\n{model.name}, layers on one thread of onnxruntime")
    for line in (*bench_layers.table(judged), "what would pay:", *bench_layers.what_would_pay(judged, roofline)):
        print(f"  {line}")
    return bench_layers.plain(judged)


def _keep(target: Path, report: dict[str, Any]) -> None:
    models = {key: {k: v for k, v in entry.items() if k != "layers"} for key, entry in report["models"].items()}
    part: dict[str, Any] = {"models": models}
    if "roofline" in report:
        part["roofline"] = report["roofline"]
    try:
        profile.write(target, part)
    except OSError as error:
        raise FoveateError(f"{target}: cannot write the board's profile: {error.strerror}") from None
    print(f"kept in {target}")
