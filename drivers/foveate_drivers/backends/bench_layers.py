"""Tables of `foveate bench --layers`: what each layer is bound by, and which compression would pay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from foveate_drivers.backends.layers import Layer
from foveate_drivers.backends.onnx_costs import Cost
from foveate_drivers.backends.roofline import Prediction, Roofline

_SHOWN = 30  # layers of a table
_WORTH = 1.05  # a gain below this is none: measurements differ by as much


@dataclass(frozen=True, slots=True)
class Judged:
    """A layer, how long it took and how long it should."""

    layer: Layer
    prediction: Prediction

    @property
    def ratio(self) -> float:
        """Predicted by measured."""
        return self.prediction.us / max(self.layer.measured_us, 1e-3)

    @property
    def near(self) -> bool:
        """Within a factor of two."""
        return 0.5 <= self.ratio <= 2.0


def judge(layers: Sequence[Layer], roofline: Roofline) -> list[Judged]:
    return [Judged(layer, roofline.predict(layer.cost)) for layer in layers]


def share_near(judged: Sequence[Judged]) -> tuple[float, float]:
    """Of the time, and of the layers, which is predicted within a factor of two."""
    total = sum(j.layer.measured_us for j in judged)
    near = [j for j in judged if j.near]
    return sum(j.layer.measured_us for j in near) / max(total, 1e-9), len(near) / max(len(judged), 1)


def table(judged: Sequence[Judged]) -> list[str]:
    """Lines: the slowest layers first, the rest in one line, and how good the prediction is."""
    ranked = sorted(judged, key=lambda j: -j.layer.measured_us)
    lines = [f"{'layer':<38} {'operator':<18} {'Mop':>9} {'kB':>8}  {'bound by':<9}"
             f"{'predicted us':>13} {'measured us':>12} {'ratio':>6}"]  # fmt: skip
    for j in ranked[:_SHOWN]:
        cost = j.layer.cost
        name = j.layer.origin or "(put in by onnxruntime)"
        lines.append(
            f"{_cut(name, 38):<38} {_cut(cost.operator, 18):<18} {cost.operations / 1e6:9.2f} {cost.bytes / 1e3:8.1f}  "
            f"{j.prediction.bound:<9}{j.prediction.us:13.1f} {j.layer.measured_us:12.1f} {j.ratio:6.2f}"
        )
    rest = ranked[_SHOWN:]
    if rest:
        predicted, measured = _sums(rest)
        lines.append(
            f"{f'{len(rest)} more':<86}{predicted:13.1f} {measured:12.1f} {predicted / max(measured, 1e-3):6.2f}"
        )
    predicted, measured = _sums(judged)
    lines.append(f"{'all':<86}{predicted:13.1f} {measured:12.1f} {predicted / max(measured, 1e-3):6.2f}")
    of_time, of_layers = share_near(judged)
    bound = {kind: sum(j.layer.measured_us for j in judged if j.prediction.bound == kind) / max(measured, 1e-3)
             for kind in ("compute", "memory", "overhead")}  # fmt: skip
    lines.append(f"predicted within a factor of 2: {of_time:.0%} of the time, {of_layers:.0%} of {len(judged)} layers; "
                 f"bound by {', '.join(f'{kind} {part:.0%}' for kind, part in bound.items())}")  # fmt: skip
    return lines


def _sums(judged: Sequence[Judged]) -> tuple[float, float]:
    return sum(j.prediction.us for j in judged), sum(j.layer.measured_us for j in judged)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else "..." + text[3 - width :]


def what_would_pay(judged: Sequence[Judged], roofline: Roofline) -> list[str]:
    """A line for each way to make a model smaller: what it is predicted to gain, or why nothing."""
    costs = [j.layer.cost for j in judged]
    weights = sum(cost.weight_bytes for cost in costs)
    return [_eight_bits(judged, roofline), _codebooks(costs, weights), _zeros(judged)]


def _eight_bits(judged: Sequence[Judged], roofline: Roofline) -> str:
    heavy = [j for j in judged if j.layer.cost.computes and not j.layer.cost.family.startswith("deconv")]
    whole = [j for j in heavy if not j.layer.cost.integer]
    if not heavy:
        return "8 bits      no gain: it has no convolutions or products"
    if not whole:
        return f"8 bits      no gain: its {len(heavy)} layers that compute have them already"
    total = sum(j.prediction.us for j in judged)
    saved = [(j, j.prediction.us - roofline.predict(in_eight_bits(j.layer.cost)).us) for j in whole]
    gain = total / max(total - sum(max(us, 0.0) for _, us in saved), 1e-3)
    slower = sum(us < 0 for _, us in saved)
    if gain < _WORTH:
        return f"8 bits      no gain worth it: {gain:.2f}x predicted for {len(whole)} layers; the file becomes smaller"
    best = max(saved, key=lambda pair: pair[1])[0]
    name = best.layer.origin or best.layer.cost.name
    leave = f"; {slower} of them are predicted to be slower: leave these" if slower else ""
    return f"8 bits      {gain:.2f}x predicted for {len(whole)} layers, most in {name}{leave}"


def in_eight_bits(cost: Cost) -> Cost:
    """The same layer of integers, where it is of floating point."""
    if cost.integer or not cost.computes:
        return cost
    family = "q" + cost.family.split()[0]
    return replace(
        cost, family=family, weight_bytes=cost.weight_bytes // 4, moved_bytes=cost.moved_bytes // 4, integer=True
    )


def _codebooks(costs: Sequence[Cost], weights: int) -> str:
    compact = sum(c.weight_bytes / (4 if c.integer else 16) for c in costs if c.computes)
    others = sum(c.weight_bytes for c in costs if not c.computes)
    return (f"codebooks   no faster: they are unfolded when the model is loaded; weights in the file "
            f"{weights / 1e6:.2f} -> about {(compact + others) / 1e6:.2f} MB")  # fmt: skip


def _zeros(judged: Sequence[Judged]) -> str:
    total = sum(j.prediction.us for j in judged)
    bound = sum(j.prediction.us for j in judged if j.layer.cost.computes and j.prediction.bound == "compute")
    left = total - bound * (1 - 0.75**2)
    return (f"zeros       no faster: kernels multiply them like any number; whole channels gain: "
            f"a quarter of all taken out, about {total / max(left, 1e-3):.2f}x")  # fmt: skip


def plain(judged: Sequence[Judged]) -> list[dict[str, Any]]:
    """For JSON."""
    return [
        {
            "layer": j.layer.origin, "runs_as": j.layer.cost.name, "operator": j.layer.cost.operator,
            "family": j.layer.cost.family, "operations": j.layer.cost.operations, "bytes": j.layer.cost.bytes,
            "weight_bytes": j.layer.cost.weight_bytes, "bound_by": j.prediction.bound,
            "predicted_us": round(j.prediction.us, 2), "measured_us": round(j.layer.measured_us, 2),
        }
        for j in judged
    ]  # fmt: skip
