"""From files to one flat description: includes unfolded, `${...}` replaced, `--set` applied."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from foveate import paths, yaml_source
from foveate.catalog import did_you_mean
from foveate.errors import Fault, GraphError
from foveate.yaml_source import Item, clip

SET = "--set "
MAX_INCLUDES = 8
MAX_NODES = 1000  # and includes; what 8 levels of includes could multiply to has no bound
MAX_FAULTS = 100
MAX_LINE = 500  # characters of a fault
MAX_TEXT = 4096  # characters of a text with `${...}` inside
MAX_REPEATED = 20_000  # elements and lines of text that references may add to those written
MAX_COMPARED = 20_000  # characters of names; 80 of them may take 0.3 ms
REFERENCE = re.compile(r"\$\{([^{}$]*)\}")
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
    broken: list[Fault] = field(default_factory=list)  # those of references: nothing more is said of their places
    overrides: dict[str, dict[str, Item]] = field(default_factory=dict)  # node -> parameter -> value
    rig_failed: bool = False  # its devices are unknown, because the rig could not be read
    compared: int = 0

    def hint(self, name: str, known: Collection[str]) -> str:
        """What was meant, perhaps; nothing once many names have been compared."""
        self.compared += sum(map(len, known))
        return did_you_mean(name, known) if self.compared <= MAX_COMPARED else ""

    def add(self, fault: Fault, broken: bool = False) -> None:
        """Note a fault as one line. Raises GraphError when there are so many that nobody would read on."""
        fault = replace(fault, text=clip(fault.text, MAX_LINE))
        self.faults.append(fault)
        if broken:
            self.broken.append(fault)
        if len(self.faults) >= MAX_FAULTS:
            last = Fault(str(self.path), 1, 1, f"{MAX_FAULTS} faults; the rest is not checked")
            raise GraphError([*self.told(), last])

    def told(self) -> list[Fault]:
        """The faults without those that only follow from a reference to nothing."""
        places = {(fault.file, fault.line, fault.column) for fault in self.broken}
        return self.broken + [f for f in self.faults if (f.file, f.line, f.column) not in places]


class Expander:
    """Reads a graph file and everything it includes, collecting faults instead of stopping."""

    def __init__(self, path: Path, settings: list[Setting], allowed: list[Path]) -> None:
        self.allowed = allowed
        self.settings = settings
        self.flat = Flat(path)
        self._used: set[int] = set()
        self._count = 0
        self._repeated = 0

    def run(self) -> Flat:
        """The flat graph; what could not be read is left out and stands in `faults`."""
        flat = self.flat
        root = self._read(flat.path, str(flat.path))
        if root is None or not self._is_mapping(root, "a graph"):
            return flat
        self.unknown_keys(root, _TOP)
        self._version(root)
        params = self._params(root, None, "")
        root = self._substituted(root, params)
        for setting in self.settings:
            setting.item = self._substituted(setting.item, params, "")
        if "rig" in root.value:
            self._rig(root.value["rig"])
        self._nodes(root, "", [flat.path])
        flat.record, flat.report = root.value.get("record"), root.value.get("report")
        self._settings()
        return flat

    def _fault(self, fault: Fault) -> None:
        self.flat.add(fault)

    def _broken(self, fault: Fault) -> None:
        self.flat.add(fault, broken=True)

    def _read(self, path: Path, name: str) -> Item | None:
        try:
            return yaml_source.read_file(path, name)
        except GraphError as error:
            for fault in error.faults:
                self._fault(fault)
            return None

    def _is_mapping(self, item: Item, what: str) -> bool:
        if isinstance(item.value, dict):
            return True
        self._fault(item.fault(f"{what} must be a mapping, not {item.kind}"))
        return False

    def unknown_keys(self, item: Item, known: tuple[str, ...], where: str = "", what: str = "key") -> None:
        """A fault at each key of the mapping `item` that is not `known`."""
        for key in item.value:
            if key not in known:
                self._fault(item.key_fault(key, f"unknown {what} '{clip(key)}'{where}{self.flat.hint(key, known)}"))

    def _version(self, root: Item) -> None:
        version = root.value.get("foveate")
        if version is None:
            self._fault(root.fault("missing key 'foveate': the format's version; write 'foveate: 1'"))
        elif version.value != 1 or isinstance(version.value, bool):
            self._fault(version.fault(f"format version {version.shown!r} is not known; this is foveate: 1"))

    def _params(self, root: Item, given: Item | None, prefix: str) -> dict[str, Item]:
        """The `params:` block with values from outside in place of the defaults."""
        block = root.value.get("params")
        params: dict[str, Item] = {}
        if block is not None and self._is_mapping(block, "params"):
            params = dict(block.value)
            for name in params:
                if not _NAME.fullmatch(name):
                    self._fault(block.key_fault(name, f"'{clip(name)}' is not a name (letters, digits, _)"))
        if given is not None and self._is_mapping(given, "params"):
            self.unknown_keys(given, tuple(params), what="parameter")
            params.update({name: item for name, item in given.value.items() if name in params})
        if not prefix:
            for index, setting in enumerate(self.settings):
                name = setting.path[-1]
                bare = len(setting.path) == 1 or (len(setting.path) == 2 and setting.path[0] == "params")
                if bare and name in params:
                    params[name] = setting.item
                    self._used.add(index)
                elif bare:
                    self._used.add(index)
                    hint = self.flat.hint(name, params)
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
        whole = REFERENCE.fullmatch(item.value)
        if whole and whole[1].strip().startswith("rig."):
            return item
        if whole:
            found = self._lookup(item, whole[1].strip(), params)
            return found if found is not None else Item(None, item.file, item.line, item.column)
        return self._interpolated(item, params)

    def _interpolated(self, item: Item, params: dict[str, Item]) -> Item:
        """A text with values inside; as a path it is the YAML's, also where a value came from `--set`."""
        parts: list[str] = []
        end = 0
        for match in REFERENCE.finditer(item.value):
            parts += [item.value[end : match.start()], self._inside(item, match[1].strip(), params)]
            end = match.end()
            if sum(map(len, parts)) > MAX_TEXT:
                self._broken(item.fault(f"a text with ${{...}} becomes longer than {MAX_TEXT} characters"))
                return Item(None, item.file, item.line, item.column)
        parts.append(item.value[end:])
        if any("${" in part for part in parts):
            self._broken(item.fault("'${' without its '}'; write ${params.name} or ${rig.device}"))
        return Item("".join(parts), item.file, item.line, item.column)

    def _inside(self, item: Item, name: str, params: dict[str, Item]) -> str:
        """What the reference `name` inside a text becomes."""
        if name.startswith("rig."):
            self._broken(item.fault(f"a device cannot stand inside a text: ${{{clip(name)}}}"))
            return ""
        found = self._lookup(item, name, params)
        if found is None:
            return ""
        if found.value is None or isinstance(found.value, dict | list) or "${" in str(found.value):
            what = found.kind if not isinstance(found.value, str) else "a device"
            self._broken(item.fault(f"{what} cannot stand inside a text: ${{{clip(name)}}}"))
            return ""
        return str(found.value).lower() if isinstance(found.value, bool) else str(found.value)

    def _lookup(self, item: Item, name: str, params: dict[str, Item]) -> Item | None:
        scope, _, key = name.partition(".")
        if scope != "params" or not key:
            hint = "; write ${params.name} or ${rig.device}"
            self._broken(item.fault(f"unknown reference '${{{clip(name)}}}'{hint}"))
            return None
        if key not in params:
            self._broken(
                item.fault(f"unknown parameter '{clip(key)}' in ${{{clip(name)}}}{self.flat.hint(key, params)}")
            )
            return None
        found = params[key]
        if _refers(found):
            self._broken(item.fault(f"parameter '{clip(key)}' refers to another parameter; give it a value"))
            return None
        self._repeated += _size(found)
        if self._repeated > MAX_REPEATED:
            raise GraphError([*self.flat.told(), item.fault(f"references repeat more than {MAX_REPEATED} elements")])
        return found

    def file_of(self, item: Item, what: str) -> Path | None:
        """The existing file that `item` names, or None with a fault."""
        if not isinstance(item.value, str) or not item.value:
            self._fault(item.fault(f"{what} must be a file's path, not {item.kind}"))
            return None
        try:
            path = self.resolve(item)
        except ValueError as error:
            self._fault(item.fault(clip(error, 160)))
            return None
        if not os.path.isfile(path):  # noqa: PTH113 - false, not OSError, for a name that is too long
            self._fault(item.fault(f"no file '{clip(item.value)}' for {what}"))
            return None
        return path

    def resolve(self, item: Item) -> Path:
        """The path `item` means; values of `--set` may point anywhere. Raises paths.Escape."""
        if item.file.startswith(SET):
            paths.possible(item.value)
            return Path(os.path.realpath(item.value))  # Path.resolve raises RuntimeError for a loop of links
        return paths.resolve(item.value, Path(item.file).parent, self.allowed)

    def _rig(self, item: Item) -> None:
        rig: Item | None = item
        if isinstance(item.value, str):
            path = self.file_of(item, "rig")
            rig = self._read(path, str(path)) if path is not None else None
            if rig is None or not self._is_mapping(rig, "a rig"):
                self.flat.rig_failed = True
                return
            self.flat.rig_failed = "devices" not in rig.value
            self.unknown_keys(rig, ("foveate", "description", "devices"))
            self._version(rig)
            rig = rig.value.get("devices", Item({}, rig.file, rig.line, rig.column))
        assert rig is not None
        if not self._is_mapping(rig, "the rig's devices"):
            self.flat.rig_failed = True
            return
        for name, device in rig.value.items():
            if not _NAME.fullmatch(name):
                self._fault(rig.key_fault(name, f"'{clip(name)}' is not a name (letters, digits, _)"))
                continue
            if isinstance(device.value, str):
                device = Item(
                    {"uri": device}, device.file, device.line, device.column, {"uri": (device.line, device.column)}
                )
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
            elif self._is_mapping(item, f"node '{clip(name)}'"):
                self._count += 1
                if self._count > MAX_NODES:
                    raise GraphError(
                        [*self.flat.told(), nodes.key_fault(name, f"more than {MAX_NODES} nodes and includes")]
                    )
                if "include" in item.value:
                    self._include(name, item, prefix, chain)
                elif prefix + name in self.flat.nodes:
                    self._fault(nodes.key_fault(name, f"a second node of the name '{clip(prefix + name)}'"))
                else:
                    self.flat.nodes[prefix + name] = item
                    self.flat.node_places[prefix + name] = (nodes, name)

    def _include(self, name: str, item: Item, prefix: str, chain: list[Path]) -> None:
        """Unfold another graph file in place; its nodes are called `name/node`."""
        self.unknown_keys(item, ("include", "params", "inputs"), f" beside include in '{clip(name)}'")
        path = self.file_of(item.value["include"], f"include of '{name}'")
        if path is None:
            return
        if path.resolve() in [p.resolve() for p in chain]:
            self._fault(item.value["include"].fault(f"'{clip(path.name)}' includes itself"))
            return
        if len(chain) > MAX_INCLUDES:
            self._fault(item.value["include"].fault(f"includes nested deeper than {MAX_INCLUDES}"))
            return
        part = self._read(path, str(path))
        if part is None or not self._is_mapping(part, "an included graph"):
            return
        self.unknown_keys(part, _PART_TOP)
        self._version(part)
        part = self._substituted(part, self._params(part, item.value.get("params"), prefix + name))
        inner = f"{prefix}{name}/"
        before = set(self.flat.nodes)
        self._nodes(part, inner, [*chain, path])
        self._part_ports(part, item, name, prefix, before)

    def _part_ports(self, part: Item, item: Item, name: str, prefix: str, before: set[str]) -> None:
        """Connect the included graph's own `inputs:` and `outputs:` to the outside."""
        inner = f"{prefix}{name}/"
        for port, target in self._ports(part, "outputs"):
            node = str(target.value).rpartition(".")[0]
            alias = f"{inner}{target.value}"
            if not isinstance(target.value, str) or (
                inner + node not in self.flat.nodes and alias not in self.flat.aliases
            ):
                self._fault(target.fault(f"output '{clip(port)}' comes from no node: {target.shown!r}"))
            self.flat.aliases[f"{prefix}{name}.{port}"] = alias
        inputs = dict(self._ports(part, "inputs"))
        given = item.value.get("inputs")
        if given is not None and not self._is_mapping(given, "inputs"):
            return
        wires = given.value if given is not None else {}
        for port, source in wires.items():
            if port not in inputs:
                hint = self.flat.hint(port, inputs)
                self._fault(given.key_fault(port, f"'{clip(name)}' has no input '{clip(port)}'{hint}"))
            else:
                self._connect(port, inputs[port], _absolute(source, prefix), inner, before)
        for port in inputs:
            if port not in wires:
                self._broken(item.fault(f"input '{clip(port)}' of '{clip(name)}' is not connected"))
                self._connect(port, inputs[port], Item(None, item.file, item.line, item.column), inner, before)

    def _connect(self, port: str, inside: Item, source: Item, inner: str, before: set[str]) -> None:
        """Wire `source` to the port of a node that an included graph's input `port` names."""
        node, _, inner_port = str(inside.value).rpartition(".")
        target = self.flat.nodes.get(inner + node)
        if target is None or inner + node in before:
            self._fault(inside.fault(f"input '{clip(port)}' leads to no node: {inside.shown!r}"))
            return
        own = target.value.get("inputs")
        if own is not None and not isinstance(own.value, dict):
            return  # the checker names it
        block = own if own is not None else Item({}, inside.file, inside.line, inside.column)
        value = {**block.value, inner_port: source}
        keys = {**block.keys, inner_port: (inside.line, inside.column)}
        target.value["inputs"] = Item(value, block.file, block.line, block.column, keys)

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
                    hint = self.flat.hint(setting.path[1], self.flat.devices)
                    self._fault(setting.item.fault(f"the rig has no device '{clip(setting.path[1])}'{hint}"))
                else:
                    device.value[name] = setting.item
                    device.keys[name] = (1, 1)
            elif setting.path[0] == "rig":
                self._fault(
                    setting.item.fault("write it as rig.device.option=value; the device's address is its option 'uri'")
                )
            elif scope in self.flat.nodes:
                self.flat.overrides.setdefault(scope, {})[name] = setting.item
            else:
                self._fault(
                    setting.item.fault(f"the graph has no node '{clip(scope)}'{self.flat.hint(scope, self.flat.nodes)}")
                )


def _refers(item: Item) -> bool:
    """Whether a parameter's value holds a reference; a device as a whole is a value."""
    if isinstance(item.value, dict | list):
        inner = item.value.values() if isinstance(item.value, dict) else item.value
        return any(_refers(part) for part in inner)
    if not isinstance(item.value, str) or "${" not in item.value:
        return False
    whole = REFERENCE.fullmatch(item.value)
    return whole is None or not whole[1].strip().startswith("rig.")


def _size(item: Item) -> int:
    """Elements of a value, and lines of 80 characters."""
    if isinstance(item.value, dict | list):
        inner = item.value.values() if isinstance(item.value, dict) else item.value
        return 1 + sum(map(_size, inner))
    return 1 + len(item.value) // 80 if isinstance(item.value, str) else 1


def _absolute(source: Item, prefix: str) -> Item:
    """An input's source with its node named from the graph's root: `/part/node.output`."""
    if isinstance(source.value, dict) and "from" in source.value:
        value: Any = {**source.value, "from": _absolute(source.value["from"], prefix)}
    elif isinstance(source.value, str) and not source.value.startswith("/"):
        value = f"/{prefix}{source.value}"
    else:
        value = source.value
    return Item(value, source.file, source.line, source.column, source.keys)
