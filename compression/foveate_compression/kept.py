"""A compression between two steps, as plain arrays: what an interrupted one goes on from (extra compress)."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from foveate.errors import ModelError
from foveate_compression.network import Layer
from foveate_compression.quantizers import Dynamic, Powers, Uniform
from foveate_compression.spec import Spec
from foveate_compression.vectors import Cut
from foveate_compression.weights import Book, Coded, Form, Integers, Sparse
from foveate_compression.work import Gain, Work


def keep(works: Sequence[Work], path: Path, said: str, steps: int) -> None:
    """Write what `steps` steps of the recipe `said` have made of all works: in one file, so that none is behind."""
    fresh = path.with_suffix(".new")
    torch.save({"said": said, "steps": steps, "works": [_of_work(work) for work in works]}, fresh)
    fresh.replace(path)


def taken_up(works: Sequence[Work], path: Path, said: str) -> int:
    """Bring fresh works to where they were kept; the number of steps that are done. 0 where nothing is kept, or that of
    another recipe or network. Raises ModelError for a damaged file."""
    if not path.exists():
        return 0
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True)
        if state["said"] != said:
            return 0
        for work, each in zip(works, state["works"], strict=True):
            _fill(work, each)
        return int(state["steps"])
    except Exception as error:  # torch raises whatever a broken file leads it to
        text = f"damaged ({type(error).__name__}); remove it to begin anew"
        raise ModelError(str(path), "go on from it", text) from None


def _of_work(work: Work) -> dict[str, Any]:
    first: dict[int, str] = {}  # of each level, which two tensors may share
    same = {name: first.setdefault(id(level), name) for name, level in work.levels.items()}
    return {
        "biased": list(work.network.biased),
        "constants": {name: value.detach() for name, value in work.constants.items()},
        "forms": {name: _of_form(form) for name, form in work.forms.items()},
        "levels": {name: _of_level(work.levels[name]) for name in first.values()}, "same": same,
        "gains": [dataclasses.asdict(gain) for gain in work.gains],
    }  # fmt: skip


def _fill(work: Work, state: dict[str, Any]) -> None:
    for name in state["biased"]:
        work.network.with_bias(work.network.layer(name))
    of_weight = {layer.weight: layer for layer in work.network.layers}
    work.constants |= state["constants"]
    work.forms |= {name: _form(of_weight[name], work, kept) for name, kept in state["forms"].items()}
    levels = {name: _level(kept) for name, kept in state["levels"].items()}
    work.levels |= {name: levels[other] for name, other in state["same"].items()}
    work.gains += [Gain(**gain) for gain in state["gains"]]


def _of_form(form: Form) -> dict[str, Any]:
    kind = type(form).__name__
    tensors = {name: value.detach().clone() for name, value in form.state_dict().items()}
    said: dict[str, Any] = {}
    if isinstance(form, Integers):
        said = {"spec": dataclasses.asdict(form.spec)}
    elif isinstance(form, Coded):
        said = {"cut": dataclasses.asdict(form.cut), "reach": form.book.reach, "shared": form.shared}
    elif not isinstance(form, Sparse):
        raise TypeError(f"a {kind} is not kept between steps")
    return {"kind": kind, "tensors": tensors, **said}


def _form(layer: Layer, work: Work, kept: dict[str, Any]) -> Form:
    weight, tensors = work.network.weight(layer), kept["tensors"]
    if kept["kind"] == "Integers":
        made = Integers(layer, weight, Spec(**kept["spec"]), tensors["scale"], tensors["scale"])
        made.scale, made.exact = tensors["scale"], tensors["exact"]
        if "choice" in tensors:
            made.choice = nn.Parameter(tensors["choice"])
        return made
    if kept["kind"] == "Sparse":
        sparse = Sparse(layer, weight, tensors["mask"])
        sparse.load_state_dict(tensors)
        return sparse
    book = Book(tensors["book.codewords"], kept["reach"])
    mask: Tensor | None = tensors.get("mask")
    return Coded(layer, weight, Cut(**kept["cut"]), book, tensors["codes"], tensors["scale"], mask, kept["shared"])


def _of_level(level: nn.Module) -> dict[str, Any]:
    tensors = {name: value.detach().clone() for name, value in level.state_dict().items()}
    if isinstance(level, Uniform):
        return {"kind": "Uniform", "tensors": tensors, "spec": dataclasses.asdict(level.spec)}
    if isinstance(level, Dynamic):
        return {"kind": "Dynamic", "tensors": tensors}
    assert isinstance(level, Powers)
    return {"kind": "Powers", "tensors": tensors, "bits": level.bits, "tau": level.tau}


def _level(kept: dict[str, Any]) -> nn.Module:
    tensors = kept["tensors"]
    made: nn.Module
    if kept["kind"] == "Uniform":
        made = Uniform(Spec(**kept["spec"]), torch.zeros(()), torch.ones(()))
    elif kept["kind"] == "Dynamic":
        made = Dynamic()
    else:
        made = Powers(kept["bits"], kept["tau"], 1.0)
    made.load_state_dict(tensors)
    return made.eval()
