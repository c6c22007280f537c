"""Holds a node's blocks `on_fault:` and `sync:` against what they may say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.graph import Method, SyncSpec
from foveate.messages import Message
from foveate.node import Schema
from foveate.supervision import FaultPolicy
from foveate.yaml_source import Item, clip

if TYPE_CHECKING:
    from foveate.checking import Checker

_ACTIONS = ("stop", "restart", "ignore")
_METHODS: tuple[Method, ...] = ("exact", "nearest", "interpolate", "interval", "latest")


def fault_policy(checker: Checker, item: Item) -> FaultPolicy:
    """`on_fault: restart`, or `{do: restart, times: 5, within: 60s, backoff: 100ms}`."""
    fields = item.value if isinstance(item.value, dict) else {"do": item}
    if isinstance(item.value, dict):
        checker.expander.unknown_keys(item, ("do", "times", "within", "backoff"), " in on_fault")
    do, default = fields.get("do"), FaultPolicy()
    if do is None or do.value not in _ACTIONS:
        place = item if do is None else do
        checker.fault(
            place.fault(f"on_fault must be one of {', '.join(_ACTIONS)}, not {place.shown if do else 'nothing'}")
        )
        return default
    times = fields.get("times")
    count = default.times if times is None else times.value
    if not isinstance(count, int) or isinstance(count, bool) or not 1 <= count <= 1_000_000:
        assert times is not None
        checker.fault(times.fault(f"times must be a whole number from 1, not {times.shown}"))
        count = default.times
    within = checker.duration(fields["within"], "within") if "within" in fields else None
    if within == 0:
        checker.fault(fields["within"].fault("within must be longer than nothing: it bounds how often it restarts"))
    backoff = checker.duration(fields["backoff"], "backoff") if "backoff" in fields else None
    return FaultPolicy(
        do.value, count, default.within_ns if within is None else within,
        default.backoff_ns if backoff is None else backoff,
    )  # fmt: skip


def sync_spec(checker: Checker, item: Item, name: str, schema: Schema) -> SyncSpec | None:
    """`sync: {reference: frame, window: 8ms, deadline: 30ms, stale: 1s, match: {pose: interpolate}}`."""
    if not isinstance(item.value, dict):
        checker.fault(item.fault(f"sync of '{name}' must be a mapping, not {item.kind}"))
        return None
    checker.expander.unknown_keys(item, ("reference", "window", "deadline", "stale", "match"), f" in sync of '{name}'")
    inputs = list(schema.inputs)
    if len(inputs) < 2:
        checker.fault(item.fault(f"'{name}' has {len(inputs)} input; there is nothing to match"))
        return None
    given = item.value.get("reference")
    reference = given.value if given is not None else inputs[0]
    if not isinstance(reference, str) or reference not in schema.inputs or not schema.inputs[reference].required:
        place = given if given is not None else item
        checker.fault(place.fault(f"the reference must be an input that is not optional, not '{place.shown}'"))
        return None
    methods = _methods(checker, item, name, schema, reference)
    times = {
        key: checker.duration(item.value[key], key) if key in item.value else None
        for key in ("window", "deadline", "stale")
    }
    if "window" not in item.value and any(method in ("nearest", "interpolate") for method in methods.values()):
        checker.fault(item.fault(f"sync of '{name}' needs a window, such as 8ms"))
    return SyncSpec(reference, methods, times["window"] or 0, times["deadline"], times["stale"])


def _methods(checker: Checker, item: Item, name: str, schema: Schema, reference: str) -> dict[str, Method]:
    match = item.value.get("match")
    given = match.value if match is not None else {}
    if not isinstance(given, dict):
        given = {port: match for port in schema.inputs if port != reference}
    found: dict[str, Method] = {}
    for port in given:
        if port == reference:
            checker.fault(match.key_fault(port, f"'{port}' is the reference; the others are matched with it"))
        elif port not in schema.inputs:
            others = [name for name in schema.inputs if name != reference]
            checker.fault(
                match.key_fault(port, f"'{clip(port)}' is no input to match{checker.flat.hint(port, others)}")
            )
    for port, spec in schema.inputs.items():
        if port == reference:
            continue
        place = given.get(port)
        method = place.value if place is not None else "interval" if spec.many else "nearest"
        where = place if place is not None else item
        if method not in _METHODS:
            checker.fault(where.fault(f"match of '{port}' must be one of {', '.join(_METHODS)}, not {where.shown}"))
        elif (method == "interval") != spec.many:
            takes = f"tuple[{spec.type.__name__}, ...]" if spec.many else spec.type.__name__
            checker.fault(where.fault(f"'{name}.{port}' takes {takes}; '{method}' does not fit that"))
        elif method == "interpolate" and spec.type.between.__func__ is Message.between.__func__:  # type: ignore[attr-defined]
            checker.fault(where.fault(f"{spec.type.__name__} of '{name}.{port}' cannot be interpolated"))
        else:
            found[port] = method
    return found
