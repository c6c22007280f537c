"""Holds a node's blocks `on_fault:` and `sync:` against what they may say."""

from __future__ import annotations

from typing import TYPE_CHECKING

from foveate.supervision import FaultPolicy
from foveate.yaml_source import Item

if TYPE_CHECKING:
    from foveate.checking import Checker

_ACTIONS = ("stop", "restart", "ignore")


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
    backoff = checker.duration(fields["backoff"], "backoff") if "backoff" in fields else None
    return FaultPolicy(
        do.value, count, default.within_ns if within is None else within,
        default.backoff_ns if backoff is None else backoff,
    )  # fmt: skip
