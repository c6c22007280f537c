"""ONNX operators that move values, or are about shapes and types, as torch functions (extra train)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from foveate_drivers.backends.torch_arguments import Attributes, Given, Unsupported, ints, listed, present, second

_TYPES = {
    1: torch.float32, 2: torch.uint8, 3: torch.int8, 5: torch.int16, 6: torch.int32, 7: torch.int64, 9: torch.bool,
    10: torch.float16, 11: torch.float64, 16: torch.bfloat16,
}  # fmt: skip


def reshape(given: Given, attributes: Attributes) -> Tensor:
    x, shape = present(given)
    wanted = listed(shape)
    if not attributes.get("allowzero", 0):
        wanted = [x.shape[i] if side == 0 else side for i, side in enumerate(wanted)]
    return x.reshape(wanted)


def flatten(given: Given, attributes: Attributes) -> Tensor:
    x = present(given)[0]
    axis = attributes.get("axis", 1)
    axis += x.ndim if axis < 0 else 0
    return x.reshape(int(torch.tensor(x.shape[:axis]).prod()), -1)


def transpose(given: Given, attributes: Attributes) -> Tensor:
    x = present(given)[0]
    return x.permute(attributes.get("perm", list(range(x.ndim))[::-1]))


def squeeze(given: Given, attributes: Attributes) -> Tensor:
    x = present(given)[0]
    axes = second(given, attributes, "axes")
    return x.squeeze(tuple(axes)) if axes is not None else x.squeeze()


def unsqueeze(given: Given, attributes: Attributes) -> Tensor:
    x = present(given)[0]
    axes = second(given, attributes, "axes") or []
    for axis in sorted(axis % (x.ndim + len(axes)) for axis in axes):
        x = x.unsqueeze(axis)
    return x


def sliced(given: Given, attributes: Attributes) -> Tensor:
    x = given[0]
    assert x is not None
    starts, ends = second(given, attributes, "starts") or [], second(given, attributes, "ends", 2) or []
    axes = second(given, attributes, "axes", 3) or list(range(len(starts)))
    steps = second(given, attributes, "steps", 4) or [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        first, last, by = slice(start, end, step).indices(x.shape[axis])
        if by > 0:
            chosen: Tensor = torch.arange(first, max(last, first), by)
        else:
            chosen = torch.arange(first, min(last, first), by)
        x = x.narrow(axis, first, max(last - first, 0)) if by == 1 else x.index_select(axis, chosen.to(x.device))
    return x


def split(given: Given, attributes: Attributes) -> tuple[Tensor, ...]:
    x = given[0]
    assert x is not None
    axis = attributes.get("axis", 0)
    sizes = second(given, attributes, "split")
    if sizes is None:
        parts: int = attributes.get("num_outputs") or attributes["outputs"]
        sizes = [-(-x.shape[axis] // parts)] * (parts - 1)
        sizes.append(x.shape[axis] - sum(sizes))
    return tuple(torch.split(x, sizes, axis))


def gather(given: Given, attributes: Attributes) -> Tensor:
    x, indices = present(given)
    axis = attributes.get("axis", 0) % x.ndim
    flat = indices.reshape(-1).long()
    flat = torch.where(flat < 0, flat + x.shape[axis], flat)
    taken = x.index_select(axis, flat)
    return taken.reshape(x.shape[:axis] + indices.shape + x.shape[axis + 1 :])


def pad(given: Given, attributes: Attributes) -> Tensor:
    x = given[0]
    assert x is not None
    pads = second(given, attributes, "pads") or []
    axes = ints(given[3]) if len(given) > 3 else None
    of_axis = dict.fromkeys(range(x.ndim), (0, 0))
    count = len(pads) // 2
    for i, axis in enumerate(axes if axes is not None else range(count)):
        of_axis[axis % x.ndim] = (pads[i], pads[count + i])
    flat = [side for axis in reversed(range(x.ndim)) for side in of_axis[axis]]
    mode = attributes.get("mode", "constant")
    while flat[-2:] == [0, 0]:
        flat = flat[:-2]
    if mode == "constant":
        value = given[2].item() if len(given) > 2 and given[2] is not None else attributes.get("value", 0.0)
        return functional.pad(x, flat, value=value)
    if mode not in ("reflect", "edge"):
        raise Unsupported(f"mode {mode}")
    if not flat:
        return x
    flat += [0] * (2 * (x.ndim - 2) - len(flat))  # torch takes all sides of an image, or of a row, only
    return functional.pad(x, flat, mode={"reflect": "reflect", "edge": "replicate"}[mode])


def cast(given: Given, attributes: Attributes) -> Tensor:
    if attributes["to"] not in _TYPES:
        raise Unsupported(f"type {attributes['to']}")
    return present(given)[0].to(_TYPES[attributes["to"]])


def constant_of_shape(given: Given, attributes: Attributes) -> Tensor:
    value = attributes.get("value", torch.zeros(1))
    return torch.full(listed(given[0]), value.reshape(-1)[0].item(), dtype=value.dtype)


def shape(given: Given, attributes: Attributes) -> Tensor:
    x = present(given)[0]
    return torch.tensor(list(x.shape)[attributes.get("start", 0) : attributes.get("end")], dtype=torch.int64)


def expand(given: Given, attributes: Attributes) -> Tensor:
    x, wanted = present(given)
    sides = listed(wanted)
    behind = max(x.ndim, len(sides))
    pairs = zip([1] * (behind - x.ndim) + list(x.shape), [1] * (behind - len(sides)) + sides, strict=True)
    return x.expand([max(pair) if 0 not in pair else 0 for pair in pairs])


def ranged(given: Given, attributes: Attributes) -> Tensor:
    start, limit, step = present(given)
    return torch.arange(start.item(), limit.item(), step.item(), dtype=start.dtype)


def depth_to_space(given: Given, attributes: Attributes) -> Tensor:
    x, side = present(given)[0], attributes["blocksize"]
    if attributes.get("mode", "DCR") == "CRD":
        return functional.pixel_shuffle(x, side)
    batch, channels, height, width = x.shape
    x = x.reshape(batch, side, side, channels // side**2, height, width).permute(0, 3, 4, 1, 5, 2)
    return x.reshape(batch, channels // side**2, height * side, width * side)
