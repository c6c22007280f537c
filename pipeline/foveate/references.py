"""Puts values in place of `${params.name}`, within limits that keep a small file small."""

from __future__ import annotations

import re

from foveate.errors import Fault, GraphError
from foveate.flat import Flat
from foveate.yaml_source import Item, clip

MAX_TEXT = 4096  # characters of a text with `${...}` inside
MAX_REPEATED = 20_000  # elements and lines of text that references may add to those written
REFERENCE = re.compile(r"\$\{([^{}$]*)\}")


class References:
    """Replaces references; faults go to the flat graph."""

    def __init__(self, flat: Flat) -> None:
        self._flat = flat
        self._repeated = 0
        self.used: set[int] = set()  # `id` of the values that were asked for

    def _broken(self, fault: Fault) -> None:
        self._flat.add(fault, broken=True)

    def replaced(self, item: Item, params: dict[str, Item], skip: str = "params") -> Item:
        """`item` with `${params.x}` replaced; `${rig.x}` stays for later."""
        if isinstance(item.value, dict):
            value = {k: v if k == skip else self.replaced(v, params, "") for k, v in item.value.items()}
            return Item(value, item.file, item.line, item.column, item.keys)
        if isinstance(item.value, list):
            return Item([self.replaced(v, params, "") for v in item.value], item.file, item.line, item.column)
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
            hint = self._flat.hint(key, params)
            self._broken(item.fault(f"unknown parameter '{clip(key)}' in ${{{clip(name)}}}{hint}"))
            return None
        found = params[key]
        self.used.add(id(found))
        if _refers(found):
            self._broken(item.fault(f"parameter '{clip(key)}' refers to another parameter; give it a value"))
            return None
        self._repeated += _size(found)
        if self._repeated > MAX_REPEATED:
            raise GraphError([*self._flat.told(), item.fault(f"references repeat more than {MAX_REPEATED} elements")])
        return found


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
