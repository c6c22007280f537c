"""Holds the blocks `record:`, `report:` and `budgets:` against the graph's nodes."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from foveate import catalog, paths
from foveate.flat import SET
from foveate.graph import BudgetSpec, NodeSpec, Record, ReportSpec, Ring, Variant
from foveate.quantity import parse_bytes
from foveate.queues import Policy
from foveate.yaml_source import Item, clip

if TYPE_CHECKING:
    from foveate.checking import Checker

_VARIANT = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,63}")  # it becomes the name of a file beside run.mcap


def record_of(checker: Checker, nodes: dict[str, NodeSpec]) -> Record | None:
    """The checked `record:` block."""
    item = checker.flat.record
    if item is None or item.value is None:
        return None
    if not isinstance(item.value, dict):
        checker.fault(item.fault(f"record must be a mapping, not {item.kind}"))
        return None
    checker.expander.unknown_keys(item, ("to", "streams", "ring", "on_fault", "memory"), " in record")
    to = item.value.get("to")
    if to is not None and not _is_folder(checker, to):
        return None
    streams = item.value.get("streams")
    if streams is None or not isinstance(streams.value, list):
        checker.fault((streams or item).fault("record needs a list 'streams' of node.output"))
        return None
    found: list[tuple[str, str, Policy]] = []
    tolerances: dict[str, float] = {}
    for stream in streams.value:
        long = isinstance(stream.value, dict)
        if long:
            checker.expander.unknown_keys(stream, ("from", "queue", "tolerance"), " in a stream")
        if long and "from" not in stream.value:
            checker.fault(stream.fault("a stream needs 'from: node.output'"))
            continue
        policy = checker.policy(stream) if long and "queue" in stream.value else Policy("fifo", 256)
        output = checker.output(nodes, stream.value["from"] if long else stream, "")
        if output is not None:
            if any(output == (node, port) for node, port, _ in found):
                checker.fault(stream.fault(f"stream '{output[0]}.{output[1]}' is listed twice"))
            found.append((*output, policy))
            if long and "tolerance" in stream.value:
                tolerances[f"{output[0]}.{output[1]}"] = _tolerance(checker, stream.value["tolerance"])
    return Record(Path(to.value if to is not None else "logs"), tuple(found), tolerances, _ring(checker, item))


def _ring(checker: Checker, item: Item) -> Ring | None:
    """`ring: 10s`, with `on_fault: dump | keep` and `memory: 512MB`."""
    ring, on_fault, memory = (item.value.get(key) for key in ("ring", "on_fault", "memory"))
    if ring is None:
        for other in (on_fault, memory):
            if other is not None:
                checker.fault(other.fault("this belongs to a ring; add 'ring: 10s', or leave it out"))
        return None
    keep_ns = checker.duration(ring, "ring")
    if keep_ns is not None and keep_ns < 1_000_000:
        checker.fault(ring.fault(f"ring must be at least 1ms, not {ring.shown}"))
    if on_fault is not None and on_fault.value not in ("dump", "keep"):
        checker.fault(on_fault.fault(f"on_fault of a ring must be dump or keep, not {on_fault.shown}"))
    made = Ring(keep_ns or 1, dump_on_fault=on_fault is None or on_fault.value == "dump")
    if memory is not None:
        try:
            made = replace(made, most_bytes=parse_bytes(memory.value))
        except ValueError as error:
            checker.fault(memory.fault(f"memory: {error}"))
        if made.most_bytes < 1_000_000:
            checker.fault(memory.fault(f"memory must be at least 1MB, not {memory.shown}"))
    return made


def _tolerance(checker: Checker, item: Item) -> float:
    if isinstance(item.value, int | float) and not isinstance(item.value, bool) and 0 <= item.value < float("inf"):
        return float(item.value)
    checker.fault(item.fault(f"tolerance must be a number from 0, not {item.shown}"))
    return 0.0


def _is_folder(checker: Checker, to: Item) -> bool:
    """Whether `to` may be written to: from `--set` anywhere, from the YAML below the current folder."""
    if not isinstance(to.value, str) or not to.value:
        checker.fault(to.fault(f"'to' must be a folder, not {to.kind}"))
        return False
    try:
        paths.possible(to.value)
    except paths.Escape as error:
        checker.fault(to.fault(str(error)))
        return False
    folder = Path(to.value)
    if not to.file.startswith(SET) and (folder.is_absolute() or ".." in folder.parts):
        checker.fault(to.fault(f"'{clip(to.value)}' leaves the current folder; choose it with --output"))
        return False
    return True


def report_of(checker: Checker, nodes: dict[str, NodeSpec]) -> ReportSpec | None:
    """The checked `report:` block."""
    item = checker.flat.report
    if item is None or item.value is None:
        return None
    if not isinstance(item.value, dict) or "use" not in item.value:
        checker.fault(item.fault("report must be a mapping with 'use'"))
        return None
    checker.expander.unknown_keys(item, ("use", "compare"), " in report")
    use, known = item.value["use"], catalog.listing("reports")
    if not isinstance(use.value, str) or use.value not in known:
        checker.fault(use.fault(f"unknown report '{use.shown}'{checker.flat.hint(use.shown, known)}"))
    compare = item.value.get("compare")
    variants = []
    if compare is not None and isinstance(compare.value, dict):
        for name, changes in compare.value.items():
            if not _VARIANT.fullmatch(name):
                checker.fault(compare.key_fault(name, f"'{clip(name)}' is not a name (letters, digits, _; at most 64)"))
            elif name == "run":
                checker.fault(compare.key_fault(name, "'run' is the run itself; give the comparison another name"))
            elif isinstance(changes.value, dict):
                variants.append(_variant(checker, name, changes, nodes))
            else:
                checker.fault(changes.fault(f"'{clip(name)}' must map nodes to what replaces them"))
    elif compare is not None:
        checker.fault(compare.fault(f"compare must be a mapping, not {compare.kind}"))
    return ReportSpec(str(use.value), tuple(variants))


def _variant(checker: Checker, name: str, changes: Item, nodes: dict[str, NodeSpec]) -> Variant:
    replaced = {}
    for node, item in changes.value.items():
        if node not in checker.flat.nodes:
            hint = checker.flat.hint(node, checker.flat.nodes)
            checker.fault(changes.key_fault(node, f"unknown node '{clip(node)}'{hint}"))
            continue
        if not isinstance(item.value, dict):
            checker.fault(item.fault(f"what replaces '{node}' must be a mapping, not {item.kind}"))
            continue
        if "inputs" in item.value:
            checker.fault(item.key_fault("inputs", f"what replaces '{node}' keeps its inputs; leave them out"))
        if node not in nodes:  # it has faults of its own, which have been named
            continue
        spec = checker.node(node, item, {})
        if spec is None:
            continue
        old, new = nodes[node].schema, spec.schema
        for port in new.inputs.values():
            if port.name not in old.inputs or not issubclass(old.inputs[port.name].type, port.type):
                checker.fault(item.fault(f"'{spec.use}' takes '{port.name}', which '{nodes[node].use}' does not"))
        for port in old.outputs.values():
            if port.name not in new.outputs or not issubclass(new.outputs[port.name].type, port.type):
                checker.fault(item.fault(f"'{spec.use}' gives no '{port.name}', which '{nodes[node].use}' does"))
        replaced[node] = spec
    return Variant(name, replaced)


_QUANTILE = re.compile(r"p([0-9]{1,2}(?:\.[0-9]{1,3})?)")


def budgets_of(checker: Checker, nodes: dict[str, NodeSpec]) -> list[tuple[Item, BudgetSpec]]:
    """The checked `budgets:` list, each with its place: `{from: a.out, to: b.out, p99: 8ms}`."""
    block = checker.flat.budgets
    if block is None or block.value is None:
        return []
    if not isinstance(block.value, list):
        checker.fault(block.fault(f"budgets must be a list, not {block.kind}"))
        return []
    found: list[tuple[Item, BudgetSpec]] = []
    for item in block.value:
        if not isinstance(item.value, dict) or "from" not in item.value or "to" not in item.value:
            checker.fault(
                item.fault("a budget needs 'from: node.output', 'to: node.output' and a time, such as 'p99: 8ms'")
            )
            continue
        ends = [checker.output(nodes, item.value[key], "") for key in ("from", "to")]
        limits = {key: value for key, value in item.value.items() if key not in ("from", "to")}
        if not limits:
            checker.fault(item.fault("a budget needs a time, such as 'p99: 8ms' or 'max: 20ms'"))
        for key, value in limits.items():
            match = _QUANTILE.fullmatch(key)
            if key != "max" and (match is None or not 0 < float(match[1]) < 100):
                checker.fault(item.key_fault(key, f"'{clip(key)}' is no quantile; write p50, p99, p99.9 or max"))
                continue
            limit_ns = checker.duration(value, key)
            if limit_ns is not None and None not in ends:
                source, target = (f"{end[0]}.{end[1]}" for end in ends if end is not None)
                share = 1.0 if match is None else float(match[1]) / 100
                found.append((item, BudgetSpec(source, target, share, limit_ns)))
    return found
