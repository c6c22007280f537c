"""Where labelled recordings come from: made here, or folders that users have."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from foveate.errors import NotFound
from foveate_nodes.segmentation import training_views as views
from foveate_nodes.segmentation.classes import SIX
from foveate_nodes.segmentation.ddd17 import Ddd17
from foveate_nodes.segmentation.ddd17 import splits as ddd17_splits
from foveate_nodes.segmentation.dsec import Dsec
from foveate_nodes.segmentation.dsec import splits as dsec_splits
from foveate_nodes.segmentation.labelled import LabelledRecording, MadeRecording, Slice
from foveate_nodes.segmentation.recipe import Recipe

Split = tuple[list[LabelledRecording], list[LabelledRecording]]  # what is learnt from, what is measured on
Tell = Callable[[str], None]
_VALIDATION_SEEDS = 1_000_000  # streets from here on are never learnt from
_TURNS = 8  # ways in which the camera turns before one photograph
_FILM_HZ = 24.0
_EVERY_FIFTH = 5  # photograph is measured on


def recordings(recipe: Recipe, data: Path, tell: Tell) -> Split:
    """The recordings of a recipe; rendered ones are kept in `data`. Raises NotFound, RecordingError, BackendMissing."""
    if recipe.data.kind == "street":
        return _streets(recipe, data, tell)
    folder = recipe.data.folder
    if folder is None:
        raise NotFound(recipe.data.kind, "find its recordings", "the recipe's data.folder says where they are")
    if recipe.data.kind == "ddd17":
        found = ddd17_splits(folder)
        return [Ddd17(each) for each in found["train"]], [Ddd17(each) for each in found["valid"]]
    if recipe.data.kind == "dsec":
        found = dsec_splits(folder)
        return [Dsec(each) for each in found["train"]], [Dsec(each) for each in found["valid"]]
    return _photographs(folder, recipe, tell) if recipe.data.kind == "camvid" else _films(folder, recipe, tell)


def _streets(recipe: Recipe, data: Path, tell: Tell) -> Split:
    """Rendered drives; each is kept as a file, so that an interrupted training does not render again."""
    folder = data / f"street_{hashlib.sha256(recipe.data_said().encode()).hexdigest()[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    said = recipe.data
    seeds = [*range(said.drives), *(_VALIDATION_SEEDS + i for i in range(said.validation))]
    done = 0

    def made(seed: int) -> LabelledRecording:
        nonlocal done
        recording = _kept(folder / f"{seed}.npz", seed, recipe)
        done += 1
        tell(f"drives {done}/{len(seeds)}")
        return recording

    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(made, seeds))
    return found[: said.drives], found[said.drives :]


def _kept(path: Path, seed: int, recipe: Recipe) -> LabelledRecording:
    if path.exists():
        with np.load(path) as held:
            events = Slice(held["t_ns"].astype(np.int64), held["x"], held["y"], held["polarity"])
            labels = held["labels"]
            return MadeRecording(f"street {seed}", SIX, labels.shape[1:], events, held["label_t_ns"], labels)
    said, cut = recipe.data, recipe.slices
    recording = views.drive(
        seed, size=recipe.net.size, field_rad=said.field, slices=cut.steps, slice_ns=cut.duration_ns,
        renderings=said.renderings,
    )  # fmt: skip
    events = recording.events(0, recording.events_before(1 << 62))
    labels = np.stack([recording.labels(i) for i in range(len(recording.label_t_ns))])
    fresh = path.with_suffix(".new.npz")
    np.savez_compressed(fresh, t_ns=events.t_ns.astype(np.uint32), x=events.x, y=events.y, polarity=events.polarity,
                        labels=labels, label_t_ns=recording.label_t_ns)  # fmt: skip
    fresh.replace(path)
    return recording


def _photographs(folder: Path, recipe: Recipe, tell: Tell) -> Split:
    """CamVid as SegNet's tutorial has it: `train/` and `trainannot/`; every fifth photograph is measured on."""
    images = sorted((folder / "train").glob("*.png"))
    if len(images) < _EVERY_FIFTH:
        raise NotFound(str(folder), "find CamVid", f"{len(images)} photographs in train/*.png; 5 are needed at least")
    cut, made = recipe.slices, []
    for number, image in enumerate(images):
        tell(f"photographs {number + 1}/{len(images)}")
        made.append([
            views.photograph(image, folder / "trainannot" / image.name, seed=number * _TURNS + turn,
                             size=recipe.net.size, slices=cut.steps, slice_ns=cut.duration_ns)
            for turn in range(_TURNS)
        ])  # fmt: skip
    learnt = [each for i, some in enumerate(made) if (i + 1) % _EVERY_FIFTH for each in some]
    measured = [each for some in made[_EVERY_FIFTH - 1 :: _EVERY_FIFTH] for each in some]
    return list(learnt), list(measured)


def _films(folder: Path, recipe: Recipe, tell: Tell) -> Split:
    """DAVIS 2016: `JPEGImages/480p/NAME` and `Annotations/480p/NAME`; the last quarter of each film is measured on."""
    names = sorted(path.name for path in (folder / "JPEGImages" / "480p").glob("*") if path.is_dir())
    if not names:
        raise NotFound(str(folder), "find DAVIS", "there are no folders in JPEGImages/480p")
    learnt: list[LabelledRecording] = []
    measured: list[LabelledRecording] = []
    for seed, name in enumerate(names):
        tell(f"films {seed + 1}/{len(names)}")
        frames = sorted((folder / "JPEGImages" / "480p" / name).glob("*.jpg"))
        masks = [folder / "Annotations" / "480p" / name / f"{frame.stem}.png" for frame in frames]
        cut = max(len(frames) * 3 // 4, 3)
        for into, part in ((learnt, slice(0, cut)), (measured, slice(cut, None))):
            into.append(views.film(frames[part], masks[part], rate_hz=_FILM_HZ, seed=seed, size=recipe.net.size))
    return learnt, measured
