"""Reads YAML into values that know their line and column; refuses what could hurt.

A subset of YAML 1.2 that no bomb fits in: no anchors, aliases or tags, at most 12 levels, 256 KiB and
20,000 events; keys are unique strings. Scalars follow the 1.2 core schema (`no` is a string, 017 is 17).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foveate.errors import Fault, GraphError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 12
MAX_EVENTS = 20_000
_INT = re.compile(r"[-+]?[0-9]+")
_OTHER_INT = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NAMED = {"": None, "~": None, "null": None, "Null": None, "NULL": None,
          "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}  # fmt: skip
_MAX_DIGITS = 40
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(slots=True)
class Item:
    """A value of the document: scalar, list of Item, or dict of Item, with its place."""

    value: Any
    file: str
    line: int
    column: int
    keys: dict[str, tuple[int, int]] = field(default_factory=dict)  # of a mapping: line, column

    def fault(self, text: str) -> Fault:
        """A fault at this value."""
        return Fault(self.file, self.line, self.column, text)

    def key_fault(self, key: str, text: str) -> Fault:
        """A fault at one of this mapping's keys."""
        line, column = self.keys[key]
        return Fault(self.file, line, column, text)

    def plain(self) -> Any:
        """The value without places."""
        if isinstance(self.value, dict):
            return {key: item.plain() for key, item in self.value.items()}
        return [item.plain() for item in self.value] if isinstance(self.value, list) else self.value

    @property
    def shown(self) -> str:
        """The value as one short line, for messages."""
        if self.value is None or isinstance(self.value, bool):
            return {None: "nothing", True: "true", False: "false"}[self.value]
        return clip(self.plain())

    @property
    def kind(self) -> str:
        """What it is, for messages."""
        names = {dict: "a mapping", list: "a list", str: "text", bool: "true or false",
                 int: "a whole number", float: "a number", type(None): "nothing"}  # fmt: skip
        return names[type(self.value)] if self.value != "" else "an empty text"


def read_file(path: Path, name: str | None = None) -> Item:
    """The document in a file. Raises GraphError with one fault: `name` (default the path) and place."""
    name = name if name is not None else str(path)
    try:
        with path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise GraphError([Fault(name, 1, 1, f"cannot read: {error.strerror}")]) from None
    return read_text(data, name)


def read_text(data: bytes | str, name: str) -> Item:
    """The document in `data`. Raises GraphError with one fault."""
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if len(raw) > MAX_BYTES:
        raise GraphError([Fault(name, 1, 1, f"longer than {MAX_BYTES // 1024} KiB")])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - (raw.rfind(b"\n", 0, error.start) + 1) + 1
        raise GraphError([Fault(name, line, column, f"not UTF-8: byte 0x{raw[error.start]:02x}")]) from None
    return _Reader(text, name).document()


class _Reader:
    """Turns parser events into items without recursion deeper than MAX_DEPTH."""

    def __init__(self, text: str, name: str) -> None:
        import yaml

        self._yaml = yaml
        self._name = name
        self._text = text
        self._count = 0
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self._stream = self._guarded(yaml.parse(text, Loader=loader))

    def _fail(self, mark: Any, text: str) -> GraphError:
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        return GraphError([Fault(self._name, line, column, text)])

    def _character(self, mark: Any) -> str:
        lines = self._text.split("\n")
        return lines[mark.line][mark.column : mark.column + 1] if mark.line < len(lines) else ""

    def _guarded(self, events: Iterator[Any]) -> Iterator[Any]:
        yaml = self._yaml
        try:
            for event in events:
                self._count += 1
                if self._count > MAX_EVENTS:
                    raise self._fail(event.start_mark, f"more than {MAX_EVENTS} elements")
                if isinstance(event, yaml.AliasEvent):
                    raise self._fail(event.start_mark, "aliases (*name) are not allowed; use ${params.name}")
                if getattr(event, "anchor", None) is not None:
                    raise self._fail(event.start_mark, "anchors (&name) are not allowed; use ${params.name}")
                if getattr(event, "tag", None) is not None:
                    raise self._fail(event.start_mark, f"tags ({clip(event.tag)}) are not allowed")
                yield event
        except yaml.MarkedYAMLError as error:
            problem = " ".join(part for part in (error.context, error.problem) if part)
            mark = error.problem_mark or error.context_mark
            if mark is not None and self._character(mark) == "\t":
                problem = "a tab; indent with spaces"
            raise self._fail(mark, f"not YAML: {clip(problem, 120)}") from None
        except yaml.reader.ReaderError as error:
            found = _UNPRINTABLE.search(self._text)
            if found is None:
                raise self._fail(None, f"not YAML: {clip(error.reason, 120)}") from None
            before = self._text[: found.start()]
            place = (before.count("\n") + 1, len(before) - before.rfind("\n"))
            text = f"character #x{ord(found[0]):04x} is not allowed"
            raise GraphError([Fault(self._name, *place, text)]) from None

    def document(self) -> Item:
        yaml = self._yaml
        item = Item(None, self._name, 1, 1)
        documents = 0
        for event in self._stream:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._fail(event.start_mark, "a second document; one file holds one graph")
                item = self._value(next(self._stream), 0)
        return item

    def _value(self, event: Any, depth: int) -> Item:
        yaml = self._yaml
        if depth > MAX_DEPTH:
            raise self._fail(event.start_mark, f"nested deeper than {MAX_DEPTH} levels")
        place = (self._name, event.start_mark.line + 1, event.start_mark.column + 1)
        if isinstance(event, yaml.ScalarEvent):
            return Item(self._scalar(event), *place)
        if isinstance(event, yaml.SequenceStartEvent):
            items = []
            while not isinstance(inner := next(self._stream), yaml.SequenceEndEvent):
                items.append(self._value(inner, depth + 1))
            return Item(items, *place)
        mapping = Item({}, *place)
        while not isinstance(key := next(self._stream), yaml.MappingEndEvent):
            name = self._key(key, mapping)
            mapping.keys[name] = (key.start_mark.line + 1, key.start_mark.column + 1)
            mapping.value[name] = self._value(next(self._stream), depth + 1)
        return mapping

    def _key(self, event: Any, mapping: Item) -> str:
        if not isinstance(event, self._yaml.ScalarEvent):
            raise self._fail(event.start_mark, "a key must be a word")
        name = str(event.value)
        if name == "<<":
            raise self._fail(event.start_mark, "merge keys (<<) are not allowed; use include")
        if name in mapping.value:
            first = mapping.keys[name][0]
            raise self._fail(event.start_mark, f"'{clip(name)}' is given twice; first in line {first}")
        return name

    def _scalar(self, event: Any) -> Any:
        text = str(event.value)
        return text if event.style else plain_scalar(text)  # a style is quotes or a block


def plain_scalar(text: str) -> Any:
    """What a text means where it stands without quotes: nothing, true or false, a number, or itself."""
    if text in _NAMED:
        return _NAMED[text]
    if len(text) > _MAX_DIGITS:
        return text
    if _INT.fullmatch(text):
        return int(text)
    if _OTHER_INT.fullmatch(text):
        return int(text, 0)
    return float(text) if _FLOAT.fullmatch(text) else text


def clip(value: object, length: int = 60) -> str:
    """`value` as one short line, for messages."""
    text = " ".join(str(value).split())
    text = "".join(c if c.isprintable() else "?" for c in text)
    return text if len(text) <= length else text[: length - 3] + "..."
