"""The networks that compression is measured on: shapes, export, outliers, released weights. Needs torch."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

pytestmark = pytest.mark.heavy
torch = pytest.importorskip("torch", reason="needs the extra 'train'")
onnx = pytest.importorskip("onnx", reason="needs the extra 'train'")

from foveate.errors import ModelError  # noqa: E402
from foveate_compression.networks.mobilenet import MobileNet  # noqa: E402
from foveate_compression.networks.outliers import inject  # noqa: E402
from foveate_compression.networks.resnet import ResNet, released  # noqa: E402
from foveate_compression.networks.unet import UNet  # noqa: E402
from foveate_compression.networks.vit import ViT  # noqa: E402

_RELEASED = "models/classifiers/resnet_cifar10/pretrained_models/resnet20-12fca82f.th"
_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
MADE = {
    "resnet": (lambda: ResNet(width=8), (32, 32), (10,)),
    "resnet, padding": (lambda: ResNet(classes=7, width=8, blocks=(2, 1), shortcut="padding"), (32, 32), (7,)),
    "mobilenet": (lambda: MobileNet(), (32, 32), (10,)),
    "mobilenet, half": (lambda: MobileNet(classes=5, width=0.5), (32, 32), (5,)),
    "vit": (lambda: ViT(), (32, 32), (10,)),
    "vit, small": (lambda: ViT(classes=3, size=24, patch=8, width=32, depth=2, heads=2, mlp_ratio=2), (24, 24), (3,)),
    "unet": (lambda: UNet(11, width=8), (48, 64), (11, 48, 64)),
    "unet, flat": (lambda: UNet(4, width=4, depth=1), (34, 18), (4, 34, 18)),
}


def lived_in(net: Any, size: tuple[int, int]) -> Any:
    """In evaluation mode, with norms that have seen something."""
    net.train()
    with torch.no_grad():
        for _ in range(3):
            net(torch.rand(4, 3, *size))
    return net.eval()


@pytest.mark.parametrize("name", MADE)
def test_onnxruntime_gives_what_torch_gives(name: str, tmp_path: Path) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    torch.manual_seed(0)
    make, size, output = MADE[name]
    net = lived_in(make(), size)
    images = torch.rand(1, 3, *size)
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that is used is an old one
        torch.onnx.export(net, (images,), str(path), dynamo=False, opset_version=17, input_names=["image"])
    with torch.no_grad():
        wanted = net(images).numpy()
    assert wanted.shape == (1, *output)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {"image": images.numpy()})[0]
    assert np.abs(found - wanted).max() <= 1e-5 * max(1.0, np.abs(wanted).max())


def test_attention_is_two_products_and_a_softmax(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(ViT(depth=1).eval(), (torch.rand(1, 3, 32, 32),), str(path), dynamo=False, opset_version=17)
    graph = onnx.load(str(path)).graph
    constants = {item.name for item in graph.initializer}
    products = [node for node in graph.node if node.op_type == "MatMul" and not constants & set(node.input)]
    assert len(products) == 2
    assert [node.op_type for node in graph.node].count("Softmax") == 1
    assert [node.op_type for node in graph.node].count("LayerNormalization") == 3


@pytest.mark.parametrize("seed", range(3))
def test_outliers_leave_the_function_as_it_is(seed: int) -> None:
    torch.manual_seed(seed)
    net = ViT().eval()
    with torch.no_grad():
        for layer in net.layers:
            for norm in (layer.norm1, layer.norm2):
                norm.weight.uniform_(0.5, 1.5)
                norm.bias.normal_(0, 0.3)
    images = torch.rand(16, 3, 32, 32)
    seen: dict[str, Any] = {}
    made = inject(net, seed, channels=4)
    for which in (net, made):
        which.layers[1].norm2.register_forward_hook(
            lambda module, given, output, kind=("before" if which is net else "after"): seen.__setitem__(kind, output)
        )
    with torch.no_grad():
        assert (made(images) - net(images)).abs().max() < 1e-4
    ranges = {kind: value.amax((0, 1)) - value.amin((0, 1)) for kind, value in seen.items()}
    larger = ranges["after"] / ranges["before"]
    assert int((larger > 19).sum()) == 4
    assert int((larger > 1.001).sum()) == 4
    assert float(ranges["after"].max() / ranges["after"].median()) > 10


def test_a_shortcut_or_a_size_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="projection, padding"):
        ResNet(shortcut="none")
    with pytest.raises(ValueError, match="patches of 5"):
        ViT(patch=5)


def test_weights_that_are_none_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.th"
    with pytest.raises(ModelError, match="no such file"):
        released(path)
    path.write_bytes(b"none")
    with pytest.raises(ModelError, match="damaged"):
        released(path)
    torch.save({"state_dict": {"module.other.weight": torch.zeros(2)}}, path)
    with pytest.raises(ModelError, match="no network of pytorch_resnet_cifar10"):
        released(path)


@pytest.mark.data
def test_the_released_network_names_most_images(shared_data: Path) -> None:
    """81 % (../shared/data/README.md): its 91.7 % are of images that were never JPEGs."""
    path, folder = shared_data / _RELEASED, shared_data / "sets/cifar10_jpg/test"
    if not path.exists() or not folder.is_dir():
        pytest.skip("needs the released weights and the JPEGs of CIFAR-10")
    net = released(path)
    assert sum(value.numel() for value in net.parameters()) == 269_722  # without its paddings' weights: there are none
    images, labels = [], []
    for label, name in enumerate(_CLASSES):
        for jpeg in sorted((folder / name).glob("*.jpg")):
            images.append(cv2.imread(str(jpeg))[..., ::-1].transpose(2, 0, 1))
            labels.append(label)
    with torch.no_grad():
        given = torch.from_numpy(np.stack(images)).float() / 255
        found = torch.cat([net(some).argmax(1) for some in given.split(250)])
    assert abs(float((found == torch.tensor(labels)).float().mean()) - 0.81) <= 0.02
