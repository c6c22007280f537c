"""The released weights (`*_state_dict.npz`, arrays by the names of the authors' code) in our network (extra train)."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from foveate.errors import ModelError
from foveate_nodes.segmentation.sltnet import Layout, SltNet

_UNUSED = re.compile(  # declared by the authors' code, and never called
    r"conv3x3_[12]\.|attn[23]\.|^PA[12]\.|^upsample_\d\.bn\.|downsample_\d\.bnlif\.|num_batches_tracked"
)
_ROLES = {"q": "query", "k": "key", "v": "value", "proj": "project"}
_NAMES: list[tuple[str, str | Callable[[re.Match[str]], str]]] = [  # of theirs, in this order, and ours
    (r"\.bn_lif\.bn\.", ".out.norm."),
    (r"^init_conv\.2\.", "stem.2."),
    (r"^init_conv\.", "stem."),
    (r"^bn_lif_1\.bn\.", "stem.2.out.norm."),
    (r"^bn_lif_([234])\.bn\.", lambda found: f"stage.{int(found[1]) - 2}.{{last}}.norm."),
    (r"^bn_lif_([567])\.bn\.", lambda found: f"up_spike.{int(found[1]) - 5}.norm."),
    (r"^downsample_(\d)\.conv3x3\.", lambda found: f"down.{int(found[1]) - 1}."),
    (r"^DAB_Block_([123])\.DAB_Module_\d_(\d)\.", lambda found: f"stage.{int(found[1]) - 1}.{found[2]}."),
    (r"^DAB_Block_([456])\.DAB_Module_\d_0\.", lambda found: f"up.{int(found[1]) - 4}.block."),
    (r"\.bn_lif_1\.bn\.", ".enter.norm."),
    (r"\.bn_lif_2\.bn\.", ".leave.norm."),
    (r"\.conv1x1_in\.conv\.", ".narrow."),
    (r"(?<!FE\d)\.conv1x1\.conv\.", ".widen."),
    (r"\.ca11\.conv\.", ".near.gain.conv."),
    (r"\.ca22\.conv\.", ".far.gain.conv."),
    (r"\.ddconv3x1\.", ".far.tall."),
    (r"\.ddconv1x3\.", ".far.wide."),
    (r"^LC(\d)\.dconv3x1\.", lambda found: f"up.{3 - int(found[1])}.connect.tall."),
    (r"^LC(\d)\.dconv1x3\.", lambda found: f"up.{3 - int(found[1])}.connect.wide."),
    (r"\.dconv3x1\.", ".near.tall."),
    (r"\.dconv1x3\.", ".near.wide."),
    (r"\.conv3x1\.", ".tall."),
    (r"\.conv1x3\.", ".wide."),
    (r"^transformer(\d)\.", lambda found: f"transformer.{int(found[1]) - 1}."),
    (r"\.attn1\.(q|k|v|proj)_conv\.", lambda found: f".attention.{_ROLES[found[1]]}."),
    (r"\.0\.body\.0\.", ".first."),
    (r"\.0\.body\.1\.bn\.", ".inner."),
    (r"\.0\.body\.2\.0\.", ".depthwise."),
    (r"\.0\.body\.2\.1\.", ".last."),
    (r"\.0\.body\.2\.2\.", ".norm."),
    (r"(attention\.\w+)\.1\.", r"\1.outer."),
    (r"\.mlp\.fc1_conv\.", ".mlp.widen."),
    (r"\.mlp\.fc1_bn\.", ".mlp.widened."),
    (r"\.mlp\.fc2_conv\.", ".mlp.narrow."),
    (r"\.mlp\.fc2_bn\.", ".mlp.narrowed."),
    (r"^upsample_(\d)\.conv\.", lambda found: f"up.{int(found[1]) - 1}.conv."),
    (r"^FE(\d)\.conv1x1_1\.", lambda found: f"up.{3 - int(found[1])}.enhance.squeeze."),
    (r"^FE(\d)\.conv1x1_2\.conv\.", lambda found: f"up.{3 - int(found[1])}.enhance.stretch."),
    (r"^FE(\d)\.conv1x1\.conv\.", lambda found: f"up.{3 - int(found[1])}.enhance.mix."),
    (r"^FE(\d)\.conv3x3\.conv\.", lambda found: f"up.{3 - int(found[1])}.enhance.place."),
    (r"^FE(\d)\.bn\.", lambda found: f"up.{3 - int(found[1])}.enhance.norm."),
    (r"^PA3\.conv\.", "gate."),
    (r"^classifier\.0\.conv\.", "classifier."),
]  # fmt: skip


def network_of(arrays: Mapping[str, NDArray[np.float32]], name: str) -> SltNet:
    """The network of a released state dict, in evaluation mode. Raises ModelError where the arrays are not one."""
    try:
        first, last = arrays["init_conv.0.conv.weight"], arrays["classifier.0.conv.weight"]
    except KeyError as missing:
        raise ModelError(name, "load", f"no array {missing}: not a released SLTNet") from None
    net = SltNet(Layout(bins=first.shape[1], classes=last.shape[0], width=first.shape[0]))
    ours = {}
    for theirs, array in arrays.items():
        if _UNUSED.search(theirs):
            continue
        renamed = theirs
        for pattern, ours_is in _NAMES:
            renamed = re.sub(pattern, ours_is, renamed)
        for stage, dilations in enumerate(net.layout.dilations):  # the norm is behind the blocks
            renamed = renamed.replace(f"stage.{stage}.{{last}}", f"stage.{stage}.{len(dilations)}")
        value = torch.from_numpy(np.ascontiguousarray(array))
        ours[renamed] = value[..., None] if ".mlp." in renamed and value.ndim == 3 else value
    found = net.load_state_dict(ours, strict=False)
    missing_ = [key for key in found.missing_keys if not key.endswith("num_batches_tracked")]
    if missing_ or found.unexpected_keys:
        raise ModelError(name, "load", f"arrays are missing: {missing_[:3]}; not known: {found.unexpected_keys[:3]}")
    return net.eval()
