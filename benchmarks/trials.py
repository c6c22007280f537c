"""Trials of several engines, each in a process of its own, in turn inside every run, and their tables of ratios."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Trial = Callable[[str, str, Mapping[str, Path]], dict[str, Any]]  # case, engine, folders: `value` and `unit` at least
Outcomes = dict[str, dict[str, list[dict[str, Any] | None]]]  # by case and engine, one a run; None: it failed
_LIMIT_S = 600.0


@dataclass(frozen=True)
class Part:
    """A table: every engine in every case."""

    key: str
    title: str
    cases: tuple[str, ...]
    engines: tuple[str, ...]
    trial: Trial
    bases: tuple[str, ...] = ()  # engines that the others are compared with
    skips: frozenset[tuple[str, str]] = field(default_factory=frozenset)  # case, engine
    differences: bool = False  # say how much more than the base, not how many times

    def ratios(self, outcomes: Outcomes, case: str, engine: str, base: str) -> list[float]:
        """In each run in which both worked."""
        rows = outcomes.get(case, {})
        pairs = zip(rows.get(engine, []), rows.get(base, []), strict=False)
        values = [(a["value"], b["value"]) for a, b in pairs if a is not None and b is not None]
        return [a - b if self.differences else a / b for a, b in values]


def measure(part: Part, runs: int, folders: Mapping[str, Path], cases: str = "") -> Outcomes:
    """All trials of a part, or of the cases with this text; the order turns round from run to run."""
    outcomes: Outcomes = {case: {} for case in part.cases if cases in case}
    for run in range(runs):
        for case in outcomes:
            chosen = [engine for engine in part.engines if (case, engine) not in part.skips]
            for engine in chosen[:: -1 if run % 2 else 1]:
                outcome = child(part, case, engine, folders)
                outcomes[case].setdefault(engine, []).append(outcome)
                said = f"{outcome['value']:.3g} {outcome['unit']}" if outcome else "failed"
                print(f"  {part.key} {run + 1} {case}: {engine}: {said}", file=sys.stderr, flush=True)
    return outcomes


def child(part: Part, case: str, engine: str, folders: Mapping[str, Path]) -> dict[str, Any] | None:
    """One trial in a process of its own; None, with its last line on stderr, where it fails."""
    places = {name: str(path) for name, path in folders.items()}
    command = [sys.executable, sys.argv[0], "--child", json.dumps([part.key, case, engine, places])]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_LIMIT_S)
    except subprocess.TimeoutExpired:
        return None
    if done.returncode:
        print(done.stderr.strip().splitlines()[-1:], file=sys.stderr)
        return None
    return json.loads(done.stdout.strip().splitlines()[-1])  # type: ignore[no-any-return]


def number(value: float) -> str:
    """Three digits, thousands apart."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def table(part: Part, outcomes: Outcomes) -> None:
    """Medians with their range, and what they are beside the bases."""
    sign = "more than" if part.differences else "times"
    extra = sorted({key for rows in outcomes.values() for runs in rows.values() for run in runs if run for key in run}
                   - {"value", "unit"})  # fmt: skip
    print(f"\n{part.title}\n")
    print("| | | median | range | " + "".join(f"{sign} {base} | " for base in part.bases) + "".join(
        f"{name} | " for name in extra))  # fmt: skip
    print("|---|---|---|---|" + "---|" * (len(part.bases) + len(extra)))
    for case, rows in outcomes.items():
        for engine, runs in rows.items():
            good = [run for run in runs if run is not None]
            if not good:
                print(f"| {case} | {engine} | failed |")
                continue
            values = [run["value"] for run in good]
            cells = [f"{number(statistics.median(values))} {good[0]['unit']}"]
            cells.append(f"{number(min(values))} to {number(max(values))}")
            for base in part.bases:
                ratios = part.ratios(outcomes, case, engine, base)
                cells.append(f"{statistics.median(ratios):.2f}" if ratios else "")
            cells += [number(statistics.median(run[name] for run in good)) if name in good[0] else "" for name in extra]
            print(f"| {case} | {engine} | {' | '.join(cells)} |")


def options_of(text: str, parts: tuple[Part, ...]) -> argparse.Namespace:
    """The command line; a child runs its trial here and ends."""
    if sys.argv[1:2] == ["--child"]:
        key, case, engine, folders = json.loads(sys.argv[2])
        part = next(part for part in parts if part.key == key)
        print(json.dumps(part.trial(case, engine, {name: Path(path) for name, path in folders.items()})))
        raise SystemExit
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(p.key for p in parts)}; all if none")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--cases", default="", metavar="TEXT", help="only cases with this text: '6.22 MB, disk'")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single value there")
    parser.add_argument("--disk", type=Path, default=Path("build"), help="a folder on the disk to be measured")
    parser.add_argument("--memory", type=Path, default=Path("/dev/shm"), help="a folder in memory (tmpfs)")
    options = parser.parse_args()
    if unknown := set(options.parts) - {part.key for part in parts}:
        parser.error(f"unknown part {', '.join(sorted(unknown))}")
    if options.runs < 1:
        parser.error("needs a run")
    return options


def report(parts: tuple[Part, ...], options: argparse.Namespace, folders: Mapping[str, Path]) -> dict[str, Outcomes]:
    """Measures the chosen parts and prints a table each; all outcomes by part."""
    found, before = {}, os.getloadavg()[0]
    for part in parts:
        if not options.parts or part.key in options.parts:
            found[part.key] = measure(part, options.runs, folders, options.cases)
            table(part, found[part.key])
    print(f"\nload average before {before:.1f}, after {os.getloadavg()[0]:.1f}, on {os.cpu_count()} cores; "
          f"medians of {options.runs} runs")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))
    return found


def verdict(claim: str, ratios: list[float], holds: Callable[[float], bool]) -> str:
    """The line of one target."""
    if not ratios:
        return f"target {claim}: missed, not measured"
    middle = statistics.median(ratios)
    span = f"{middle:.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
    return f"target {claim}: {span}, {'met' if holds(middle) else 'missed'}"
