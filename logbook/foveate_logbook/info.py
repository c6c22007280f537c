"""`foveate log info`: what made a recording, what is in it, what is missing from it."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from foveate.errors import NotOurs
from foveate.quantity import format_duration
from foveate.recording import Recording
from foveate.summary import drops_text, table
from foveate.terminal import Progress
from foveate_logbook import topics
from foveate_logbook.reading import finish


def main(options: argparse.Namespace) -> int:
    """Print what a recording holds; of somebody else's log, its topics."""
    try:
        log = Recording(options.log)
    except NotOurs:
        return topics.main(options)
    with log:
        if options.check:
            progress = Progress(f"checking {options.log.name}", sys.stderr)
            for row in range(len(log.file)):
                log.file.chunk(row)
                progress((row + 1) / len(log.file))
        facts = _facts(log)
        if options.json:
            print(json.dumps(facts))
        else:
            _print(log, facts)
        return finish(log)


def _facts(log: Recording) -> dict[str, Any]:
    begin_ns, end_ns = log.time_range_ns
    seconds = max(end_ns - begin_ns, 1) / 1e9
    drops = {
        entry["wire"].partition(" -> ")[0]: entry["dropped"] for entry in log.end.get("ledger", [])
        if " -> record." in entry["wire"]
    }  # fmt: skip
    streams = [
        {"topic": s.topic, "schema": s.schema, "messages": s.messages, "rate_hz": round(s.messages / seconds, 2),
         "dropped": drops.get(s.name, {})} for s in log.streams()
    ]  # fmt: skip
    return {
        "file": str(log.path), "bytes": log.path.stat().st_size, "duration_s": (end_ns - begin_ns) / 1e9,
        "closed": log.file.closed, "notes": log.notes(), "lost": log.lost(), "seal": log.seal, "end": log.end,
        "streams": streams,
    }  # fmt: skip


def _print(log: Recording, facts: dict[str, Any]) -> None:
    seal, end = log.seal, log.end
    print(f"{log.path}  {facts['bytes'] / 1e6:.1f} MB, {format_duration(facts['duration_s'] * 1e9)}")
    rows = [("graph", f"{seal.get('graph', 'none')}  sha256 {seal.get('graph_sha256', '')[:12]}")]
    if log.wall_start_ns:
        rows.append(("recorded", f"{datetime.fromtimestamp(log.wall_start_ns / 1e9, UTC):%Y-%m-%d %H:%M:%S} UTC"))
    rows.append(("executor", str(seal.get("executor", ""))))
    rows.append(("versions", ", ".join(f"{name} {version}" for name, version in seal.get("versions", {}).items())))
    for uri, device in seal.get("devices", {}).items():
        what = " ".join(str(device.get(key, "")) for key in ("vendor", "model", "serial") if device.get(key))
        rows.append(("device", f"{uri}  {what}{' (simulated)' if device.get('simulated') else ''}"))
    for name, entry in seal.get("files", {}).items():
        digest = entry.get("sha256") or entry.get("listing_sha256", "")
        rows.append(("file", f"{Path(name).name}  sha256 {digest[:12]}"))
    changed = {n: p for n, p in seal.get("parameters", {}).items() if p["origin"] != "default"}
    rows.append(("parameters", f"{len(seal.get('parameters', {}))}, {len(changed)} not by default"))
    rows += [("set", f"{name} = {p['value']}") for name, p in changed.items() if p["origin"] == "--set"]
    if end:
        rows.append(("ended by", str(end.get("failure") or end.get("stopped_by", ""))))
        rows += [("why", text) for text in end.get("why", [])]
        rows += [("note", text) for text in end.get("notes", [])]
    for name, text in rows:
        print(f"  {name:<11} {text}")
    lines = [["stream", "schema", "messages", "rate Hz", "not recorded"]]
    for s in facts["streams"]:
        lines.append([s["topic"], s["schema"], str(s["messages"]), f"{s['rate_hz']:.1f}", drops_text(s["dropped"])])
    for line in table(lines, 2):
        print("  " + line)
