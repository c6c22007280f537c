"""The page of an evaluation of trajectories: numbers and pictures, in one file that opens offline."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence

import numpy as np

from foveate_calibration.poses import Poses
from foveate_nodes.odometry import trajectory_charts as charts
from foveate_nodes.odometry.trajectory_error import Evaluation, How, Statistics

_ALIGNED = {
    "se3": "laid on the truth by a turn and a shift (least squares over all pairs)",
    "sim3": "laid on the truth by a turn, a shift and a scale (least squares over all pairs)",
    "first": "laid on the truth by their first pose: what is off later is drift",
    "none": "taken as they are",
}
_LONG = ("mean", "median", "std", "max")  # which the page has in a table of its own
HEADS = (
    "estimate", "pairs", "covered", "path m", "ATE rmse m", "mean", "median", "std", "max", "ATE deg", "RPE rmse m",
    "RPE rmse deg", "drift %", "deg/m",
)  # fmt: skip


def row(found: Evaluation, align: str) -> list[str]:
    """Cells of the table, in the order of `HEADS`; with `scale` at the end where it was fitted."""
    ate = found.ate_m
    cells = [
        found.name, f"{found.pairs}/{found.poses}", f"{100 * found.covered:.1f} %", f"{found.path_m:.3f}",
        *(f"{value:.6f}" for value in (ate.rmse, ate.mean, ate.median, ate.std, ate.max)), f"{found.ate_deg.rmse:.3f}",
        "-" if found.rpe_m is None else f"{found.rpe_m.rmse:.6f}",
        "-" if found.rpe_deg is None else f"{found.rpe_deg.rmse:.4f}",
        "-" if found.drift_percent is None else f"{found.drift_percent:.2f}",
        "-" if found.drift_deg_m is None else f"{found.drift_deg_m:.2f}",
    ]  # fmt: skip
    return [*cells, f"{found.scale:.6f}"] if align == "sim3" else cells


def heads(align: str) -> list[str]:
    return [*HEADS, "scale"] if align == "sim3" else list(HEADS)


def words(how: How) -> str:
    """In what way the numbers were made."""
    kind = "each beginning where the one before ended" if how.consecutive else "from every pose"
    back = ", seen from their end" if how.backward else ""
    shift = f", {how.offset_s:g} s added to the estimates' times" if how.offset_s else ""
    return (
        f"Poses are paired within {how.tolerance_s:g} s{shift}; estimates are {_ALIGNED[how.align]}. "
        f"RPE is over steps of {how.delta:g} {how.unit}, {kind}{back}; drift over pieces of 10 to 50 % of the path."
    )


def notes(truth: Poses, found: Sequence[Evaluation]) -> list[str]:
    """What to know of the inputs, a line each."""
    mine = [f"{each.name}: {note}" for each in found for note in each.notes]
    return [f"{truth.name}: {truth.note}", *mine] if truth.note else mine


def page(truth: Poses, found: Sequence[Evaluation], how: How, failed: Mapping[str, str]) -> str:
    """The page's HTML; `failed`: why estimates that are not on it cannot be compared, by name."""
    title = f"Trajectories against {truth.name}"
    said = [*(f"{name}: {why}" for name, why in failed.items()), *notes(truth, found)]
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style><h1>{html.escape(title)}</h1>',
        f"<p>{html.escape(words(how))}</p>",
    ]
    if said:
        parts.append(f"<section><ul>{''.join(f'<li>{html.escape(note)}</li>' for note in said)}</ul></section>")
    short = [place for place, name in enumerate(heads(how.align)) if name not in _LONG]
    cells = [[line[place] for place in short] for line in (heads(how.align), *(row(f, how.align) for f in found))]
    parts += [_table(cells[0], cells[1:]), charts.legend([each.name for each in found])]
    parts += ['<div class="grid2">', *_pictures(truth, found, how), "</div>"]
    parts.append(_table(["quantity", "rmse", "mean", "median", "std", "min", "max", "count"], _statistics(found, how)))
    return "\n".join(parts) + "</html>\n"


def _pictures(truth: Poses, found: Sequence[Evaluation], how: How) -> list[str]:
    begin = min(float(each.time_s[0]) for each in found)
    end = max(float(each.time_s[-1]) for each in found)
    shown = truth.matrices[(truth.time_s >= begin) & (truth.time_s <= end), :3, 3]
    flat = int(np.argmin(shown.std(axis=0)))
    across, up = (axis for axis in range(3) if axis != flat)
    estimates = [each.aligned_m for each in found]
    drawn = [
        (charts.path_picture(shown, estimates, across, up), f"Along {'xyz'[flat]}, in which the true path "
         "is flattest. The ring is its beginning."),
        (charts.path_picture(shown, estimates, across, flat), f"Along {'xyz'[up]}."),
        (charts.error_picture([each.time_s for each in found], [each.error_m for each in found], begin),
         "Distance from the truth after the alignment, over time."),
    ]  # fmt: skip
    step = f"{how.delta:g} {how.unit}"
    if any(len(each.step_m) for each in found):
        drawn.append((charts.step_picture([each.step_m for each in found]),
                      f"Relative error of steps of {step}; the last bin has all beyond."))  # fmt: skip
    if any(each.pieces for each in found):
        drawn.append((charts.piece_picture([each.pieces for each in found]),
                      "Error over pieces of the path by their length: the median, the middle half, and 5 to 95 %. "
                      "Of odometry it grows with the length; of a map it does not."))  # fmt: skip
    return [f"<figure>{svg}<figcaption>{html.escape(caption)}</figcaption></figure>" for svg, caption in drawn]


def _statistics(found: Sequence[Evaluation], how: How) -> list[list[str]]:
    rows = []
    step = f"{how.delta:g} {how.unit}"
    for each in found:
        kinds: list[tuple[str, Statistics | None]] = [
            ("ATE, m", each.ate_m), ("ATE, deg", each.ate_deg),
            (f"RPE over {step}, m", each.rpe_m), (f"RPE over {step}, deg", each.rpe_deg),
        ]  # fmt: skip
        for name, s in kinds:
            if s is not None:
                values = (s.rmse, s.mean, s.median, s.std, s.min, s.max)
                rows.append([f"{each.name}: {name}", *(f"{value:.6f}" for value in values), str(s.count)])
    return rows


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{html.escape(text)}</th>" for text in names)
    body = "".join(f"<tr>{''.join(f'<td>{html.escape(text)}</td>' for text in cells)}</tr>" for cells in rows)
    return f'<div class="wide"><table><tr>{head}</tr>{body}</table></div>'


_STYLE = """
body{font:15px/1.45 system-ui,sans-serif;max-width:1040px;margin:24px auto;padding:0 16px;color:#1c2733}
h1{font-size:24px}section{padding:4px 16px;border-radius:6px;border-left:6px solid #d08a18;background:#fdf3e2}
.wide{overflow-x:auto;margin:20px 0}
.grid2{display:grid;grid-template-columns:repeat(auto-fill,minmax(400px,1fr));gap:16px}
figure{margin:0}figcaption{font-size:13px;color:#556270}svg{width:100%;height:auto}
svg text{font:11px system-ui,sans-serif;fill:#33404d}
.grid{stroke:#e3e8ed;fill:none}.frame{fill:none;stroke:#aab4be}
.key{display:inline-block;margin-right:18px}
.key i{display:inline-block;width:22px;height:4px;margin-right:6px;vertical-align:middle}
table{border-collapse:collapse;font-size:13px}td,th{text-align:right;padding:3px 12px 3px 0;
border-bottom:1px solid #e3e8ed;white-space:nowrap}td:first-child,th:first-child{text-align:left}
"""
