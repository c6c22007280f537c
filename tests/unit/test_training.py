"""Training, shortened: what it makes is a model that the nodes take. Needs torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(600), pytest.mark.filterwarnings("default")]
torch = pytest.importorskip("torch", reason="needs the extra 'train'")


def test_a_detector_trained_briefly_learns_exports_and_loads(tmp_path: Path) -> None:
    from foveate_nodes.detection import train
    from foveate_nodes.detection.detect import Detect
    from foveate_nodes.models.export import export

    losses: list[float] = []
    network, calibration = train.train_detector(
        steps=60, seed=3, scenes=2, photographs=[], start=None, progress=lambda i, n, loss: losses.append(loss)
    )
    assert np.mean(losses[-10:]) < 0.6 * np.mean(losses[:5])
    path = tmp_path / "d.onnx"
    export(network, calibration[:24], path, train.manifest("detector"), any_size=False)
    assert (
        list(
            Detect.check(
                model=path, score=0.3, overlap=0.5, names=None, keep=(), backend="onnx", provider="", threads=1
            )
        )
        == []
    )
    node = Detect(model=path)
    node.open()
    assert node.names == ("vehicle", "person")


def test_the_same_seed_trains_the_same_weights() -> None:
    from foveate_nodes.detection import train

    def weights() -> np.ndarray:
        network, _ = train.train_regions(
            steps=3, seed=5, scenes=1, photographs=[], start=None, progress=lambda *_: None
        )
        return torch.cat([p.detach().flatten() for p in network.parameters()]).numpy()

    assert np.array_equal(weights(), weights())


def test_cells_answer_for_the_box_they_see() -> None:
    from foveate_nodes.detection import network

    cells = network.grid(256, 256)
    boxes = torch.tensor([[[100.0, 100.0, 120.0, 120.0], [10.0, 10.0, 200.0, 150.0]]])
    positive, index = network.assign(boxes, torch.tensor([2]), cells)
    for box, stride in ((0, 8), (1, 32)):
        chosen = cells[positive[0] & (index[0] == box)]
        assert len(chosen) and (chosen[:, 2] == stride).all()
        center = (boxes[0, box, :2] + boxes[0, box, 2:]) / 2
        assert (((chosen[:, :2] + 0.5) * stride - center).abs() <= 1.5 * stride).all()
    assert not network.assign(boxes, torch.tensor([0]), cells)[0].any()


@pytest.mark.parametrize("name", ["edges", "regions", "vehicles_people"])
def test_weights_fit_processors_that_add_in_16_bits(name: str) -> None:
    """x86 without VNNI: weights above 64 would overflow there, and the model would give something else than here."""
    onnx = pytest.importorskip("onnx", reason="onnx reads the weights (extra train)")
    path = Path(__file__).parents[2] / f"launch/models/{name}.onnx"
    weights = [onnx.numpy_helper.to_array(one) for one in onnx.load(path).graph.initializer]
    largest = [int(np.abs(one.astype(int)).max()) for one in weights if one.dtype == np.int8 and one.size > 1]
    assert largest and max(largest) <= 64
