"""The plain summary at the end of a run, as text and as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from foveate.quantity import format_duration
from foveate.run import Result


def table(rows: list[list[str]], numbers_from: int = 1) -> list[str]:
    """Rows as aligned lines; columns from `numbers_from` on are set right."""
    if not rows:
        return []
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = [
            c.rjust(w) if i >= numbers_from else c.ljust(w) for i, (c, w) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("  ".join(cells).rstrip())
    return lines


def drops_text(dropped: dict[str, int]) -> str:
    """`12 replaced, 3 expired`, or `0`."""
    return ", ".join(f"{count} {reason}" for reason, count in sorted(dropped.items())) or "0"


def print_summary(result: Result, files: list[Path], lines: list[str]) -> None:
    """What happened, where messages went, what was written."""
    why = {"signal": "stopped by a signal", "duration": "ran its time", "end": "all sources ended"}
    ending = str(result.failure) if result.failure else why.get(result.stopped_by, result.stopped_by)
    print(f"\n{format_duration(result.duration_ns)}: {ending}")
    for problem in result.close_failures:
        print(f"  {problem}")
    print()
    rows = [["node", "steps", "rate Hz", "latency p50", "p99", "step p50", "p99"]]
    for name, station in result.stations.items():
        s = station.stats
        times = [h.quantile_ns(q) for h in (s.latency, s.step) for q in (0.5, 0.99)]
        rows.append([name, str(s.steps), f"{s.rate_hz:.1f}", *(format_duration(t) for t in times)])
    for line in table(rows):
        print("  " + line)
    print()
    rows = [["wire", "queue", "produced", "delivered", "dropped", "in flight"]]
    for wire in result.wires:
        lost = f" ({-wire.missing:+d} UNACCOUNTED)" if wire.missing else ""
        rows.append([wire.wire, wire.policy, str(wire.produced), str(wire.delivered),
                     drops_text(dict(wire.dropped)), f"{wire.in_flight}{lost}"])  # fmt: skip
    for line in table(rows, 2):
        print("  " + line)
    if result.balanced:
        print("  every message accounted for: produced = delivered + dropped + in flight on every wire")
    else:
        print("  LOST MESSAGES: the ledger does not balance on the wires marked above")
    for line in [*(line for budget in result.budgets for line in budget.lines()), *result.notes]:
        print(f"  {line}")
    if result.unrecorded:
        print(f"  THE RECORDING LACKS {result.unrecorded} MESSAGES: the disk was full or too slow")
    if lines:
        print()
        for line in lines:
            print("  " + line)
    if files:
        print()
        for path in files:
            print(f"  {path}  ({path.stat().st_size / 1e6:.1f} MB)")


def as_json(result: Result, files: list[Path], lines: list[str]) -> dict[str, Any]:
    """The summary for programs."""
    return {
        "duration_s": result.duration_ns / 1e9, "stopped_by": result.stopped_by,
        "failure": str(result.failure) if result.failure else None, "balanced": result.balanced,
        "unrecorded": result.unrecorded, "notes": result.notes,
        "budgets": [budget.as_json() for budget in result.budgets],
        "close_failures": [str(problem) for problem in result.close_failures],
        "nodes": {
            name: {
                "steps": s.stats.steps, "rate_hz": s.stats.rate_hz,
                "latency_p50_ms": s.stats.latency.quantile_ns(0.5) / 1e6,
                "latency_p99_ms": s.stats.latency.quantile_ns(0.99) / 1e6,
                "step_p50_ms": s.stats.step.quantile_ns(0.5) / 1e6,
                "lateness_p50_ms": s.stats.lateness.quantile_ns(0.5) / 1e6,
                "lateness_p99_ms": s.stats.lateness.quantile_ns(0.99) / 1e6,
            }
            for name, s in result.stations.items()
        },
        "wires": [
            {"wire": w.wire, "policy": w.policy, "produced": w.produced, "delivered": w.delivered,
             "dropped": dict(w.dropped), "in_flight": w.in_flight, "missing": w.missing} for w in result.wires
        ],
        "files": [str(path) for path in files], "report": lines,
    }  # fmt: skip
