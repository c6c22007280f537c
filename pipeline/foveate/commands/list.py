"""`foveate list`."""

from __future__ import annotations

import argparse
import json
import textwrap
from typing import Any

from foveate import catalog, paths, yaml_source
from foveate.errors import FoveateError, GraphError
from foveate.node import Parameter, parameters_of, schema_of


def main(options: argparse.Namespace) -> int:
    """Print what is installed."""
    parts = {"nodes": _nodes, "drivers": _drivers, "graphs": lambda: _graphs(options), "reports": _reports}
    chosen = {name: make() for name, make in parts.items() if options.what in (None, name)}
    if options.json:
        print(json.dumps(chosen, indent=2))
        return 0
    for name, items in chosen.items():
        print(f"{name}:")
        for item in items:
            _print(item)
    return 0


def _summary(thing: Any) -> str:
    doc = (thing.__doc__ or "").strip().split("\n\n")[0]
    return " ".join(doc.split())


def _parameter(parameter: Parameter) -> dict[str, Any]:
    return {
        "name": parameter.name, "type": parameter.type_text(), "unit": parameter.unit,
        "bounds": parameter.bounds_text(), "required": parameter.required,
        "default": None if parameter.required or parameter.default is None else str(parameter.default),
        "device": parameter.device.family if parameter.device else "",
    }  # fmt: skip


def _nodes() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in catalog.listing("nodes"):
        try:
            kind = catalog.load("nodes", name)
            schema = schema_of(kind)
        except FoveateError as error:
            found.append({"name": name, "summary": f"cannot be used: {error}"})
            continue
        inputs = [{"name": p.name, "type": p.type.__name__, "required": p.required} for p in schema.inputs.values()]
        found.append({
            "name": name, "summary": _summary(kind), "inputs": inputs,
            "outputs": [{"name": p.name, "type": p.type.__name__} for p in schema.outputs.values()],
            "parameters": [_parameter(p) for p in schema.parameters.values()],
        })  # fmt: skip
    return found


def _drivers() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for name in catalog.listing("drivers"):
        family, scheme = name.split(".", 1)
        label = f"{family} {scheme}:" if family != "backend" else f"backend '{scheme}'"
        try:
            kind = catalog.load("drivers", name)
            options = [_parameter(p) for p in parameters_of(kind).values() if p.name != "address"]
            found.append({"name": label, "summary": _summary(kind), "parameters": options})
        except FoveateError as error:
            found.append({"name": label, "summary": f"cannot be used: {error}"})
    return found


def _graphs(options: argparse.Namespace) -> list[dict[str, Any]]:
    found = []
    for name, path in paths.known_graphs(options.graphs).items():
        try:
            root = yaml_source.read_file(path).plain()
            summary = root.get("description", "") if isinstance(root, dict) else ""
            params = root.get("params", {}) if isinstance(root, dict) else {}
        except GraphError as error:
            summary, params = str(error), {}
        bare = dict.fromkeys(("type", "unit", "bounds", "device"), "")
        rows = [{"name": k, **bare, "required": False, "default": str(v)} for k, v in (params or {}).items()]
        found.append({"name": name, "summary": str(summary or ""), "file": str(path), "parameters": rows})
    return found


def _reports() -> list[dict[str, Any]]:
    def about(name: str) -> str:
        try:
            return _summary(catalog.load("reports", name))
        except FoveateError as error:
            return f"cannot be used: {error}"

    return [{"name": name, "summary": about(name)} for name in catalog.listing("reports")]


def _print(item: dict[str, Any]) -> None:
    print(f"  {item['name']}")
    for line in textwrap.wrap(item["summary"], 96):
        print(f"      {line}")
    for port in item.get("inputs", []):
        print(f"      in   {port['name']}: {port['type']}{'' if port['required'] else '  (newest, may be absent)'}")
    for port in item.get("outputs", []):
        print(f"      out  {port['name']}: {port['type']}")
    for p in item.get("parameters", []):
        kind = f"a {p['device']} of the rig" if p["device"] else p["type"]
        notes = ", ".join(part for part in (p["unit"], p["bounds"]) if part)
        default = "required" if p["required"] else f"default {p['default']}"
        print(f"      {p['name']}: {kind}{f' [{notes}]' if notes else ''}  {default}")
