"""`foveate compress`: a trained network as one that runs on the board."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate.catalog import did_you_mean
from foveate.errors import BackendMissing, NotFound
from foveate.paths import launch_folder

if TYPE_CHECKING:
    from foveate_compression.compressing import Made
    from foveate_compression.network import Network
    from foveate_compression.recipe import Recipe
    from foveate_compression.samplers import Labelled


def main(arguments: list[str]) -> int:
    """Compress, write file, manifest, golden pair and report, and print what it costs and keeps."""
    options = _parser().parse_args(arguments)
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import torch
    except ImportError as error:
        raise BackendMissing("compress", error.name or "torch", "compress") from None
    from foveate_compression import recipe as recipes
    from foveate_compression.compressing import compress
    from foveate_compression.network import Network

    torch.set_num_threads(options.threads)
    recipe = recipes.read(_recipe(options.recipe))
    outputs = _outputs(options.model, options.output)
    networks = [Network.load(path) for path in options.model]
    samples = [_samples(network, options.samples, recipe, recipe.calibration.count) for network in networks]
    tests = [_samples(network, options.test, recipe, options.test_count) if options.test else given
             for network, given in zip(networks, samples, strict=True)]  # fmt: skip
    folder = outputs[0].with_suffix(".compression")
    for made in compress(networks, outputs, recipe, samples, tests, folder, _progress):
        _tell(made, tests[0] if len(tests) == 1 else tests[outputs.index(made.path)])
    return 0


def _parser() -> argparse.ArgumentParser:
    names = ", ".join(sorted(path.stem for path in (launch_folder() / "recipes").glob("*.yaml")))
    parser = argparse.ArgumentParser(
        prog="foveate compress", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Make an ONNX network smaller and faster without retraining (needs the extra 'compress').\n"
        "An interrupted compression goes on when the same command is given again.",
        epilog=f"recipes that come with foveate: {names}\n\nexamples:\n"
        "  foveate compress net.onnx --recipe int8 --from photos/ --output net.int8.onnx\n"
        "  foveate compress net.onnx --recipe mvq --from 'logs/run.mcap#wide.frame' --output small.onnx\n"
        "  foveate compress a.onnx b.onnx --recipe vq4all --from samples.npz --output small/",
    )  # fmt: skip
    parser.add_argument("model", type=Path, nargs="+", metavar="MODEL", help="ONNX files; some recipes join several")
    parser.add_argument("--recipe", default="int8", metavar="R", help="a YAML file, or a shipped one's name (int8)")
    parser.add_argument("--output", type=Path, required=True, metavar="FILE|DIR", help="of the small network")
    parser.add_argument("--from", dest="samples", metavar="SOURCE",
                        help="to calibrate with: FILE.npz, images, RUN.mcap#node.output (default: noise)")  # fmt: skip
    parser.add_argument("--test", metavar="SOURCE", help="samples to measure on; folders of images are classes")
    parser.add_argument("--test-count", type=int, default=1000, metavar="N", help="of these, at most (1000)")
    parser.add_argument("--threads", type=int, default=2)
    return parser


def _recipe(said: str) -> Path:
    """A file, or a recipe that comes with foveate. Raises NotFound."""
    path = Path(said)
    if path.suffix in (".yaml", ".yml"):
        return path
    shipped = {each.stem: each for each in (launch_folder() / "recipes").glob("*.yaml")}
    if said not in shipped:
        hint = f"neither a file FILE.yaml nor a shipped recipe{did_you_mean(said, shipped)}"
        raise NotFound(said, "read the recipe", hint)
    return shipped[said]


def _outputs(models: list[Path], output: Path) -> list[Path]:
    """One file, or one for each network in a folder. Raises NotFound."""
    if output.suffix == ".onnx":
        if len(models) > 1:
            raise NotFound(str(output), "write", f"{len(models)} networks need a folder, not one file")
        if output.resolve() == models[0].resolve():
            raise NotFound(str(output), "write", "that is the network itself; choose another name")
        return [output]
    outputs = [output / f"{path.stem}.small.onnx" for path in models]
    if len(set(outputs)) < len(outputs):
        raise NotFound(str(output), "write", "two networks have the same name; rename one")
    return outputs


def _samples(network: Network, source: str | None, recipe: Recipe, count: int) -> Labelled:
    from foveate_compression.samplers import Labelled, Reading, noise, samples_of

    shapes = {name: network.graph.shapes[name] for name in network.graph.inputs}
    calibration = recipe.calibration
    if source is None:
        print("no --from: calibrated on noise", file=sys.stderr)
        return Labelled(noise(shapes, min(count, calibration.count), calibration.seed), None)
    return samples_of(source, shapes, count, calibration.seed, Reading(calibration.scale, calibration.bgr))


def _tell(made: Made, test: Any) -> None:
    from foveate_compression.latency import latency
    from foveate_compression.report import write

    took = latency(made.work.network, made.path, test.samples)
    page = made.path.with_suffix(".html")
    write(made, took, page)
    before, after = made.sizes
    print(file=sys.stderr)
    print(f"{made.path}: {after / 1e6:.3f} MB, {before / after:.1f}x smaller; {made.bits:.2f} bits a weight")
    print(f"  {made.whole} before, {made.small} after; file and simulation: {made.likeness}")
    print(f"  {made.integer_layers} of {len(made.work.network.layers)} layers in integers; "
          f"{took.whole_ms:.2f} ms before, {took.small_ms:.2f} ms after ({took.ratio:.2f}x, one thread)")  # fmt: skip
    print(f"  report: {page}")


def _progress(what: str, step: int, steps: int) -> None:
    if not sys.stderr.isatty():
        if step == steps:
            print(f"{what}: {steps} done", file=sys.stderr, flush=True)
        return
    filled = round(30 * step / max(steps, 1))
    print(f"\r\033[K[{'#' * filled}{'-' * (30 - filled)}] {step}/{steps}  {what}", end="", file=sys.stderr, flush=True)
