"""The expanded graph as YAML: every parameter with its value, fit to be read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from foveate.graph import DeviceRef, DeviceSpec, Graph, NodeSpec, Record, SyncSpec
from foveate.paths import shortest
from foveate.quantity import exact_duration
from foveate.queues import Policy
from foveate.supervision import FaultPolicy
from foveate.yaml_source import plain_scalar


def to_text(graph: Graph) -> str:
    """A graph file that means the same as `graph`, without includes and references to `params:`."""
    tree: dict[str, Any] = {"foveate": 1}
    if graph.devices:
        tree["rig"] = {name: _device(spec) for name, spec in graph.devices.items()}
    tree["nodes"] = {name: _node(graph, spec) for name, spec in graph.nodes.items()}
    if graph.record is not None:
        streams = [_stream(graph.record, *stream) for stream in graph.record.streams]
        tree["record"] = {"to": "logs", "streams": streams, **_ring(graph.record)}
    if graph.budgets:
        tree["budgets"] = [
            {
                "from": b.source,
                "to": b.target,
                "max" if b.quantile == 1 else f"p{100 * b.quantile:.6g}": exact_duration(b.limit_ns),
            }
            for b in graph.budgets
        ]
    return dump(tree)


def dump(tree: dict[str, Any]) -> str:
    """YAML that our reader reads as `tree`: PyYAML leaves `1e3` without quotes, and a next-line character raw."""
    import yaml

    class Dumper(yaml.SafeDumper):  # type: ignore[misc]
        pass

    def text_node(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        plain = plain_scalar(text) == text and "\x85" not in text
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, None if plain else '"')

    Dumper.add_representer(str, text_node)
    return str(yaml.dump(tree, Dumper=Dumper, sort_keys=False, width=110, allow_unicode=True))


def _ring(record: Record) -> dict[str, Any]:
    ring = record.ring
    if ring is None:
        return {}
    then, memory = "dump" if ring.dump_on_fault else "keep", f"{ring.most_bytes / 1000:.3f}kB"
    return {"ring": exact_duration(ring.keep_ns), "on_fault": then, "memory": memory}


def _stream(record: Record, node: str, output: str, policy: Policy) -> dict[str, Any]:
    name = f"{node}.{output}"
    tolerance = {"tolerance": record.tolerances[name]} if name in record.tolerances else {}
    return {"from": name, "queue": str(policy), **tolerance}


def _device(spec: DeviceSpec) -> dict[str, Any]:
    options = {key: plain(value) for key, value in spec.options.items() if key != "address"}
    return {"uri": spec.uri, **options}


def _node(graph: Graph, spec: NodeSpec) -> dict[str, Any]:
    out: dict[str, Any] = {"use": spec.use}
    devices = {k: plain(v) for k, v in spec.parameters.items() if isinstance(v, DeviceRef)}
    out.update(devices)
    inputs = {}
    default = Policy() if spec.sync is None else SyncSpec.QUEUE
    for wire in graph.incoming(spec.name):
        source = f"/{wire.source}.{wire.output}" if "/" in spec.name else f"{wire.source}.{wire.output}"
        inputs[wire.input] = source if wire.policy == default else _long(source, wire.policy)
    if inputs:
        out["inputs"] = inputs
    params = {k: plain(v) for k, v in spec.parameters.items() if k not in devices}
    if params:
        out["params"] = params
    if spec.cost_ns is not None:
        out["cost"] = exact_duration(spec.cost_ns)
    if spec.on_fault != FaultPolicy():
        p = spec.on_fault
        spans = {"within": exact_duration(p.within_ns), "backoff": exact_duration(p.backoff_ns)}
        out["on_fault"] = {"do": p.action, "times": p.times, **spans}
    if spec.sync is not None:
        s = spec.sync
        times = {"window": s.window_ns, "deadline": s.deadline_ns, "stale": s.stale_ns}
        written = {key: exact_duration(value) for key, value in times.items() if value is not None}
        out["sync"] = {"reference": s.reference, **written, "match": dict(s.methods)}
    return out


def _long(source: str, policy: Policy) -> dict[str, Any]:
    age = {} if policy.max_age_ns is None else {"max_age": exact_duration(policy.max_age_ns)}
    return {"from": source, "queue": str(policy), **age}


def plain(value: Any) -> Any:
    """A parameter's value as YAML can hold it."""
    if isinstance(value, DeviceRef):
        return f"${{rig.{value.name}}}"
    return json.loads(json.dumps(value, default=lambda v: shortest(v) if isinstance(v, Path) else str(v)))
