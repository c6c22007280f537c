"""A picture of a run at one moment: what every node does, what waits where, what was dropped."""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from foveate.quantity import format_duration
from foveate.station import Station

_STATUS_S = 0.5


def snapshot(made: Mapping[str, Station], now_ns: int) -> dict[str, Any]:
    """States, queues and ledgers; read without locks, so neighbouring numbers may be one message apart."""
    nodes = {}
    for name, station in made.items():
        stats = station.stats
        nodes[name] = {
            "state": stats.state, "steps": stats.steps, "source": station.is_source,
            "begun_ns": stats.begun_ns, "ended_ns": stats.last_ns, "blocked_by": stats.blocked_by,
            "problem": stats.problem, "needs": station.needs,
        }  # fmt: skip
    wires = []
    for station in made.values():
        for inlet in station.inlets:
            ledger = inlet.queue.ledger
            wires.append({
                "wire": str(inlet.wire), "from": inlet.wire.source, "to": inlet.wire.target,
                "queue": str(inlet.queue.policy), "waiting": len(inlet.queue), "trigger": inlet.port.required,
                "produced": ledger.produced, "delivered": ledger.delivered, "dropped": dict(ledger.dropped),
            })  # fmt: skip
    return {"t_ns": now_ns, "nodes": nodes, "wires": wires}


def explain(picture: Mapping[str, Any], node: str) -> list[str]:
    """What a node waits for, and who keeps it waiting, as far back as it goes; a line each."""
    lines: list[str] = []
    seen: list[str] = []
    name: str | None = node
    while name is not None:
        if name in seen:
            lines.append(f"{name} again: {' waits for '.join([*seen[seen.index(name) :], name])}: a circle")
            break
        seen.append(name)
        line, name = _explain(picture, name)
        lines.append(line)
    return lines


def _explain(picture: Mapping[str, Any], name: str) -> tuple[str, str | None]:
    """A line on one node, and the node that it depends on."""
    node, now = picture["nodes"][name], picture["t_ns"]
    state, problem = node["state"], f" ({node['problem']})" if node["problem"] else ""
    if state == "blocked" and node["blocked_by"]:
        target = node["blocked_by"].rpartition(" -> ")[2].partition(".")[0]  # a recorded stream has a dot too
        return f"{name} has a message that {node['blocked_by']} has no room for, because of {target}{problem}", target
    if state == "working":
        since = format_duration(max(now - node["begun_ns"], 0))
        return f"{name} is in its step {node['steps'] + 1} since {since}{problem}", None
    if state != "waiting":
        return f"{name} is {state} after {node['steps']} steps{problem}", None
    if node["source"]:
        return f"{name} waits for its device or its time, after {node['steps']} messages{problem}", None
    wires = [w for w in picture["wires"] if w["to"] == name and w["trigger"]]
    empty = [w for w in wires if not w["waiting"]]
    needs = node.get("needs", "all")
    if needs == "set" and not empty:
        return f"{name} waits for messages that belong together: one waits on every input{problem}", None
    if needs == "any" and len(empty) < len(wires):
        empty = []
    if not empty:
        return f"{name} is about to run: all its inputs are there{problem}", None
    if needs == "any":
        return f"{name} waits for a message of any recorded stream{problem}", None
    wire = min(empty, key=lambda w: w["produced"])
    came = f"{wire['produced']} have come" if wire["produced"] else "none has ever come"
    rest = f" since {format_duration(max(now - node['ended_ns'], 0))}" if node["steps"] else ""
    return f"{name} waits{rest} for a message on {wire['wire']} ({came}){problem}", wire["from"]


class StatusFile:
    """The picture of a live run in a file that other processes of the same user can read, twice a second."""

    def __init__(self, made: Mapping[str, Station], now: Callable[[], int], graph: str) -> None:
        self._made = made
        self._now = now
        self._graph = graph
        self.path = status_folder() / f"{os.getpid()}.json"
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="status", daemon=True)

    def __enter__(self) -> StatusFile:
        status_folder().mkdir(mode=0o700, exist_ok=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self.path.unlink(missing_ok=True)

    def _loop(self) -> None:
        part = self.path.with_suffix(".part")
        while not self._done.wait(_STATUS_S):
            picture = {"pid": os.getpid(), "graph": self._graph, **snapshot(self._made, self._now())}
            try:
                part.write_text(json.dumps(picture), encoding="utf-8")
                part.replace(self.path)  # a reader sees the old one or the new one, never half of it
            except OSError:  # a full disk: the run matters more
                continue


def status_folder() -> Path:
    """Where live runs of this user leave their status."""
    return Path(tempfile.gettempdir()) / f"foveate-{os.getuid()}"
