"""What is different between a recording's seal and what would run now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from foveate.errors import FoveateError


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that is not as it was recorded."""

    kind: str  # "node" | "parameter" | "file" | "wires" | "version"
    name: str
    before: str
    after: str
    asked: bool  # somebody asked for it by name

    def __str__(self) -> str:
        return f"{self.kind} {self.name}: was {self.before}, is {self.after}"


class Changed(FoveateError):
    """A replay that would not run what was recorded."""

    def __init__(self, log: object, changes: list[Change]) -> None:
        self.changes = changes
        listed = "\n".join(f"  {change}" for change in changes)
        super().__init__(
            f"{log}: what would run is not what was recorded; --allow-changes replays it all the same\n{listed}"
        )


def changes(seal: Mapping[str, Any], now: Mapping[str, Any], asked: set[str], idle: set[str]) -> list[Change]:
    """All differences between the seal and `seal.provenance` of the graph that would run.

    `asked`: parameters (`node.param`) and nodes that the user changed by name; `idle`: nodes whose outputs come from
    the recording, and devices (`rig.name`) that no other node uses: how they were made does not matter. Files of
    devices that are not opened in a replay may be absent.
    """
    found = []
    before, after = seal.get("uses", {}), now["uses"]
    other = {name for name in before.keys() & after.keys() if before[name] != after[name]}
    found += [Change("node", name, before[name], after[name], name in asked) for name in sorted(other)]
    old, new = seal.get("parameters", {}), now["parameters"]
    for name in sorted(old.keys() | new.keys()):
        a, b = (side.get(name, {"value": "absent"})["value"] for side in (old, new))
        if a != b and name.rpartition(".")[0] not in other | idle:
            found.append(Change("parameter", name, str(a), str(b), _asked(name, new, asked)))
    for name in sorted(seal.get("files", {}).keys() & now["files"].keys()):
        a, b = (_digest(side["files"][name]) for side in (seal, now))
        if a != b:
            found.append(Change("file", name, f"sha256 {a[:12]}", f"sha256 {b[:12]}", False))
    for name in sorted((set(seal.get("nodes", [])) & set(now["nodes"])) - other - idle):
        a, b = (", ".join(_wires_of(side, name)) for side in (seal, now))
        if a != b:
            found.append(Change("wires", name, a or "none", b or "none", name in asked))
    for name in sorted(seal.get("versions", {}).keys() | now["versions"].keys()):
        a, b = (side.get("versions", {}).get(name, "not installed") for side in (seal, now))
        if a != b:
            found.append(Change("version", name, a, b, True))  # shown, never refused: --verify judges it
    return found


def _asked(name: str, new: Mapping[str, Any], asked: set[str]) -> bool:
    return name in asked or new.get(name, {}).get("origin") == "--set"


def _digest(entry: Mapping[str, Any]) -> str:
    return str(entry.get("sha256") or entry.get("listing_sha256") or "")


def _wires_of(side: Mapping[str, Any], node: str) -> list[str]:
    return sorted(e["wire"] for e in side.get("wires", []) if e["wire"].rpartition(" -> ")[2].startswith(f"{node}."))
