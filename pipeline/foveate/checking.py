"""Holds a graph's description against the code: every fault with its place, all at once."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from foveate import catalog, cycles
from foveate.budgets import path_wires
from foveate.catalog import NotInstalled
from foveate.device import Device
from foveate.errors import Fault, FoveateError, GraphError
from foveate.expansion import Expander
from foveate.flat import SET, Flat, Setting
from foveate.graph import DeviceRef, DeviceSpec, Graph, NodeSpec, SyncSpec, Wire
from foveate.node import Node, Parameter, parameters_of, schema_of
from foveate.node_blocks import fault_policy, sync_spec
from foveate.quantity import parse_duration_ns
from foveate.queues import Policy
from foveate.record_report import budgets_of, record_of, report_of
from foveate.station import RECORDER
from foveate.supervision import FaultPolicy
from foveate.yaml_source import Item, clip

_URI = re.compile(r"([a-z][a-z0-9+-]*):(.*)", re.DOTALL)
_RIG = re.compile(r"\$\{\s*rig\.([^{}$]*)\}")


def load_graph(
    path: Path, settings: list[str] | None = None, allowed: list[Path] | None = None, *, open_devices: bool = True
) -> Graph:
    """The checked graph in a file.

    `settings`: texts `node.param=value`; `allowed`: folders the graph may name files in, besides its own.
    Without `open_devices` (a replay), files that only devices would open need not be there.
    Raises GraphError with every fault found; touches no hardware.
    """
    parsed, faults = [], []
    for text in settings or []:
        try:
            parsed.append(Setting.parse(text))
        except GraphError as error:
            faults.extend(error.faults)
    expander = Expander(path, parsed, allowed or [])
    flat = expander.run()
    graph = Checker(flat, expander, open_devices).graph()
    if flat.faults or faults:
        raise GraphError(flat.told() + faults)
    return graph


class Checker:
    """Turns a flat description into a Graph; faults go to `flat.faults`."""

    def __init__(self, flat: Flat, expander: Expander, open_devices: bool = True) -> None:
        self._open_devices = open_devices
        self.flat = flat
        self.expander = expander
        self.devices: dict[str, DeviceSpec | None] = {}
        self._fed: set[str] = set()  # nodes whose outputs a replay takes from the recording
        self._open: list[str] = []  # devices being checked, to see a rig that refers to itself

    def fault(self, fault: Fault) -> None:
        self.flat.add(fault)

    def graph(self) -> Graph:
        """The graph; complete only if no fault was found."""
        from foveate.expanded import to_text

        nodes = {}
        if RECORDER in self.flat.nodes:
            mapping, key = self.flat.node_places[RECORDER]
            self.fault(mapping.key_fault(key, f"'{RECORDER}' is the recorder; give the node another name"))
        for name, item in self.flat.nodes.items():
            spec = self.node(name, item, self.flat.overrides.get(name, {}))
            if spec is not None:
                nodes[name] = spec
        for name in self.flat.devices:
            if name not in self.devices:
                self._unused_device(name)
        wires = self._wires(nodes)
        record = record_of(self, nodes)
        report = report_of(self, nodes)
        budgets = budgets_of(self, nodes)
        devices = {name: spec for name, spec in self.devices.items() if spec is not None}
        specs = tuple(budget for _, budget in budgets)
        graph = Graph(self.flat.path.stem, self.flat.path, nodes, tuple(wires), devices, record, report, specs)
        for item, budget in budgets if not self.flat.faults else ():
            if not path_wires(graph, budget.source, budget.target):
                self.fault(item.fault(f"no wires lead from {budget.source} to {budget.target}"))
        if report is not None and record is None and self.flat.report is not None and not self.flat.faults:
            self.fault(self.flat.report.fault("a report is made from the recording; add a 'record' block"))
        if report is not None and record is not None and record.ring is not None and self.flat.report is not None:
            self.fault(
                self.flat.report.fault("a report is made from the recording, and a ring keeps none; leave out one")
            )
        if not self.flat.faults:
            for where, text in cycles.faults(graph):
                mapping, key = self.flat.node_places[where]
                self.fault(mapping.key_fault(key, text))
        return graph if self.flat.faults else replace(graph, text=to_text(graph))

    def node(self, name: str, item: Item, overrides: dict[str, Item]) -> NodeSpec | None:
        """The checked node; `overrides`: its parameters from `--set`."""
        use = item.value.get("use")
        if use is None:
            self.fault(item.fault(f"node '{name}' has no 'use': the node type"))
            return None
        if not isinstance(use.value, str):
            self.fault(use.fault(f"'use' of '{name}' must be a node type's name, not {use.kind}"))
            return None
        try:
            kind: type[Node] = catalog.load("nodes", use.value)
            schema = schema_of(kind)  # type: ignore[arg-type]
        except FoveateError as error:
            self.fault(use.fault(clip(error, 200)))
            return None
        if not self._open_devices and (schema.is_source or kind.drives_hardware):
            self._fed.add(name)
        direct = {p.name: p for p in schema.parameters.values() if p.device is not None}
        known = ("use", "inputs", "params", "cost", "on_fault", "sync", *direct)
        self.expander.unknown_keys(item, known, f" in node '{name}'")
        given = {key: item.value[key] for key in direct if key in item.value}
        block = item.value.get("params")
        if block is not None and not isinstance(block.value, dict):
            self.fault(block.fault(f"params of '{name}' must be a mapping, not {block.kind}"))
        elif block is not None:
            for key in given:
                if key in block.value:
                    self.fault(block.key_fault(key, f"'{key}' of '{name}' is given twice"))
            given = {**given, **block.value}
        given.update(overrides)
        blocks = [item] if block is None or not isinstance(block.value, dict) else [item, block]
        values, origins, complete = self._values(name, f"'{use.value}'", schema.parameters, given, blocks)
        cost = self.duration(item.value["cost"], "cost") if "cost" in item.value else None
        if complete and name not in self._fed:
            self._own_check(kind, name, values, given, item)
        on_fault = fault_policy(self, item.value["on_fault"]) if "on_fault" in item.value else FaultPolicy()
        sync = sync_spec(self, item.value["sync"], name, schema) if "sync" in item.value else None
        many = [port.name for port in schema.inputs.values() if port.many]
        if many and "sync" not in item.value:
            self.fault(item.fault(f"'{name}.{many[0]}' takes the messages of an interval; add a 'sync' block"))
        return NodeSpec(name, use.value, kind, schema, values, origins, cost, on_fault, sync)

    def _values(
        self, name: str, use: str, known: Any, given: dict[str, Item], blocks: list[Item]
    ) -> tuple[dict[str, Any], dict[str, str], bool]:
        """Validated values of the parameters, where each came from, and whether all are valid.

        `blocks`: the mappings that hold what is `given`, first the one that stands for the whole.
        """
        before = len(self.flat.faults)
        what = "option" if name.startswith("rig.") else "parameter"
        values: dict[str, Any] = {}
        origins: dict[str, str] = {}
        for key, value in given.items():
            if key not in known:
                text = f"{clip(use)} has no {what} '{clip(key)}'{self.flat.hint(key, known)}"
                block = next((b for b in blocks if b.file == value.file and b.value.get(key) is value), None)
                self.fault(block.key_fault(key, text) if block is not None else value.fault(text))
                continue
            values[key] = self._value(name, known[key], value)
            origins[key] = "--set" if value.file.startswith(SET) else f"{Path(value.file).name}:{value.line}"
        for key, parameter in known.items():
            if key not in given:
                if parameter.required:
                    unit = f" in {parameter.unit}" if parameter.unit else ""
                    text = f"'{name}' needs {what} '{key}' ({parameter.type_text()}{unit})"
                    self.fault(blocks[0].fault(text))
                else:
                    values[key] = parameter.default
                    origins[key] = "default"
        return values, origins, len(self.flat.faults) == before

    def _value(self, name: str, parameter: Parameter, item: Item) -> Any:
        if parameter.device is not None:
            return self._device_value(name, parameter, item)
        where = f"'{name}.{parameter.name}'"
        if isinstance(item.value, str) and _RIG.search(item.value):
            self.fault(item.fault(f"{where} takes {parameter.type_text()}, not a device"))
            return None
        if parameter.type == tuple[Path, ...] and isinstance(item.value, list):
            return tuple(self._value(name, replace(parameter, type=Path), each) for each in item.value)
        if parameter.type is Path or (parameter.type == Path | None and item.value is not None):
            if name in self._fed or (name.startswith("rig.") and not self._open_devices):
                return self.expander.path_of(item)
            return self.expander.file_of(item, where, folder=parameter.folder)
        return self._plain_value(where, parameter, item)

    def _plain_value(self, where: str, parameter: Parameter, item: Item) -> Any:
        from pydantic import ConfigDict, TypeAdapter, ValidationError

        config = ConfigDict(strict=True, allow_inf_nan=False)
        try:
            try:
                adapter = TypeAdapter(parameter.annotation, config=config)
            except Exception:  # a type with its own configuration refuses ours
                adapter = TypeAdapter(parameter.annotation)
            return adapter.validate_json(json.dumps(item.plain()), strict=True)
        except ValidationError as error:
            texts = sorted(
                {self._reason(parameter, problem) for problem in error.errors(include_url=False, include_input=False)}
            )
            unit = f" {parameter.unit}" if parameter.unit else ""
            self.fault(item.fault(f"{where} = {item.shown}{unit}: {clip('; '.join(texts), 200)}"))
        return None

    @staticmethod
    def _reason(parameter: Parameter, problem: Any) -> str:
        if problem["type"] == "missing" or problem["type"].endswith(("_type", "_parsing")):
            return f"it must be {parameter.type_text()}{f', in {parameter.unit}' if parameter.unit else ''}"
        text = str(problem["msg"])
        for start in ("Input ", "Value error, "):
            text = text.removeprefix(start)
        return f"it {text}" if text.startswith("should ") else text[0].lower() + text[1:]

    def _device_value(self, name: str, parameter: Parameter, item: Item) -> Any:
        family = parameter.device
        assert family is not None
        if item.value is None and not parameter.required:
            return None
        match = _RIG.fullmatch(item.value) if isinstance(item.value, str) else None
        if match is None:
            self.fault(item.fault(f"'{name}.{parameter.name}' takes a {family.family} of the rig: ${{rig.NAME}}"))
            return None
        if match[1] not in self.flat.devices and self.flat.rig_failed:
            return DeviceRef(match[1])
        if match[1] not in self.flat.devices:
            hint = self.flat.hint(match[1], self.flat.devices) or "; the graph has no rig" * (not self.flat.devices)
            self.fault(item.fault(f"the rig has no device '{clip(match[1])}'{hint}"))
            return None
        spec = self.device(match[1], family)
        if spec is not None and not issubclass(spec.kind, family):
            text = f"'{name}.{parameter.name}' takes a {family.family}, but '{match[1]}' is a {spec.kind.family}"
            self.fault(item.fault(text))
        return DeviceRef(match[1])

    def device(self, name: str, family: type[Device]) -> DeviceSpec | None:
        """The rig's device, checked once, as the family that its first user asks for."""
        item = self.flat.devices[name]
        if name in self._open:
            self.fault(item.fault(f"device '{name}' refers to itself: {' -> '.join([*self._open, name])}"))
            return None
        if name in self.devices:
            return self.devices[name]
        self._open.append(name)
        self.devices[name] = self._checked_device(name, item, family)
        self._open.pop()
        return self.devices[name]

    @staticmethod
    def _uri(item: Item) -> tuple[Item | None, re.Match[str] | None]:
        """A device's `uri` and its parts: scheme and address."""
        uri = item.value.get("uri")
        return uri, _URI.fullmatch(uri.value) if uri is not None and isinstance(uri.value, str) else None

    def _checked_device(self, name: str, item: Item, family: type[Device]) -> DeviceSpec | None:
        uri, match = self._uri(item)
        if uri is None or match is None:
            place = uri if uri is not None else item
            self.fault(place.fault(f"device '{name}' needs a URI such as 'sim:{name}' or 'opencv:0'"))
            return None
        known = [key for key in catalog.listing("drivers") if key.startswith(family.family + ".")]
        schemes = [key.split(".", 1)[1] for key in known]
        if match[1] not in schemes:
            hint = self.flat.hint(match[1], schemes)
            self.fault(uri.fault(f"no {family.family} driver for '{clip(match[1])}:'{hint}"))
            return None
        try:
            kind: type[Device] = catalog.load("drivers", f"{family.family}.{match[1]}")
        except NotInstalled as error:
            self.fault(uri.fault(clip(error, 200)))
            return None
        schema = parameters_of(kind)  # type: ignore[arg-type]
        given = {key: value for key, value in item.value.items() if key != "uri"}
        if "address" in schema:
            if "address" in given:
                self.fault(given["address"].fault(f"the address of device '{name}' stands in its option 'uri'"))
            given["address"] = Item(match[2], uri.file, uri.line, uri.column)
        values, origins, _ = self._values(f"rig.{name}", f"the {family.family} '{uri.value}'", schema, given, [item])
        return DeviceSpec(name, uri.value, kind, values, origins)

    def _unused_device(self, name: str) -> None:
        """A device no node uses: its URI must at least name an installed driver."""
        item = self.flat.devices[name]
        uri, match = self._uri(item)
        schemes = {key.split(".", 1)[1] for key in catalog.listing("drivers") if not key.startswith("backend.")}
        if match is None or match[1] not in schemes:
            hint = self.flat.hint(match[1], schemes) if match is not None else ""
            text = f"device '{name}': no driver for {uri.shown if uri is not None else 'nothing'!r}{hint}"
            self.fault((uri if uri is not None else item).fault(text))

    def _own_check(
        self, kind: type[Node], name: str, values: dict[str, Any], given: dict[str, Item], item: Item
    ) -> None:
        plain = {key: value for key, value in values.items() if not isinstance(value, DeviceRef)}
        for problem in kind.check(**plain):
            place = given.get(problem.parameter, item)
            self.fault(place.fault(f"'{name}.{problem.parameter}': {clip(problem.text, 400)}"))

    def duration(self, item: Item, what: str) -> int | None:
        try:
            return parse_duration_ns(item.value if isinstance(item.value, str) else item.shown)
        except ValueError as error:
            self.fault(item.fault(f"{what}: {error}"))
            return None

    def _wires(self, nodes: dict[str, NodeSpec]) -> list[Wire]:
        wires = []
        for name, spec in nodes.items():
            item = self.flat.nodes[name]
            block = item.value.get("inputs")
            connected = {}
            if block is not None and not isinstance(block.value, dict):
                self.fault(block.fault(f"inputs of '{name}' must be a mapping, not {block.kind}"))
                continue
            if block is not None:
                connected = block.value
                for port in connected:
                    if port not in spec.schema.inputs:
                        hint = self.flat.hint(port, spec.schema.inputs)
                        self.fault(block.key_fault(port, f"'{spec.use}' has no input '{clip(port)}'{hint}"))
            for port in spec.schema.inputs.values():
                if port.name in connected:
                    wire = self._wire(nodes, spec, port.name, connected[port.name])
                    if wire is not None:
                        wires.append(wire)
                elif port.required:
                    text = f"input '{port.name}' ({port.type.__name__}) of '{name}' is not connected"
                    self.fault(item.fault(text))
        return wires

    def _wire(self, nodes: dict[str, NodeSpec], target: NodeSpec, port: str, item: Item) -> Wire | None:
        default = Policy() if target.sync is None else SyncSpec.QUEUE
        source, policy = item, default
        if isinstance(item.value, dict):
            self.expander.unknown_keys(item, ("from", "queue", "max_age"))
            if "from" not in item.value:
                self.fault(item.fault(f"input '{port}' of '{target.name}' has no 'from: node.output'"))
                return None
            source = item.value["from"]
            policy = self.policy(item, default)
        found = self.output(nodes, source, target.name.rpartition("/")[0])
        if found is None:
            return None
        node, output = found
        given, taken = nodes[node].schema.outputs[output].type, target.schema.inputs[port].type
        if not issubclass(given, taken):
            text = f"'{node}.{output}' gives {given.__name__}, but '{target.name}.{port}' takes {taken.__name__}"
            self.fault(source.fault(text))
            return None
        return Wire(node, output, target.name, port, policy)

    def policy(self, item: Item, default: Policy = Policy()) -> Policy:  # noqa: B008 - it is frozen
        """What `queue:` and `max_age:` of a wire's or stream's mapping say."""
        age = self.duration(item.value["max_age"], "max_age") if "max_age" in item.value else None
        queue = item.value.get("queue")
        if queue is None:
            return replace(default, max_age_ns=age)
        try:
            return Policy.parse(queue.shown, age)
        except ValueError as error:
            self.fault(queue.fault(clip(error, 120)))
            return Policy(max_age_ns=age)

    def output(self, nodes: dict[str, NodeSpec], item: Item, scope: str) -> tuple[str, str] | None:
        """(node, output) that a text `node.output` means inside the included graph `scope`."""
        if not isinstance(item.value, str) or "." not in item.value:
            self.fault(item.fault(f"write it as node.output, not {item.shown!r}"))
            return None
        text = item.value[1:] if item.value.startswith("/") else f"{scope}/{item.value}" if scope else item.value
        for _ in range(len(self.flat.aliases) + 1):
            text = self.flat.aliases.get(text, text)
        node, _, output = text.rpartition(".")
        if node not in nodes:
            outputs = [alias for alias in self.flat.aliases if alias.rpartition(".")[0] == node]
            if outputs:
                hint = self.flat.hint(output, [alias.rpartition(".")[2] for alias in outputs])
                self.fault(item.fault(f"'{clip(node)}' has no output '{clip(output)}'{hint}"))
            elif node not in self.flat.nodes:  # a node with faults of its own has been named already
                self.fault(item.fault(f"unknown node '{clip(node)}'{self.flat.hint(node, self.flat.nodes)}"))
            return None
        known = nodes[node].schema.outputs
        if output not in known:
            self.fault(
                item.fault(
                    f"'{node}' ({nodes[node].use}) has no output '{clip(output)}'{self.flat.hint(output, known)}"
                )
            )
            return None
        return node, output
