"""From files to one flat description: includes unfolded, `${...}` replaced, `--set` applied."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from foveate import paths, yaml_source
from foveate.catalog import did_you_mean
from foveate.errors import Fault, GraphError
from foveate.yaml_source import Item, clip

SET = "--set "
MAX_INCLUDES = 8
_REFERENCE = re.compile(r"\$\{\s*([^{}$]*?)\s*\}")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_NODE = re.compile(r"[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*")  # an expanded graph has part/node
_TOP = ("foveate", "description", "params", "rig", "nodes", "record", "report")
_PART_TOP = ("foveate", "description", "params", "nodes", "inputs", "outputs")


@dataclass(slots=True)
class Setting:
    """One `--set name=value`."""

    path: list[str]
    item: Item

    @classmethod
    def parse(cls, text: str) -> Setting:
        """From `node.param=value`, `param=value` or `rig.device.option=value`. Raises GraphError."""
        name, equals, value = text.partition("=")
        label = SET + clip(text)
        parts = name.strip().split(".")
        if not equals or not all(parts):
            raise GraphError([Fault(label, 1, 1, "write it as node.param=value or param=value")])
        item = yaml_source.read_text(value, label)
        return cls(parts, item)


@dataclass(slots=True)
class Flat:
    """The whole graph as places in files, ready to be held against the code."""

    path: Path
    nodes: dict[str, Item] = field(default_factory=dict)
    node_places: dict[str, tuple[Item, str]] = field(default_factory=dict)  # mapping and key of each node
    devices: dict[str, Item] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)  # "part.port" of an include -> "part/node.port"
    record: Item | None = None
    report: Item | None = None
    faults: list[Fault] = field(default_factory=list)
    overrides: dict[str, dict[str, Item]] = field(default_factory=dict)  # node -> parameter -> value
    variant_nodes: dict[str, dict[str, Item]] = field(default_factory=dict)


class Expander:
    """Reads a graph file and everything it includes, collecting faults instead of stopping."""

    def __init__(self, path: Path, settings: list[Setting], allowed: list[Path]) -> None:
        self.allowed = allowed
        self.settings = settings
        self.flat = Flat(path)
        self._used: set[int] = set()

    def run(self) -> Flat:
        """The flat graph; what could not be read is left out and stands in `faults`."""
        flat = self.flat
        root = self._read(flat.path, str(flat.path))
        if root is None or not self._is_mapping(root, "a graph"):
            return flat
        self._unknown_keys(root, _TOP)
        self._version(root)
        params = self._params(root, {}, "")
        root = self._substituted(root, params)
        if "rig" in root.value:
            self._rig(root.value["rig"])
        self._nodes(root, "", [flat.path])
        flat.record, flat.report = root.value.get("record"), root.value.get("report")
        self._settings()
        return flat

    def _fault(self, fault: Fault) -> None:
        self.flat.faults.append(fault)

    def _read(self, path: Path, name: str) -> Item | None:
        try:
            return yaml_source.read_file(path, name)
        except GraphError as error:
            self.flat.faults.extend(error.faults)
            return None

    def _is_mapping(self, item: Item, what: str) -> bool:
        if isinstance(item.value, dict):
            return True
        self._fault(item.fault(f"{what} must be a mapping, not {item.kind}"))
        return False

    def _unknown_keys(self, item: Item, known: tuple[str, ...], where: str = "") -> None:
        for key in item.value:
            if key not in known:
                self._fault(item.key_fault(key, f"unknown key '{clip(key)}'{where}{did_you_mean(key, known)}"))

    def _version(self, root: Item) -> None:
        version = root.value.get("foveate")
        if version is None:
            self._fault(root.fault("missing key 'foveate': the format's version; write 'foveate: 1'"))
        elif version.value != 1 or isinstance(version.value, bool):
            self._fault(version.fault(f"format version {clip(version.value)!r} is not known; this is foveate: 1"))

    def _params(self, root: Item, given: dict[str, Item], prefix: str) -> dict[str, Item]:
        """The `params:` block with values from outside in place of the defaults."""
        block = root.value.get("params")
        params: dict[str, Item] = {}
        if block is not None and self._is_mapping(block, "params"):
            params = dict(block.value)
            for name in params:
                if not _NAME.fullmatch(name):
                    self._fault(block.key_fault(name, f"'{clip(name)}' is not a name (letters, digits, _)"))
        for name, item in given.items():
            if name not in params:
                self._fault(item.fault(f"unknown parameter '{clip(name)}'{did_you_mean(name, params)}"))
            else:
                params[name] = item
        if not prefix:
            for index, setting in enumerate(self.settings):
                name = setting.path[-1]
                bare = len(setting.path) == 1 or (len(setting.path) == 2 and setting.path[0] == "params")
                if bare and name in params:
                    params[name] = setting.item
                    self._used.add(index)
                elif bare:
                    self._used.add(index)
                    hint = did_you_mean(name, params)
                    self._fault(setting.item.fault(f"the graph has no parameter '{clip(name)}'{hint}"))
        return params

    def _substituted(self, item: Item, params: dict[str, Item], skip: str = "params") -> Item:
        """`item` with `${params.x}` replaced; `${rig.x}` stays for later."""
        if isinstance(item.value, dict):
            value = {k: v if k == skip else self._substituted(v, params, "") for k, v in item.value.items()}
            return Item(value, item.file, item.line, item.column, item.keys)
        if isinstance(item.value, list):
            return Item([self._substituted(v, params, "") for v in item.value], item.file, item.line, item.column)
        if not isinstance(item.value, str) or "${" not in item.value:
            return item
        whole = _REFERENCE.fullmatch(item.value)
        if whole and whole[1].startswith("rig."):
            return item
        if whole:
            found = self._lookup(item, whole[1], params)
            return found if found is not None else Item(None, item.file, item.line, item.column)
        return self._interpolated(item, params)

    def _interpolated(self, item: Item, params: dict[str, Item]) -> Item:
        trusted: list[str] = []

        def text(match: re.Match[str]) -> str:
            found = self._lookup(item, match[1], params)
            if found is None or isinstance(found.value, dict | list):
                return ""
            if found.file.startswith(SET):
                trusted.append(found.file)
            value = found.value
            return str(value).lower() if isinstance(value, bool) else str(value)

        result = _REFERENCE.sub(text, item.value)
        return Item(result, item.file, item.line, item.column)

    def _lookup(self, item: Item, name: str, params: dict[str, Item]) -> Item | None:
        scope, _, key = name.partition(".")
        if scope != "params" or not key:
            hint = "; write ${params.name} or ${rig.device}"
            self._fault(item.fault(f"unknown reference '${{{clip(name)}}}'{hint}"))
            return None
        if key not in params:
            self._fault(item.fault(f"unknown parameter '{clip(key)}' in ${{{clip(name)}}}{did_you_mean(key, params)}"))
            return None
        found = params[key]
        if isinstance(found.value, str) and "${" in found.value:
            self._fault(item.fault(f"parameter '{clip(key)}' refers to another parameter; give it a value"))
            return None
        return found

    def file_of(self, item: Item, what: str) -> Path | None:
        """The existing file that `item` names, or None with a fault."""
        if not isinstance(item.value, str) or not item.value:
            self._fault(item.fault(f"{what} must be a file's path, not {item.kind}"))
            return None
        try:
            path = self.resolve(item)
        except ValueError as error:
            self._fault(item.fault(str(error)))
            return None
        if not path.is_file():
            self._fault(item.fault(f"no file '{clip(item.value)}' for {what}"))
            return None
        return path

    def resolve(self, item: Item) -> Path:
        """The path `item` means; values of `--set` may point anywhere. Raises paths.Escape."""
        if item.file.startswith(SET):
            if "\0" in item.value:
                raise paths.Escape("a path holds a NUL character")
            return Path(item.value).resolve()
        return paths.resolve(item.value, Path(item.file).parent, self.allowed)

    def _rig(self, item: Item) -> None:
        rig: Item | None = item
        if isinstance(item.value, str):
            path = self.file_of(item, "rig")
            rig = self._read(path, str(path)) if path is not None else None
            if rig is None or not self._is_mapping(rig, "a rig"):
                return
            self._unknown_keys(rig, ("foveate", "description", "devices"))
            self._version(rig)
            rig = rig.value.get("devices", Item({}, rig.file, rig.line, rig.column))
        assert rig is not None
        if not self._is_mapping(rig, "the rig's devices"):
            return
        for name, device in rig.value.items():
            if not _NAME.fullmatch(name):
                self._fault(rig.key_fault(name, f"'{clip(name)}' is not a name (letters, digits, _)"))
                continue
            if isinstance(device.value, str):
                device = Item({"uri": device}, device.file, device.line, device.column, {"uri": (device.line, device.column)})
            if self._is_mapping(device, f"device '{name}'"):
                self.flat.devices[name] = device

    def _nodes(self, root: Item, prefix: str, chain: list[Path]) -> None:
        nodes = root.value.get("nodes")
        if nodes is None:
            self._fault(root.fault("missing key 'nodes'"))
            return
        if not self._is_mapping(nodes, "nodes"):
            return
        for name, item in nodes.value.items():
            if not _NODE.fullmatch(name):
                self._fault(nodes.key_fault(name, f"'{clip(name)}' is not a name (letters, digits, _)"))
            elif self._is_mapping(item, f"node '{name}'"):
                if "include" in item.value:
                    self._include(name, item, prefix, chain)
                else:
                    self.flat.nodes[prefix + name] = item
                    self.flat.node_places[prefix + name] = (nodes, name)

    def _include(self, name: str, item: Item, prefix: str, chain: list[Path]) -> None:
        """Unfold another graph file in place; its nodes are called `name/node`."""
        self._unknown_keys(item, ("include", "params", "inputs"), f" beside include in '{name}'")
        path = self.file_of(item.value["include"], f"include of '{name}'")
        if path is None:
            return
        if path.resolve() in [p.resolve() for p in chain]:
            self._fault(item.value["include"].fault(f"'{path.name}' includes itself"))
            return
        if len(chain) > MAX_INCLUDES:
            self._fault(item.value["include"].fault(f"includes nested deeper than {MAX_INCLUDES}"))
            return
        part = self._read(path, str(path))
        if part is None or not self._is_mapping(part, "an included graph"):
            return
        self._unknown_keys(part, _PART_TOP)
        self._version(part)
        given = item.value.get("params")
        values = given.value if given is not None and self._is_mapping(given, "params") else {}
        part = self._substituted(part, self._params(part, values, prefix + name))
        inner = f"{prefix}{name}/"
        before = set(self.flat.nodes)
        self._nodes(part, inner, [*chain, path])
        self._part_ports(part, item, name, prefix, before)

    def _part_ports(self, part: Item, item: Item, name: str, prefix: str, before: set[str]) -> None:
        """Connect the included graph's own `inputs:` and `outputs:` to the outside."""
        inner = f"{prefix}{name}/"
        for port, target in self._ports(part, "outputs"):
            self.flat.aliases[f"{prefix}{name}.{port}"] = f"{inner}{target.value}"
        inputs = dict(self._ports(part, "inputs"))
        given = item.value.get("inputs")
        wires = given.value if given is not None and self._is_mapping(given, "inputs") else {}
        for port, source in wires.items():
            if port not in inputs:
                self._fault(given.key_fault(port, f"'{name}' has no input '{clip(port)}'{did_you_mean(port, inputs)}"))
                continue
            node, _, inner_port = str(inputs[port].value).rpartition(".")
            target = self.flat.nodes.get(inner + node)
            if target is None or inner + node in before:
                self._fault(inputs[port].fault(f"input '{port}' leads to no node: {clip(inputs[port].value)!r}"))
                continue
            block = target.value.setdefault("inputs", Item({}, source.file, source.line, source.column))
            block.value[inner_port] = _absolute(source, prefix)
            block.keys[inner_port] = (source.line, source.column)
        for port in set(inputs) - set(wires):
            self._fault(item.fault(f"input '{port}' of '{name}' is not connected"))

    def _ports(self, part: Item, key: str) -> Iterator[tuple[str, Item]]:
        block = part.value.get(key)
        if block is not None and self._is_mapping(block, key):
            yield from block.value.items()

    def _settings(self) -> None:
        """Put `--set node.param=value` and `--set rig.device.option=value` in place."""
        for index, setting in enumerate(self.settings):
            if index in self._used:
                continue
            scope = ".".join(setting.path[:-1])
            name = setting.path[-1]
            if setting.path[0] == "rig" and len(setting.path) == 3:
                device = self.flat.devices.get(setting.path[1])
                if device is None:
                    hint = did_you_mean(setting.path[1], self.flat.devices)
                    self._fault(setting.item.fault(f"the rig has no device '{clip(setting.path[1])}'{hint}"))
                else:
                    device.value[name] = setting.item
                    device.keys[name] = (1, 1)
            elif scope in self.flat.nodes:
                self.flat.overrides.setdefault(scope, {})[name] = setting.item
            else:
                self._fault(setting.item.fault(f"the graph has no node '{clip(scope)}'{did_you_mean(scope, self.flat.nodes)}"))


def _absolute(source: Item, prefix: str) -> Item:
    """An input's source with its node named from the graph's root: `/part/node.output`."""
    if isinstance(source.value, dict) and "from" in source.value:
        value = {**source.value, "from": _absolute(source.value["from"], prefix)}
    else:
        value = f"/{prefix}{source.value}"
    return Item(value, source.file, source.line, source.column, source.keys)
