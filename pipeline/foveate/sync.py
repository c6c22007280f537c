"""The synchroniser: messages of several sensors that belong together, or the reason why there are none.

Every message of the reference input asks for one set. An input of the type `X | None` may be missing from it
(a partial set); without any of the others the reference is dropped. Stamps of one input never decrease; a
message whose stamp repeats is dropped as `repeated`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from foveate.graph import Method, SyncSpec
from foveate.messages import Message
from foveate.metrics import Histogram
from foveate.queues import Item
from foveate.station import Inlet, Station, Taken

Reason = Literal["outside", "absent", "deadline", "stale"]
_REMEMBERED = 64  # missed references whose partner may still come


@dataclass(slots=True)
class InputStats:
    """How one input matched."""

    matched: int = 0
    missed: dict[str, int] = field(default_factory=dict)  # by Reason
    offset: Histogram = field(default_factory=Histogram)  # |stamp - reference| of the nearest message, all sets
    outside: Histogram = field(default_factory=Histogram)  # the same, of those beyond the window
    delay: Histogram = field(default_factory=Histogram)  # of partners after the deadline: time since the reference came
    frozen: bool = False  # it gives nothing new


@dataclass(frozen=True, slots=True)
class _Found:
    """What one input has for a reference."""

    items: tuple[Item, ...] = ()
    reason: Reason | None = None  # why it has nothing
    wait: bool = False  # it may still come
    offset_ns: int | None = None  # of the nearest message


class SyncInlet:
    """One partner input: what waits, and what was used and may be used again."""

    def __init__(self, inlet: Inlet, method: Method, spec: SyncSpec) -> None:
        self.inlet = inlet
        self.method = method
        self.stats = InputStats()
        self.last_put_ns = 0
        self._window_ns = spec.window_ns
        self._used: deque[Item] = deque()
        self._newest = -(2**63)
        self._seen = 0
        self._missed: deque[tuple[int, int]] = deque(maxlen=_REMEMBERED)  # stamp and time put of references

    def look(self, now_ns: int) -> None:
        """Note what has come since the last look; repeated stamps are dropped."""
        queue = self.inlet.queue
        queue.discard_expired(now_ns)
        for item in [i for i in queue.waiting if i.sequence > self._seen]:
            self._seen = item.sequence
            t_ns = item.message.stamp.t_ns
            if t_ns <= self._newest:
                queue.remove(item.sequence, "repeated", now_ns)
                continue
            self._newest, self.last_put_ns, self.stats.frozen = t_ns, item.put_ns, False
            for missed in [m for m in self._missed if abs(m[0] - t_ns) <= self._window_ns]:
                self.stats.delay.record(item.put_ns - missed[1])
                self._missed.remove(missed)

    def find(self, reference: Item, final: bool) -> _Found:
        """The partners of `reference`; `final`: nothing more is waited for."""
        t_ns = reference.message.stamp.t_ns
        items = [*self._used, *self.inlet.queue.waiting]
        if self.method == "interval":
            return self._interval(reference, items, final)
        if self.method == "latest":  # it holds until something newer comes: a calibration
            return _Found(tuple(items[-1:]), None if items else "absent")
        before = next((i for i in reversed(items) if i.message.stamp.t_ns <= t_ns), None)
        after = next((i for i in items if i.message.stamp.t_ns >= t_ns), None)
        if after is None and not final:
            return _Found(wait=True)
        near = [i for i in (before, after) if i is not None]
        if not near:
            return _Found(reason="deadline")
        nearest = min(near, key=lambda i: abs(i.message.stamp.t_ns - t_ns))
        offset = abs(nearest.message.stamp.t_ns - t_ns)
        if self.method == "exact":
            reason: Reason | None = None if not offset else "deadline" if after is None else "absent"
            return _Found((nearest,) if not offset else (), reason, offset_ns=offset)
        if self.method == "interpolate" and offset:
            if before is None or after is None:
                return _Found(reason="deadline" if after is None else "absent", offset_ns=offset)
            apart = max(t_ns - before.message.stamp.t_ns, after.message.stamp.t_ns - t_ns)
            pair = (before, after) if apart <= self._window_ns else ()
            return _Found(pair, None if pair else "outside", offset_ns=apart)
        if offset <= self._window_ns:
            return _Found((nearest,), offset_ns=offset)
        # without a later message the partner may be on its way: the deadline took it
        return _Found(reason="deadline" if after is None else "outside", offset_ns=offset)

    @staticmethod
    def _interval(reference: Item, items: list[Item], final: bool) -> _Found:
        begin, end = interval_of(reference.message)
        stamps = [i.message.stamp for i in items]
        if not final and not any(s.t_ns + s.exposure_ns // 2 >= end for s in stamps):
            return _Found(wait=True)
        if final and not any(s.t_ns + s.exposure_ns // 2 >= begin for s in stamps):
            return _Found(reason="deadline")
        return _Found(tuple(i for i in items if i.message.within(begin, end) is not None))

    def take(self, found: _Found, now_ns: int) -> None:
        """Use what was found."""
        queue = self.inlet.queue
        self.stats.matched += found.reason is None
        used = {item.sequence for item in found.items}
        while used and len(queue) and queue.waiting[0].sequence <= max(used):
            if queue.waiting[0].sequence in used:
                self._used.append(queue.take())
            else:
                queue.discard("unmatched", now_ns)

    def conclude(self, found: _Found, reference: Item, now_ns: int) -> None:
        """Count how it went, and let go of what no later reference can match."""
        if found.offset_ns is not None:
            self.stats.offset.record(found.offset_ns)
            if found.reason == "outside":
                self.stats.outside.record(found.offset_ns)
        if found.reason is not None:
            self.stats.missed[found.reason] = self.stats.missed.get(found.reason, 0) + 1
            if found.reason == "deadline":
                self._missed.append((reference.message.stamp.t_ns, reference.put_ns))
        self._prune(reference, now_ns)

    def _prune(self, reference: Item, now_ns: int) -> None:
        t_ns, queue = reference.message.stamp.t_ns, self.inlet.queue
        if self.method == "interval":
            _, end = interval_of(reference.message)
            while self._used and self._used[0].message.within(end, 2**62) is None:
                self._used.popleft()
            while len(queue) and queue.waiting[0].message.within(end, 2**62) is None:
                queue.discard("unmatched", now_ns)
            return
        # the newest one before the reference may still be a later one's nearest, or one end of its interpolation
        while len(queue) > 1 and queue.waiting[1].message.stamp.t_ns <= t_ns:
            queue.discard("unmatched", now_ns)
        while len(self._used) > 1 and self._used[1].message.stamp.t_ns <= t_ns:
            self._used.popleft()

    def say(self, source: str) -> list[str]:
        """Why sets were missed, and what would have helped; a line a reason."""
        s, lines = self.stats, []
        ms = 1e6
        for reason, count in sorted(s.missed.items()):
            if reason == "outside":
                lines.append(
                    f"{source} off by {s.outside.quantile_ns(0.5) / ms:.3g} ms > window {self._window_ns / ms:g} ms, "
                    f"{count} times; {s.offset.quantile_ns(0.99) / ms:.3g} ms would match 99 %"
                )
            elif reason == "deadline":
                late = s.delay.quantile_ns(0.99) / ms
                hint = f"; {late:.3g} ms would have been enough for 99 % of those that came" if s.delay.total else ""
                lines.append(f"{source} had not come by the deadline, {count} times{hint}")
            elif reason == "stale":
                lines.append(f"{source} gave nothing new, {count} sets did not wait for it")
            else:
                lines.append(f"{source} had no message for the reference, {count} times")
        return lines


class SyncStation(Station):
    """A station whose steps work on sets of messages that belong together."""

    needs = "set"

    def match(self, spec: SyncSpec) -> None:
        """Called once, before the run."""
        self._spec = spec
        self._reference = next(i for i in self.inlets if i.port.name == spec.reference)
        self.partners = {
            i.port.name: SyncInlet(i, spec.methods[i.port.name], spec) for i in self.inlets if i is not self._reference
        }
        self._set: dict[str, _Found] | None = None
        self._wake: int | None = None

    def ready(self, now_ns: int) -> bool:
        queue = self._reference.queue
        queue.discard_expired(now_ns)
        for partner in self.partners.values():
            partner.look(now_ns)
        while self._set is None and len(queue):
            found = self._find(queue.waiting[0], now_ns)
            if found is None:
                return False
            if any(f.reason is not None and self.partners[n].inlet.port.required for n, f in found.items()):
                for name, item in found.items():
                    self.partners[name].conclude(item, queue.waiting[0], now_ns)
                queue.discard("unmatched", now_ns)
                continue
            self._set = found
        return self._set is not None

    def _find(self, reference: Item, now_ns: int) -> dict[str, _Found] | None:
        """The set of a reference; None as long as it is worth waiting."""
        spec, found = self._spec, {}
        over = spec.deadline_ns is not None and now_ns >= reference.put_ns + spec.deadline_ns
        wakes = [] if spec.deadline_ns is None else [reference.put_ns + spec.deadline_ns]
        for name, partner in self.partners.items():
            since = max(partner.last_put_ns, 0)
            stale = spec.stale_ns is not None and now_ns >= since + spec.stale_ns
            item = partner.find(reference, over or stale)
            if item.wait:
                if spec.stale_ns is not None:
                    wakes.append(since + spec.stale_ns)
                self._wake = min(wakes) if wakes else None
                return None
            if stale and item.reason == "deadline":
                partner.stats.frozen = True
                item = _Found(reason="stale")
            found[name] = item
        self._wake = None
        return found

    def wake_ns(self) -> int | None:
        return self._wake if len(self._reference.queue) else None

    def consume(self, now_ns: int) -> Taken:
        assert self._set is not None
        found, self._set = self._set, None
        reference = self._reference.queue.waiting[0]
        inputs = [self._reference.queue.wire, reference.sequence]
        picked: dict[str, list[Message]] = {}
        for name, item in found.items():
            self.partners[name].take(item, now_ns)
            self.partners[name].conclude(item, reference, now_ns)
            picked[name] = [i.message for i in item.items]
            wire = self.partners[name].inlet.queue.wire
            for used in item.items:
                inputs += (wire, used.sequence)
            if item.reason is not None:
                inputs += (wire, 0)
        self._reference.queue.take()
        holes = {name for name, item in found.items() if item.reason is not None}
        return Taken(self._arguments(reference.message, picked, holes), reference.put_ns, tuple(inputs))

    def recall(self, picked: Mapping[int, list[Message]], inlets: Mapping[int, Inlet]) -> dict[str, Any]:
        wires = {inlet.port.name: wire for wire, inlet in inlets.items()}
        reference = picked[wires[self._spec.reference]][0]
        by_name = {name: picked.get(wires[name], []) for name in self.partners}
        holes = {name for name in self.partners if not by_name[name] and wires[name] in picked}
        return self._arguments(reference, by_name, holes)

    def _arguments(self, reference: Message, picked: Mapping[str, list[Message]], holes: set[str]) -> dict[str, Any]:
        arguments: dict[str, Any] = {**self.unconnected, self._spec.reference: reference}
        for name, messages in picked.items():
            method = self.partners[name].method
            if name in holes:
                arguments[name] = None
            elif method == "interval":
                begin, end = interval_of(reference)
                parts = [m.within(begin, end) for m in messages]
                arguments[name] = tuple(part for part in parts if part is not None)
            elif len(messages) == 2:
                arguments[name] = type(messages[0]).between(messages[0], messages[1], reference.stamp.t_ns)
            else:
                arguments[name] = messages[0]
        return arguments

    def say(self) -> list[str]:
        """Why sets were missed, a line each."""
        return [
            f"{self.name}: {line}"
            for partner in self.partners.values()
            for line in partner.say(f"{partner.inlet.wire.source}.{partner.inlet.wire.output}")
        ]


def interval_of(reference: Message) -> tuple[int, int]:
    """The exposure of a reference, begin and end."""
    stamp = reference.stamp
    begin = stamp.t_ns - stamp.exposure_ns // 2
    return begin, begin + max(stamp.exposure_ns, 1)
