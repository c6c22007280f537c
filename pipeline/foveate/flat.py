"""What is read from graph files before it is held against the code, and the faults found so far."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

from foveate import yaml_source
from foveate.catalog import did_you_mean
from foveate.errors import Fault, GraphError
from foveate.yaml_source import Item, clip

SET = "--set "
MAX_FAULTS = 100
MAX_LINE = 500  # characters of a fault
MAX_COMPARED = 20_000  # characters of names; 80 of them may take 0.3 ms


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
    budgets: Item | None = None
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
