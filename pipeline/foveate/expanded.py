"""The expanded graph as YAML: every parameter with its value, fit to be read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from foveate.graph import DeviceRef, DeviceSpec, Graph, NodeSpec
from foveate.paths import shortest
from foveate.queues import Policy


def to_text(graph: Graph) -> str:
    """A graph file that means the same as `graph`, without includes and references to `params:`."""
    import yaml

    tree: dict[str, Any] = {"foveate": 1}
    if graph.devices:
        tree["rig"] = {name: _device(spec) for name, spec in graph.devices.items()}
    tree["nodes"] = {name: _node(graph, spec) for name, spec in graph.nodes.items()}
    if graph.record is not None:
        streams = [{"from": f"{node}.{output}", "queue": str(policy)} for node, output, policy in graph.record.streams]
        tree["record"] = {"to": "logs", "streams": streams}
    return yaml.safe_dump(tree, sort_keys=False, width=110, allow_unicode=True)


def _device(spec: DeviceSpec) -> dict[str, Any]:
    options = {key: _plain(value) for key, value in spec.options.items() if key != "address"}
    return {"uri": spec.uri, **options}


def _node(graph: Graph, spec: NodeSpec) -> dict[str, Any]:
    out: dict[str, Any] = {"use": spec.use}
    devices = {k: _plain(v) for k, v in spec.parameters.items() if isinstance(v, DeviceRef)}
    out.update(devices)
    inputs = {}
    for wire in graph.incoming(spec.name):
        source = f"/{wire.source}.{wire.output}" if "/" in spec.name else f"{wire.source}.{wire.output}"
        inputs[wire.input] = source if wire.policy == Policy() else _long(source, wire.policy)
    if inputs:
        out["inputs"] = inputs
    params = {k: _plain(v) for k, v in spec.parameters.items() if k not in devices}
    if params:
        out["params"] = params
    if spec.cost_ns is not None:
        out["cost"] = f"{spec.cost_ns}ns"
    return out


def _long(source: str, policy: Policy) -> dict[str, Any]:
    age = {} if policy.max_age_ns is None else {"max_age": f"{policy.max_age_ns}ns"}
    return {"from": source, "queue": str(policy), **age}


def _plain(value: Any) -> Any:
    """A parameter's value as YAML can hold it."""
    if isinstance(value, DeviceRef):
        return f"${{rig.{value.name}}}"
    if isinstance(value, Path):
        return shortest(value)
    return json.loads(json.dumps(value, default=str))
