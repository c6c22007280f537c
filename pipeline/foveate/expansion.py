"""From files to one flat description: includes unfolded, references replaced, `--set` applied."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from foveate import paths, yaml_source
from foveate.errors import Fault, GraphError
from foveate.flat import SET, Flat, Setting
from foveate.node import Folder
from foveate.references import References
from foveate.yaml_source import Item, clip

MAX_INCLUDES = 8
MAX_NODES = 1000  # and includes; what 8 levels of includes could multiply to has no bound
MAX_BYTES = 4096 * 1024  # of all includes, each counted as often as it is included
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_NODE = re.compile(r"[A-Za-z][A-Za-z0-9_]*(/[A-Za-z][A-Za-z0-9_]*)*")  # an expanded graph has part/node
_TOP = ("foveate", "description", "params", "rig", "nodes", "record", "report", "budgets")
_PART_TOP = ("foveate", "description", "params", "nodes", "inputs", "outputs")


class Expander:
    """Reads a graph file and everything it includes, collecting faults instead of stopping."""

    def __init__(self, path: Path, settings: list[Setting], allowed: list[Path]) -> None:
        self.allowed = allowed
        self.settings = settings
        self.flat = Flat(path)
        self._used: set[int] = set()
        self._count = 0
        self._references = References(self.flat)
        self._bytes = 0

    def run(self) -> Flat:
        """The flat graph; what could not be read is left out and stands in `faults`."""
        flat = self.flat
        root = self._read(flat.path, str(flat.path))
        if root is None or not self._is_mapping(root, "a graph"):
            return flat
        self.unknown_keys(root, _TOP)
        self._version(root)
        params = self._params(root, None, "")
        rigs = [setting for setting in self.settings if setting.path == ["rig"]]
        if rigs:  # in place of the graph's own, of which nothing counts
            root.value.pop("rig", None)
        root = self._references.replaced(root, params)
        for setting in self.settings:
            setting.item = self._references.replaced(setting.item, params, "")
        rig = rigs[0].item if rigs else root.value.get("rig")
        if rig is not None:
            self._rig(rig)
        self._unused(params, bool(rigs))
        self._nodes(root, "", [flat.path])
        flat.record, flat.report = root.value.get("record"), root.value.get("report")
        flat.budgets = root.value.get("budgets")
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
                if len(setting.path) > 1 and (len(setting.path) > 2 or setting.path[0] != "params"):
                    continue
                self._used.add(index)
                if name in params:
                    params[name] = setting.item
                elif setting.path != ["rig"]:
                    hint = self.flat.hint(name, params)
                    self._fault(setting.item.fault(f"the graph has no parameter '{clip(name)}'{hint}"))
        return params

    def file_of(self, item: Item, what: str, *, folder: Folder | None = None) -> Path | None:
        """The existing file (or folder) that `item` names, or None with a fault."""
        kind, exists = ("file", os.path.isfile) if folder is None else ("folder", os.path.isdir)
        if folder is not None and folder.or_file:
            kind, exists = "file or folder", os.path.exists
        if not isinstance(item.value, str) or not item.value:
            self._fault(item.fault(f"{what} must be a {kind}'s path, not {item.kind}"))
            return None
        try:
            path = self.resolve(item)
        except ValueError as error:
            self._fault(item.fault(clip(error, 160)))
            return None
        if not exists(path):  # os.path: false, not OSError, for a name that is too long
            self._fault(item.fault(f"no {kind} '{clip(item.value)}' for {what}"))
            return None
        return path

    def path_of(self, item: Item) -> Path:
        """The path `item` names, whether it is there or not: nobody opens it."""
        try:
            return self.resolve(item)
        except ValueError:
            return Path(str(item.value))

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
        self._bytes += path.stat().st_size
        if self._bytes > MAX_BYTES:
            text = f"the included files have more than {MAX_BYTES // 1024} KiB together"
            raise GraphError([*self.flat.told(), item.value["include"].fault(text)])
        part = self._read(path, str(path))
        if part is None or not self._is_mapping(part, "an included graph"):
            return
        self.unknown_keys(part, _PART_TOP)
        self._version(part)
        part = self._references.replaced(part, self._params(part, item.value.get("params"), prefix + name))
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

    def _unused(self, params: dict[str, Item], other: bool) -> None:
        """A fault for a `--set` of a parameter that nothing asks for; `other`: the rig is not the graph's own."""
        for name, item in ((s.path[-1], s.item) for k, s in enumerate(self.settings) if k in self._used):
            if name in params and id(params[name]) not in self._references.used:
                way = f"set an option of its device, as rig.{clip(name)}.uri=..., or leave out --rig"
                why = f": --rig names the devices; {way}" if other else ""
                self._fault(item.fault(f"nothing uses the parameter '{clip(name)}'{why}"))

    def _settings(self) -> None:
        """Put `--set node.param=value` and `--set rig.device.option=value` in place."""
        for index, setting in enumerate(self.settings):
            if index in self._used:
                continue
            scope, name, item = ".".join(setting.path[:-1]), setting.path[-1], setting.item
            if setting.path[0] == "rig" and len(setting.path) == 3:
                device = self.flat.devices.get(setting.path[1])
                if device is None:
                    hint = self.flat.hint(setting.path[1], self.flat.devices)
                    self._fault(item.fault(f"the rig has no device '{clip(setting.path[1])}'{hint}"))
                else:
                    device.value[name] = item
                    device.keys[name] = (1, 1)
            elif setting.path[0] == "rig":
                self._fault(item.fault("write it as rig.device.option=value; the device's address is its option 'uri'"))
            elif scope in self.flat.nodes:
                self.flat.overrides.setdefault(scope, {})[name] = item
            else:
                hint = self.flat.hint(scope, self.flat.nodes)
                self._fault(item.fault(f"the graph has no node '{clip(scope)}'{hint}"))


def _absolute(source: Item, prefix: str) -> Item:
    """An input's source with its node named from the graph's root: `/part/node.output`."""
    if isinstance(source.value, dict) and "from" in source.value:
        value: Any = {**source.value, "from": _absolute(source.value["from"], prefix)}
    elif isinstance(source.value, str) and not source.value.startswith("/"):
        value = f"/{prefix}{source.value}"
    else:
        value = source.value
    return Item(value, source.file, source.line, source.column, source.keys)
