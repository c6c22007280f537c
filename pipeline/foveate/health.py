"""A picture of a run at one moment: what every node does, what waits where, what was dropped."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from foveate.station import Station


def snapshot(made: Mapping[str, Station], now_ns: int) -> dict[str, Any]:
    """States, queues and ledgers; read without locks, so neighbouring numbers may be one message apart."""
    nodes = {}
    for name, station in made.items():
        stats = station.stats
        nodes[name] = {
            "state": stats.state, "steps": stats.steps, "source": station.is_source,
            "begun_ns": stats.begun_ns, "ended_ns": stats.last_ns, "blocked_by": stats.blocked_by,
            "problem": stats.problem,
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
