"""The networks that the compression toolkit is measured on: trained once, on JPEGs of CIFAR-10 and on CamVid.

    python benchmarks/networks.py --work DIR                 trains four networks, each 5 to 8 minutes of one core
    python benchmarks/networks.py --work DIR --only vit --seed 1

Prints of each its parameters, multiply-adds and accuracy (of the U-Net the mean IoU). Trainings are kept in DIR: an
interrupted one goes on, a finished one is loaded. Data are those of the folder beside the checkout: 10,000 training and
2,000 test JPEGs of CIFAR-10, and 19 photographs of CamVid from three drives, of which 4 are measured on.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from foveate.errors import NotFound, RecordingError
from foveate_compression.networks.mobilenet import MobileNet
from foveate_compression.networks.resnet import ResNet
from foveate_compression.networks.unet import UNet
from foveate_compression.networks.vit import ViT
from foveate_nodes.models.counting import layers
from foveate_nodes.models.fitting import fit

_SETS = Path(__file__).resolve().parents[2] / "shared" / "data" / "sets"
CIFAR10, CAMVID = _SETS / "cifar10_jpg", _SETS / "camvid_segnet" / "CamVid"
CAMVID_CLASSES = ("sky", "building", "pole", "road", "pavement", "tree", "sign", "fence", "car", "people", "cyclist")
UNLABELLED = 255
_CROP = (96, 128)  # px, of CamVid's frames at half their size
_TESTED, _FIRST_TESTED = 5, 2  # every fifth frame from the third on is measured on: 4 of 19
_SHIFT, _HOLE = 4, 8  # px
_GREY = 120  # what a hole shows: about the mean of all pixels
_EVALUATED = 200  # images at once

Bytes = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, eq=False)
class Images:
    """N x 3 x H x W, RGB, with N classes or N x H x W classes of pixels (UNLABELLED where nobody says)."""

    train: Bytes
    train_label: Bytes
    test: Bytes
    test_label: Bytes
    classes: tuple[str, ...]


def cifar10(folder: Path = CIFAR10) -> Images:
    """`train_10000.npz` and `test/CLASS/*.jpg`; images of 32 x 32. Raises NotFound, RecordingError."""
    held = folder / "train_10000.npz"
    if not held.exists():
        raise NotFound(str(held), "find CIFAR-10", "training JPEGs as one array, beside the folder test/")
    with np.load(held) as arrays:
        jpeg, offset = arrays["jpeg"], arrays["offset"]
        label, classes = arrays["label"].astype(np.uint8), tuple(map(str, arrays["classes"]))
    train = [_rgb(jpeg[first:last], str(held)) for first, last in itertools.pairwise(offset)]
    paths = [sorted((folder / "test" / name).glob("*.jpg")) for name in classes]
    test = [_rgb(np.fromfile(path, np.uint8), str(path)) for some in paths for path in some]
    test_label = np.repeat(np.arange(len(classes), dtype=np.uint8), [len(some) for some in paths])
    return Images(np.stack(train), label, np.stack(test), test_label, classes)


def camvid(folder: Path = CAMVID) -> Images:
    """As SegNet's tutorial has it, `train/` and `trainannot/`, at half its size: whole frames of 180 x 240 to learn
    from, and of each that is measured on the four crops of 96 x 128 at its corners, which overlap. Raises NotFound,
    RecordingError."""
    paths = sorted((folder / "train").glob("*.png"))
    if len(paths) < _TESTED:
        raise NotFound(str(folder), "find CamVid", f"{len(paths)} photographs in train/*.png; {_TESTED} are needed")
    frames, labels = [], []
    for path in paths:
        annotation = folder / "trainannot" / path.name
        label = _decoded(np.fromfile(annotation, np.uint8), str(annotation), cv2.IMREAD_UNCHANGED)[::2, ::2]
        whole = _rgb(np.fromfile(path, np.uint8), str(path)).transpose(1, 2, 0)
        half = np.asarray(cv2.resize(whole, label.shape[::-1], interpolation=cv2.INTER_AREA), np.uint8)
        frames.append(half.transpose(2, 0, 1))
        labels.append(np.where(label < len(CAMVID_CLASSES), label, UNLABELLED).astype(np.uint8))
    image, named = np.stack(frames), np.stack(labels)
    tested = np.arange(len(image)) % _TESTED == _FIRST_TESTED
    height, width = _CROP
    corners = [(..., rows, columns) for rows in (slice(height), slice(-height, None))
               for columns in (slice(width), slice(-width, None))]  # fmt: skip
    test, test_label = (np.concatenate([each[tested][corner] for corner in corners]) for each in (image, named))
    return Images(image[~tested], named[~tested], test, test_label, CAMVID_CLASSES)


def _rgb(content: Bytes, who: str) -> Bytes:
    """3 x H x W of a JPEG or PNG."""
    return np.ascontiguousarray(_decoded(content, who, cv2.IMREAD_COLOR)[..., ::-1].transpose(2, 0, 1))


def _decoded(content: Bytes, who: str, flag: int) -> Bytes:
    image = cv2.imdecode(content, flag)
    if image is None:
        raise RecordingError(f"{who}: cannot be decoded as an image: copy it again")
    return np.asarray(image, np.uint8)


@dataclass(frozen=True, slots=True)
class Plan:
    """How a network is made and learns."""

    made: Callable[[], nn.Module]
    data: Callable[[], Images]
    steps: int
    batch: int
    rate: float
    decay: float
    score: str = "accuracy"
    smoothing: float = 0.1
    early: int = 0  # px: the side of the squares cut from images in the first steps, where not 0


# What 80 s of one core reach (ResNet of width 16, one seed): batches of 128 54.4 %, of 64 56.8 %, and early ones small
# 58.7 %. Learning from the answers of the released ResNet-20 as well did not help (52.6 %, batches of 128).
PLANS = {
    "resnet": Plan(ResNet, cifar10, 2200, 64, 5.6e-3, 5e-2, early=24),
    "mobilenet": Plan(MobileNet, cifar10, 3000, 64, 5.6e-3, 5e-2, early=24),
    "vit": Plan(ViT, cifar10, 1700, 64, 1e-3, 5e-2),
    "unet": Plan(lambda: UNet(len(CAMVID_CLASSES)), camvid, 800, 8, 4e-3, 5e-2, "miou", 0.0),
}
_EARLY = 0.65  # of the steps


def trained(name: str, work: Path, seed: int = 0) -> nn.Module:
    """One of PLANS in evaluation mode, learnt from where `work` has it not yet; keeps `accuracy.json` beside it."""
    plan, folder = PLANS[name], work / f"{name}_{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = plan.made()
    _ordered(net, torch.channels_last)  # in which processors learn up to 1.5 times faster
    decayed = {key for key, value in net.named_parameters() if value.ndim > 1 and key != "position"}
    recipe = (plan.steps, plan.batch, plan.rate, plan.decay, plan.smoothing, plan.early)
    said = " ".join(map(str, (name, seed, *recipe)))
    held: list[Images] = []
    begin, done = time.process_time(), [0]

    def loss(step: int) -> Tensor:
        held[:] = held or [plan.data()]
        image, label = _batch(held[0], plan.batch, seed, step, plan.early if step < _EARLY * plan.steps else 0)
        return functional.cross_entropy(net(image), label, ignore_index=UNLABELLED, label_smoothing=plan.smoothing)

    def progress(step: int, steps: int, value: float) -> None:
        done[0] += 1
        if step % 50 == 0:
            print(f"{name} {step}/{steps} loss {value:.3f} {time.process_time() - begin:.0f} s", flush=True)

    with _one_quick_thread():
        fit(net, loss, steps=plan.steps, peak=plan.rate, weight_decay=plan.decay, progress=progress, clip=1.0,
            decays=decayed.__contains__, checkpoint=folder / "checkpoint.pt", said=said)  # fmt: skip
    _ordered(net, torch.contiguous_format)
    kept = folder / "accuracy.json"
    if done[0] or not kept.exists():
        seconds = (time.process_time() - begin) * plan.steps / max(done[0], 1)
        reached = measured(net, (held or [plan.data()])[0])
        kept.write_text(json.dumps({plan.score: reached, "steps": plan.steps, "core_seconds": round(seconds)}) + "\n")
    return net


def _ordered(net: nn.Module, order: torch.memory_format) -> None:
    """Put the weights of convolutions into another order of memory; torch 2.13 crashes on layers of 4 channels."""
    for parameter in net.parameters():
        if parameter.ndim == 4:
            parameter.data = parameter.data.contiguous(memory_format=order)


@contextmanager
def _one_quick_thread() -> Iterator[None]:
    """One thread, and what is too small to be normal is nothing: it made processors 2 times slower."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(before)


def _batch(data: Images, size: int, seed: int, step: int, side: int) -> tuple[Tensor, Tensor]:
    """Of a step that is the same whenever it is made; squares of `side`, where it is not 0."""
    count = len(data.train)
    places = np.arange(step * size, (step + 1) * size)
    order = {epoch: np.random.default_rng((seed, 0, int(epoch))).permutation(count) for epoch in set(places // count)}
    which = [order[place // count][place % count] for place in places]
    rng = np.random.default_rng((seed, 1, step))
    cut = _shifted if data.train_label.ndim == 1 else _cropped
    images, labels = cut(data.train[which], data.train_label[which], rng)
    if side:
        y, x = rng.integers(0, (images.shape[2] - side + 1, images.shape[3] - side + 1))
        images = images[:, :, y : y + side, x : x + side]
    return _floating(images), torch.from_numpy(labels).long()


def _floating(images: Bytes) -> Tensor:
    """To 0 to 1."""
    return torch.from_numpy(images).contiguous(memory_format=torch.channels_last).float() / 255


def _shifted(images: Bytes, labels: Bytes, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
    """Mirrored or not, shifted, with a hole."""
    height, width = images.shape[2:]
    wide = np.pad(images, ((0, 0), (0, 0), (_SHIFT, _SHIFT), (_SHIFT, _SHIFT)), "reflect")
    made = np.empty_like(images)
    for into, image in zip(made, wide, strict=True):
        y, x = rng.integers(2 * _SHIFT + 1, size=2)
        turned = rng.choice((-1, 1))
        into[:] = image[:, y : y + height, x : x + width][..., ::turned]
        y, x = rng.integers(0, (height + 1, width + 1))  # the hole's middle
        into[:, max(y - _HOLE // 2, 0) : y + _HOLE // 2, max(x - _HOLE // 2, 0) : x + _HOLE // 2] = _GREY
    return made, labels


def _cropped(images: Bytes, labels: Bytes, rng: np.random.Generator) -> tuple[Bytes, Bytes]:
    """Mirrored or not, from anywhere."""
    height, width = _CROP
    found, named = [], []
    for image, label in zip(images, labels, strict=True):
        y, x = rng.integers(0, (label.shape[0] - height + 1, label.shape[1] - width + 1))
        cut = (..., slice(y, y + height), slice(x, x + width))
        turned = (..., slice(None, None, rng.choice((-1, 1))))
        found.append(image[cut][turned])
        named.append(label[cut][turned])
    return np.stack(found), np.stack(named)


@torch.no_grad()
def measured(net: Callable[[Tensor], Tensor], data: Images) -> float:
    """On the test images: the share named rightly or, of pixels, the mean IoU of the classes that are there."""
    parts = np.split(data.test, range(_EVALUATED, len(data.test), _EVALUATED))
    return score(np.concatenate([net(_floating(part)).argmax(1).numpy() for part in parts]), data)


def score(found: NDArray, data: Images) -> float:
    """Of the classes found in the test images; see `measured`."""
    if found.ndim == 1:
        return float((found == data.test_label).mean())
    known = data.test_label != UNLABELLED
    count = len(data.classes)
    pairs = np.bincount(data.test_label[known].astype(int) * count + found[known], minlength=count * count)
    table = pairs.reshape(count, count)  # truth, found
    hit, there = table.diagonal(), table.sum(1) > 0
    return float((hit / np.maximum(table.sum(0) + table.sum(1) - hit, 1))[there].mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of checkpoints and results")
    parser.add_argument("--only", choices=sorted(PLANS), help="one network")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rows = ["| network | parameters | multiply-adds, M | accuracy or mIoU | core seconds |", "|---|---|---|---|---|"]
    for name in [options.only] if options.only else PLANS:
        net = trained(name, options.work, options.seed)
        reached = json.loads((options.work / f"{name}_{options.seed}" / "accuracy.json").read_text())
        sample = torch.zeros(1, 3, *(_CROP if PLANS[name].score == "miou" else (32, 32)))
        adds = sum(each.multiply_adds for each in layers(net, sample)) / 1e6
        parameters = sum(each.numel() for each in net.parameters())
        rows.append(
            f"| {name} | {parameters:,} | {adds:.1f} | {reached[PLANS[name].score]:.1%} | {reached['core_seconds']} |"
        )
    print("\n".join(rows))


if __name__ == "__main__":
    main()
