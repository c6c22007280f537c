"""A recipe carried out on a network, from its file to that of the small one (extra compress)."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch

from foveate.errors import ModelError
from foveate_compression import kept
from foveate_compression.export.fused import assert_fused, in_integers
from foveate_compression.export.writer import PROFILES, Profile, model_of
from foveate_compression.methods.method import Progress, applied
from foveate_compression.network import Network
from foveate_compression.recipe import Recipe
from foveate_compression.samplers import Labelled
from foveate_compression.scoring import Score, agreement, score, weight_errors
from foveate_compression.work import Work

_INHERITED = ("classes", "input", "layout", "training", "preprocessing", "golden_agreement")  # by the manifest


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a compression."""

    work: Work
    path: Path
    whole: Score
    small: Score
    likeness: Score  # of the file's outputs and the simulation's
    bits: float  # by weight of a layer
    integer_layers: int
    sizes: tuple[int, int]  # bytes: before, after
    weight_errors: dict[str, float]


def compress(
    networks: Sequence[Network], outputs: Sequence[Path], recipe: Recipe, samples: Sequence[Labelled],
    tests: Sequence[Labelled], folder: Path, progress: Progress,
) -> list[Made]:  # fmt: skip
    """Carry out the recipe on each network (on all together where a step shares something), and write the files.

    `folder` keeps what is done between steps: an interrupted compression goes on. The same recipe, samples and network
    give the same file. Raises ModelError that names the network and the layer; nothing is left half-written.
    """
    works = [Work(network, given.samples) for network, given in zip(networks, samples, strict=True)]
    said = _said(networks, samples, recipe)
    path = folder / "kept.pt"
    done = kept.taken_up(works, path, said)
    try:
        for number, (name, method) in enumerate(recipe.steps[done:], done + 1):
            torch.manual_seed(recipe.calibration.seed)
            applied(method, works, progress)
            folder.mkdir(parents=True, exist_ok=True)
            kept.keep(works, path, said, number)
            progress(f"step {number} ({name})", number, len(recipe.steps))
        made = [written(work, to, recipe, test) for work, to, test in zip(works, outputs, tests, strict=True)]
    except ModelError:
        _forget(path)  # the same again would fail alike
        raise
    _forget(path)
    return made


def _forget(path: Path) -> None:
    """Without the file, and without its folder if nothing else is there."""
    path.unlink(missing_ok=True)
    if path.parent.exists() and not any(path.parent.iterdir()):
        path.parent.rmdir()


def _said(networks: Sequence[Network], samples: Sequence[Labelled], recipe: Recipe) -> str:
    """What decides the result: if it is another, nothing that was kept is taken up."""
    digest = hashlib.sha256(json.dumps(recipe.plain(), sort_keys=True, default=str).encode())
    for network, given in zip(networks, samples, strict=True):
        digest.update(network.model.SerializeToString(deterministic=True))
        for value in given.samples.values():
            digest.update(value.numpy().tobytes())
    return digest.hexdigest()


def written(work: Work, path: Path, recipe: Recipe, test: Labelled) -> Made:
    """The file, its manifest and golden pair; all of them or none."""
    profile = Profile(PROFILES[recipe.export.target].signed_activations, recipe.export.int4)
    model = model_of(work, profile)
    integer = [layer for layer in work.network.layers if work.in_integers(layer)]
    first = {name: value[:1] for name, value in test.samples.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as place:
        fresh = Path(place) / path.name
        onnx.save(model, str(fresh))
        if recipe.export.fused:
            assert_fused(fresh, integer, profile.signed_activations)
        layers = work.network.layers
        running = {layer.name for layer in in_integers(fresh, layers, profile.signed_activations)}
        likeness = _like(work, fresh, test)
        whole, small = (score(work, test.samples, test.labels, whole=each) for each in (True, False))
        image, *others = first
        golden = _run(fresh, {image: first[image]} | {name: torch.zeros_like(first[name]) for name in others})[0]
        sizes = (len(work.network.model.SerializeToString()), fresh.stat().st_size)
        said = {
            "classes": [], "compressed_from": Path(work.network.who).name, "recipe": recipe.plain(),
            "score_before": str(whole), "score_after": str(small), "integer_layers": len(running),
            "float_layers": [layer.name for layer in layers if layer.name not in running],
            "bits_per_weight": round(_bits(work), 3), "golden_tolerance": recipe.export.tolerance,
            "sha256": hashlib.sha256(fresh.read_bytes()).hexdigest(),
        }  # fmt: skip
        said |= _inherited(Path(work.network.who))
        np.savez_compressed(fresh.with_suffix(".golden.npz"), image=first[image].numpy(), output=golden)
        fresh.with_suffix(".json").write_text(json.dumps(said, indent=2, default=str) + "\n", encoding="utf-8")
        for suffix in (".golden.npz", ".json", ".onnx"):
            fresh.with_suffix(suffix).replace(path.with_suffix(suffix))
    return Made(work, path, whole, small, likeness, _bits(work), len(running), sizes, weight_errors(work))


def _bits(work: Work) -> float:
    return work.bits() / sum(work.network.weight(layer).numel() for layer in work.network.layers)


def _inherited(path: Path) -> dict[str, Any]:
    """What the manifest of the whole network says of how to use it."""
    beside = path.with_suffix(".json")
    if not beside.exists():
        return {}
    try:
        said = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(str(beside), "read the manifest", type(error).__name__) from None
    return {key: said[key] for key in _INHERITED if key in said}


def _run(path: Path, given: dict[str, torch.Tensor]) -> list[np.ndarray]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    return session.run(None, {name: value.numpy() for name, value in given.items()})  # type: ignore[no-any-return]


def _like(work: Work, path: Path, test: Labelled, most: int = 32) -> Score:
    """Whether the file gives what the simulation gives, sample by sample."""
    some = {name: value[:most] for name, value in test.samples.items()}
    count = len(next(iter(some.values())))
    ours = [_run(path, {name: value[i : i + 1] for name, value in some.items()})[0] for i in range(count)]
    return agreement(torch.from_numpy(np.concatenate(ours)), next(iter(work.outputs(some).values())))
