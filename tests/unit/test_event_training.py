"""Training of the spiking network: repeatable, resumable, measured; what is exported gives the same. Needs torch."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs the extra 'train'")

import torch
from torch import nn

from foveate.cli import main
from foveate.errors import FoveateError, ModelError, NotFound, RecordingError
from foveate_nodes.segmentation import recipe as recipes
from foveate_nodes.segmentation import training_views as views
from foveate_nodes.segmentation.clips import Clips, Slicing
from foveate_nodes.segmentation.energy import ACCUMULATE_PJ, MULTIPLY_ADD_PJ, Meter, Rates
from foveate_nodes.segmentation.export_sltnet import export, opened
from foveate_nodes.segmentation.labelled import UNLABELLED
from foveate_nodes.segmentation.neuron import Leaky, reset
from foveate_nodes.segmentation.recipe import Data, Learning, Net, Recipe, Slices
from foveate_nodes.segmentation.segment_events import SegmentEvents
from foveate_nodes.segmentation.train_sltnet import made, mirrored, train

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]
SMALL = Recipe(
    Data(drives=6, validation=2), Slices(steps=2), Net(width=8, size=(64, 48)), Learning(steps=12, batch=2, rate=0.01)
)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)  # sums in another order are other weights
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def trained(recipe: Recipe, folder: Path, data: Path, until: int = 10_000) -> tuple[Any, list[float], Any]:
    """The network, the losses of this turn, what was reached; interrupted after step `until`."""
    losses: list[float] = []

    def progress(step: int, steps: int, loss: float) -> None:
        losses.append(loss)
        if step == until:
            raise KeyboardInterrupt

    net, reached, _ = train(recipe, folder, data, progress=progress, tell=lambda text: None)
    return net, losses, reached


def weights(net: nn.Module) -> list[np.ndarray]:
    return [value.numpy() for value in net.state_dict().values()]


def test_the_same_seed_gives_the_same_weights_and_another_does_not(tmp_path: Path, data: Path) -> None:
    one, losses, reached = trained(SMALL, tmp_path / "a", data)
    two, again, _ = trained(SMALL, tmp_path / "b", data)
    assert losses == again and all(np.array_equal(a, b) for a, b in zip(weights(one), weights(two), strict=True))
    other = replace(SMALL, learning=replace(SMALL.learning, seed=1))
    three, _, _ = trained(other, tmp_path / "c", data)
    assert not all(np.array_equal(a, b) for a, b in zip(weights(one), weights(three), strict=True))
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) and reached["clips"] == 2 and not reached["dead_blocks"]
    assert 0 < reached["firing_rate"] < 1 and 0 <= reached["miou"] <= 1
    assert reached["literature_mj"] < reached["honest_mj"]
    lines = [json.loads(line) for line in (tmp_path / "a" / "log.jsonl").read_text().splitlines()]
    assert lines[0]["step"] == 12 and {"loss", "firing_rate", "dead_blocks"} <= set(lines[0]) and "iou" in lines[-1]


def test_an_interrupted_training_ends_as_one_that_was_not(tmp_path: Path, data: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("foveate_nodes.models.fitting._KEPT_EVERY", 4)
    whole, _, _ = trained(SMALL, tmp_path / "a", data)
    with pytest.raises(KeyboardInterrupt):
        trained(SMALL, tmp_path / "b", data, until=7)
    rest, losses, _ = trained(SMALL, tmp_path / "b", data)
    assert len(losses) == 12 - 4  # the last checkpoint was after step 4
    assert all(np.array_equal(a, b) for a, b in zip(weights(whole), weights(rest), strict=True))


def test_a_checkpoint_of_another_recipe_or_a_broken_one_is_refused(tmp_path: Path, data: Path) -> None:
    brief = replace(SMALL, learning=replace(SMALL.learning, steps=1))
    trained(brief, tmp_path, data)
    with pytest.raises(ModelError, match=r"checkpoint.pt: cannot go on from it: it was made with another recipe"):
        trained(SMALL, tmp_path, data)
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelError, match=r"checkpoint.pt: cannot read the checkpoint: .*remove it to begin anew"):
        trained(brief, tmp_path, data)


def test_rendered_drives_are_kept_and_read_back(data: Path) -> None:
    from foveate_nodes.segmentation.sources import recordings

    said: list[str] = []
    first, _ = recordings(SMALL, data, said.append)
    second, _ = recordings(SMALL, data, said.append)
    assert said[-1] == "drives 8/8"
    for one, two in zip(first, second, strict=True):
        a, b = one.events(0, 1 << 40), two.events(0, 1 << 40)
        assert len(a) > 100 and np.array_equal(a.t_ns, b.t_ns) and np.array_equal(a.x, b.x)
        assert np.array_equal(one.labels(1), two.labels(1))
    clip = Clips(first, Slicing(steps=2), (64, 48))[0]
    assert clip.grids.shape == (2, 5, 48, 64) and (clip.labels != UNLABELLED).all()
    turned = mirrored(clip)
    assert np.array_equal(turned.grids[..., 0], clip.grids[..., -1]) and np.array_equal(
        turned.labels[..., 3], clip.labels[..., -4]
    )


def test_clips_that_do_not_fit_are_refused_and_unlabelled_ones_teach_nothing(data: Path) -> None:
    from foveate_nodes.segmentation.labelled import MadeRecording, Slice
    from foveate_nodes.segmentation.train_sltnet import _Loss

    t = np.arange(0, 100_000_000, 10_000, dtype=np.int64)
    events = Slice(
        t, (t // 10_000 % 64).astype(np.uint16), (t // 70_000 % 48).astype(np.uint16), (t % 3).astype(np.uint8)
    )
    times, labels = np.array([50_000_000, 100_000_000], np.int64), np.full((2, 48, 64), UNLABELLED, np.uint8)
    recording = MadeRecording("silent", ("a", "b"), (48, 64), events, times, labels)
    for slicing, said in ((Slicing(steps=4), "4 slices of 50 ms"), (Slicing(count=1_000_000), "1000000 events")):
        with pytest.raises(RecordingError, match=rf"silent: none of 2 labels has {said} before it"):
            Clips([recording], slicing, (64, 48))
    other = MadeRecording("other", ("a", "c"), (48, 64), events, times, labels)
    with pytest.raises(FoveateError, match=r"other: .*its classes are a, c; those before have a, b"):
        Clips([recording, other], Slicing(steps=2), (64, 48))
    clips = Clips([recording], Slicing(steps=2), (64, 48))
    net = made(SMALL.net, 5, 2)
    loss = _Loss(net, clips, SMALL)(0)
    assert bool(torch.isfinite(loss)) and loss.requires_grad


def test_what_is_exported_gives_what_the_network_gives(tmp_path: Path, data: Path) -> None:
    net, _, reached = trained(replace(SMALL, learning=replace(SMALL.learning, steps=25)), tmp_path / "t", data)
    from foveate_nodes.segmentation.train_sltnet import clips_of

    _, clips = clips_of(SMALL, data, lambda text: None)
    manifest = {"classes": list(clips.classes), "measured": reached}
    path = tmp_path / "net.onnx"
    export(net, path, clips, manifest, integers=False)
    session = opened(path)
    state = {item.name: np.zeros(item.shape, np.float32) for item in session.get_inputs()[1:]}
    assert len(state) > 50
    reset(net)
    fired = 0.0
    for grid in np.concatenate([clips[0].grids, clips[1].grids]):
        logits, *after = session.run(None, {"slice": grid[None], **state})
        state = dict(zip(state, after, strict=True))
        with torch.no_grad():
            expected = net(torch.from_numpy(grid[None]))[0].numpy()
        fired += float(np.abs(expected).max())
        assert np.abs(logits - expected).max() < 1e-5
    reset(net)
    assert fired > 0.1 and path.stat().st_size < 1_500_000  # no membranes are baked in
    assert list(SegmentEvents.check(model=path, carried=True, backend="onnx", provider="", threads=1)) == []
    export(net, tmp_path / "small.onnx", clips, manifest, integers=True)
    node = SegmentEvents(model=tmp_path / "small.onnx")
    node.open()  # proves the golden pair


def test_the_command_trains_measures_exports_and_says_what_it_reached(tmp_path: Path, capsys: Any) -> None:
    recipe = tmp_path / "r.yaml"
    recipe.write_text("data: {drives: 3, validation: 2}\nslices: {steps: 2}\nnet: {width: 8, size: [64, 48]}\n"
                      "learning: {steps: 3, batch: 2}\n")  # fmt: skip
    assert main(["train", "sltnet", str(recipe), "--output", str(tmp_path / "n.onnx"), "--threads", "1"]) == 0
    said = capsys.readouterr()
    assert "mIoU" in said.out and "mJ" in said.out and "3/3" in said.err
    manifest = json.loads((tmp_path / "n.json").read_text())
    assert manifest["training"]["learning"]["steps"] == 3 and manifest["measured"]["clips"] == 2
    assert (tmp_path / "n.golden.npz").exists() and "of the exported file" in said.out
    checkpoint = tmp_path / "n.training" / "checkpoint.pt"
    assert main(["model", "info", str(checkpoint), "--size", "64x48"]) == 0
    assert "0 of 12 blocks never fire" in capsys.readouterr().out
    checkpoint.write_bytes(b"PK")
    assert main(["model", "info", str(checkpoint)]) == 1
    assert "none of 'foveate train'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("data: {kin: x}", r"data\.kin: unexpected"), ("learning: {steps: 0}", r"learning\.steps: .*1, not 0"),
        ("net: {size: [8, 8]}", r"net\.size\.0: .*32"), ("- a", "the document: "), ("a: [", "node content"),
        ("data: {kind: ddd18}", r"data\.kind: "),
    ],
)  # fmt: skip
def test_recipes_that_say_nothing_sensible_are_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(ModelError, match=said) as caught:
        recipes.read(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    with pytest.raises(ModelError, match="No such file"):
        recipes.read(tmp_path / "none.yaml")


@pytest.mark.parametrize("kind", ["ddd17", "dsec", "davis", "camvid"])
def test_folders_that_are_not_there_are_named(kind: Any, tmp_path: Path) -> None:
    from foveate_nodes.segmentation.sources import recordings

    with pytest.raises(NotFound, match=r"data\.folder says where"):
        recordings(Recipe(Data(kind=kind)), tmp_path, lambda text: None)
    with pytest.raises(FoveateError, match="none"):
        recordings(Recipe(Data(kind=kind, folder=tmp_path / "none")), tmp_path, lambda text: None)


def test_the_meter_counts_what_is_counted_by_hand() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, bias=False), Leaky(), nn.Conv2d(4, 3, 1, bias=False)).eval()
    slice_ = torch.randn(1, 2, 6, 8)
    with torch.no_grad():
        spikes = net[1](net[0](slice_))
        reset(net)
        with Rates(net) as rates, Meter() as meter:
            meter.begin(slice_)
            net(slice_)
            meter.begin(slice_)
            net(slice_)
    energy, pixels = meter.energy, 6 * 8
    assert energy.slices == 2 and energy.input_layers == 2 * pixels * 4 * 2 * 9
    assert energy.dense == energy.input_layers + 2 * pixels * 3 * 4
    assert energy.active == energy.spiking and 0 < energy.active < 2 * pixels * 12 and energy.floating == 0
    first = float(spikes.mean())
    assert 0.02 < first < 0.9 and abs(rates.layers()["1"] - first) < 0.3
    literature = (MULTIPLY_ADD_PJ * energy.input_layers + ACCUMULATE_PJ * energy.active) / 2 * 1e-9
    assert abs(energy.literature_mj - literature) < 1e-15 and energy.honest_mj > energy.literature_mj
    assert energy.left_out >= pixels * 4  # the leak of the second step at least


def test_norms_cost_nothing_where_a_convolution_takes_them_in() -> None:
    def left_out(*layers: nn.Module) -> float:
        net, slice_ = nn.Sequential(*layers).eval(), torch.randn(1, 2, 6, 8)
        with torch.no_grad(), Meter() as meter:
            meter.begin(slice_)
            net(slice_)
        return meter.energy.left_out

    conv, norms = nn.Conv2d(2, 2, 1, bias=False), [nn.BatchNorm2d(2) for _ in range(2)]
    assert left_out(conv, *norms) == 0 and left_out(conv, nn.ReLU(), norms[0]) == left_out(norms[0]) == 2 * 6 * 8


def test_silent_channels_are_pushed_and_busy_ones_left() -> None:
    cell = Leaky()
    given = torch.zeros(2, 3, 4, 4)
    given[:, 0] = 2.0  # always; the second fires in one place of 16, the third never
    given[:, 1, 0, 0] = 2.0
    given.requires_grad_(True)
    with Rates(cell) as rates:
        cell(given)
    lack = rates.below(0.125)
    assert abs(float(lack.detach()) - (0 + 0.25 + 1) / 3) < 1e-6
    lack.backward()
    assert given.grad is not None and not given.grad[:, 0].any() and (given.grad[:, 2] <= 0).all()


def test_a_network_without_spikes_and_one_as_released_can_be_made(tmp_path: Path, data: Path) -> None:
    relu = replace(SMALL, net=replace(SMALL.net, neuron="relu"), slices=replace(SMALL.slices, carried=False))
    _, _, reached = trained(replace(relu, learning=replace(SMALL.learning, steps=2)), tmp_path / "a", data)
    assert reached["firing_rate"] == 0
    as_released = replace(SMALL.learning, steps=2, decay_all=True, floor=0.0, push=0.0)
    net = replace(SMALL.net, neuron="tanh_window", slope=3.0, gain=1.0)
    _, _, reached = trained(replace(SMALL, net=net, learning=as_released), tmp_path / "b", data)
    assert reached["firing_rate"] > 0 and made(net, 5, 6).layout.width == 8


def test_photographs_and_films_become_labelled_events(tmp_path: Path, shared_data: Path) -> None:
    import cv2

    random = np.random.default_rng(0)
    texture = cv2.GaussianBlur(random.integers(0, 256, (120, 160)).astype(np.uint8), (0, 0), 2)
    cv2.imwrite(str(tmp_path / "p.png"), cv2.normalize(texture, None, 0, 255, cv2.NORM_MINMAX))
    label = np.full((120, 160), 3, np.uint8)
    label[:, 80:] = 8
    cv2.imwrite(str(tmp_path / "a.png"), label)
    how = {"seed": 1, "size": (64, 48), "slices": 3, "slice_ns": 20_000_000}
    recording = views.photograph(tmp_path / "p.png", tmp_path / "a.png", **how)
    assert len(recording.events(0, 1 << 40)) > 100 and set(np.unique(recording.labels(2))) <= {0, 5, UNLABELLED}
    edge = [int((recording.labels(i) == 0).sum()) for i in range(3)]
    assert len(set(edge)) > 1  # the border moves with the picture
    label[0, 0] = 12
    cv2.imwrite(str(tmp_path / "a.png"), label)
    with pytest.raises(RecordingError, match="with values to 12"):
        views.photograph(tmp_path / "p.png", tmp_path / "a.png", **how)
    frames = []
    for i in range(5):
        cv2.imwrite(str(tmp_path / f"f{i}.png"), np.roll(texture, 3 * i, axis=1))
        cv2.imwrite(str(tmp_path / f"m{i}.png"), np.roll((label == 8).astype(np.uint8) * 255, 3 * i, axis=1))
        frames.append(i)
    images, masks = [tmp_path / f"f{i}.png" for i in frames], [tmp_path / f"m{i}.png" for i in frames]
    film = views.film(images, masks, rate_hz=25.0, seed=0, size=(64, 48))
    assert film.label_t_ns.tolist() == [40_000_000, 80_000_000, 120_000_000, 160_000_000]
    assert len(film.events(0, 1 << 40)) > 100 and set(np.unique(film.labels(0))) == {0, 1}
    with pytest.raises(RecordingError, match="5 frames and 4 masks"):
        views.film(images, masks[:4], rate_hz=25.0, seed=0, size=(64, 48))
    with pytest.raises(NotFound, match=r"gone.png"):
        views.photograph(tmp_path / "gone.png", tmp_path / "a.png", **how)
