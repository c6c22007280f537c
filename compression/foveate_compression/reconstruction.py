"""Block by block, what is learnt of a compression so that each block gives what the whole network's gives: rounding,
codewords, ratios, scales, biases (BRECQ, arXiv 2102.05426; QDrop, arXiv 2203.05740; extra compress)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from foveate_compression.network import Block
from foveate_compression.quantizers import Uniform
from foveate_compression.weights import Candidates, Coded, Form, Integers, Sparse
from foveate_compression.work import Gain, Samples, Work

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Schedule:
    """How long, and how fast each kind of parameter learns (Adam)."""

    iterations: int = 300
    batch: int = 32
    rounding_rate: float = 1e-2
    scale_rate: float = 4e-5
    codeword_rate: float = 1e-1  # in levels
    mixing_rate: float = 5e-2
    bias_rate: float = 1e-3
    weight_rate: float = 3e-2  # of sparse weights, in their root mean squares
    rounding: float = 0.01  # what undecided rounding costs
    ratios: float = 1.0  # what undecided ratios cost, of the block's error at the beginning
    warm: float = 0.2  # share of the iterations before rounding is pushed
    drop: float = 0.5  # of activations and of the block's inputs left whole (QDrop)
    seed: int = 0


def reconstructed(work: Work, schedule: Schedule, progress: Progress) -> list[Gain]:
    """Learn all blocks in their order; a block that came out worse than before is put back."""
    blocks = [block for block in work.network.blocks() if _forms(work, block)]
    gains = []
    for i, block in enumerate(blocks):
        gains.append(_block(work, block, schedule))
        progress("blocks", i + 1, len(blocks))
    return gains


def _block(work: Work, block: Block, schedule: Schedule) -> Gain:
    whole = _together(work, [*block.inputs, block.output], whole=True)
    now = _together(work, list(block.inputs), whole=False)
    target = whole.pop(block.output)
    _mode(work, block, False)
    before = error_of(work, block, now, target)
    for form in _forms(work, block):
        if isinstance(form, Integers) and form.choice is None:
            form.learn_rounding()
    learnt = [parameter for group in _learnt(work, block, schedule) for parameter in group["params"]]
    kept = [(parameter, parameter.detach().clone()) for parameter in learnt]
    _learn(work, block, schedule, whole, now, target, before)
    _mode(work, block, False)
    after = error_of(work, block, now, target)
    if not after <= before:
        with torch.no_grad():
            for parameter, value in kept:
                parameter.copy_(value)
        after = error_of(work, block, now, target)
    return Gain(block.name, before, after)


def _learn(
    work: Work, block: Block, schedule: Schedule, whole: Samples, now: Samples, target: Tensor, before: float
) -> None:  # fmt: skip
    optimizer = torch.optim.Adam(list(_learnt(work, block, schedule)))
    rates = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, schedule.iterations)
    generator = torch.Generator().manual_seed(schedule.seed)
    torch.manual_seed(schedule.seed)
    _mode(work, block, True, schedule.drop)
    size = target.square().mean().clamp(min=1e-12)
    channels = target[0].numel() / max(target[0, 0].numel(), 1) if target.ndim > 2 else target.shape[1]
    for i in range(schedule.iterations):
        part = torch.randperm(len(target), generator=generator)[: schedule.batch]
        given = {name: _mixed(whole[name][part], now[name][part], schedule.drop) for name in block.inputs}
        found = work.run(given, [block.output], block=block)[block.output]
        error = (found - target[part]).square().mean()
        loss = error * channels
        share = i / schedule.iterations
        if share >= schedule.warm:
            beta = 20 - 18 * (share - schedule.warm) / (1 - schedule.warm)
            for form in _forms(work, block):
                if isinstance(form, Integers) and form.choice is not None:
                    loss = loss + schedule.rounding * (1 - (2 * form.up() - 1).abs().pow(beta)).sum() * _per(form)
                elif isinstance(form, Candidates):
                    loss = loss + schedule.ratios * share * (before + 1e-6) * size * channels * form.undecided()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        rates.step()
        for form in _forms(work, block):
            if isinstance(form, Candidates):
                form.choose()


def _per(form: Integers) -> float:
    """So that large layers are not pushed more than small ones: per weight of 1,000."""
    return 1000.0 / max(form.exact.numel(), 1000)


def _mixed(whole: Tensor, now: Tensor, drop: float) -> Tensor:
    """Inputs of which a share is as the whole network has it."""
    return torch.where(torch.rand_like(whole) < drop, whole, now) if drop else now


@torch.no_grad()
def error_of(work: Work, block: Block, given: Samples, target: Tensor, batch: int = 64) -> float:
    """Mean squared error, relative to the target's mean square."""
    total = 0.0
    for begin in range(0, len(target), batch):
        part = {name: value[begin : begin + batch] for name, value in given.items()}
        found = work.run(part, [block.output], block=block)[block.output]
        total += float((found - target[begin : begin + batch]).square().sum())
    return total / max(float(target.square().sum()), 1e-12)


def _together(work: Work, names: list[str], *, whole: bool) -> Samples:
    parts = list(work.seen(names, whole=whole))
    return {name: torch.cat([part[name] for part in parts]) for name in names}


def _forms(work: Work, block: Block) -> list[Form]:
    return [work.forms[layer.weight] for layer in block.layers if layer.weight in work.forms]


def _levels(work: Work, block: Block) -> list[nn.Module]:
    """Of tensors that lie within the block."""
    inside = {layer.input for layer in block.layers} - set(block.inputs)
    return [level for name, level in work.levels.items() if name in inside or name == block.output]


def _mode(work: Work, block: Block, training: bool, drop: float = 0.0) -> None:
    for module in (*_forms(work, block), *_levels(work, block)):
        module.train(training)
        if isinstance(module, Uniform):
            module.drop = drop


def _learnt(work: Work, block: Block, schedule: Schedule) -> Iterator[dict[str, Any]]:
    """Parameter groups of what there is to learn."""
    for form in _forms(work, block):
        if isinstance(form, Integers) and form.choice is not None:
            yield {"params": [form.choice], "lr": schedule.rounding_rate}
        if isinstance(form, Candidates):
            yield {"params": [form.mixing], "lr": schedule.mixing_rate}
        if isinstance(form, Coded) and not form.shared:
            yield {"params": [form.book.codewords], "lr": schedule.codeword_rate}
        if isinstance(form, Sparse):
            yield {"params": [form.weight], "lr": schedule.weight_rate * form.size()}
    for level in _levels(work, block):
        if isinstance(level, Uniform) and schedule.scale_rate:
            yield {"params": [level.scale], "lr": schedule.scale_rate}
    for layer in block.layers:
        if layer.bias is not None and layer.weight in work.forms and schedule.bias_rate:
            if layer.bias not in work.constants or not work.constants[layer.bias].requires_grad:
                work.constants[layer.bias] = nn.Parameter(work.constant(layer.bias).detach().clone())
            yield {"params": [work.constants[layer.bias]], "lr": schedule.bias_rate}
