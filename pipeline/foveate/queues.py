"""Queue policies and the ledger of a wire. Pure bookkeeping: the executors add locks and time."""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from foveate.messages import Message, size_of

Kind = Literal["latest", "fifo", "block", "every"]
_POLICY = re.compile(r"(latest)|(fifo|block|every)\(([0-9]{1,6})\)")


@dataclass(frozen=True, slots=True)
class Policy:
    """What a wire does when messages come faster than they are taken.

    latest: keeps the newest one. fifo(n): keeps n, drops the oldest. block(n): keeps n, then the
    producer waits. every(n): lets each n-th through, keeps the newest of those.
    """

    kind: Kind = "latest"
    size: int = 1
    max_age_ns: int | None = None  # a message older than this when it is taken is dropped

    @classmethod
    def parse(cls, text: str, max_age_ns: int | None = None) -> Policy:
        """`latest`, `fifo(8)`, `block(4)` or `every(10)`. Raises ValueError."""
        match = _POLICY.fullmatch(text.replace(" ", ""))
        if match is None or (match[3] is not None and int(match[3]) < 1):
            raise ValueError(f"unknown queue {text!r}; one of latest, fifo(n), block(n), every(n), n from 1")
        if match[1]:
            return cls("latest", 1, max_age_ns)
        return cls(match[2], int(match[3]), max_age_ns)  # type: ignore[arg-type]

    def __str__(self) -> str:
        return self.kind if self.kind == "latest" else f"{self.kind}({self.size})"


@dataclass(slots=True)
class Ledger:
    """Where every message of a wire went; each counter is kept by the place it names."""

    produced: int = 0  # handed to the wire by the producer
    delivered: int = 0  # taken by a step of the consumer
    dropped: dict[str, int] = field(default_factory=dict)  # by reason

    @staticmethod
    def copy(other: Ledger) -> Ledger:
        """A plain ledger with the same counts."""
        return Ledger(other.produced, other.delivered, dict(other.dropped))

    def drop(self, reason: str) -> None:
        self.dropped[reason] = self.dropped.get(reason, 0) + 1

    def revoke(self, reason: str) -> None:
        """A delivered message was lost after all."""
        self.delivered -= 1
        self.drop(reason)

    def missing(self, in_flight: int) -> int:
        """Messages unaccounted for: 0 in a correct engine."""
        return self.produced - self.delivered - sum(self.dropped.values()) - in_flight


class Item(NamedTuple):
    """A message on a wire."""

    message: Message
    put_ns: int  # when it was put
    sequence: int  # how many messages the output had given with it: from 1


class Drop(NamedTuple):
    """A message that did not arrive."""

    wire: int  # place among the graph's wires
    sequence: int
    reason: str
    t_ns: int


class Queue:
    """The messages waiting on one wire. Not safe for threads by itself."""

    __slots__ = ("_bytes", "_count", "_items", "closed", "drops", "ledger", "most_bytes", "policy", "wire")

    def __init__(self, policy: Policy, wire: int = -1) -> None:
        """`wire`: its place among the graph's wires."""
        self.most_bytes = 0  # of messages that wait, 0 = no bound; the oldest go first, as `full`
        self._bytes = 0
        self.policy = policy
        self.wire = wire
        self.ledger = Ledger()
        self.closed = False  # the consumer has gone: whatever comes is dropped
        self.drops: deque[Drop] | None = None  # where drops are noted, if anybody wants to know
        self._items: deque[Item] = deque()
        self._count = 0

    def __len__(self) -> int:
        return len(self._items)

    @property
    def first_put_ns(self) -> int:
        """When the oldest waiting message was put. Raises IndexError when empty."""
        return self._items[0].put_ns

    @property
    def waiting(self) -> deque[Item]:
        """What waits, oldest first. Read only: the ledger must see every change."""
        return self._items

    @property
    def has_room(self) -> bool:
        """Whether `put` would be accepted now; only a blocking queue is ever full."""
        return self.closed or self.policy.kind != "block" or len(self._items) < self.policy.size

    def put(self, message: Message, now_ns: int, sequence: int = 0) -> None:
        """Take over a message at `now_ns`. The caller has waited for `has_room`.

        `sequence`: its number, where it is not simply the next one (a recording with gaps).
        """
        ledger, policy = self.ledger, self.policy
        ledger.produced += 1
        self._count = sequence or self._count + 1
        if self.closed:
            self._drop("closed", self._count, now_ns)
            return
        if policy.kind == "every" and (self._count - 1) % policy.size:
            self._drop("skipped", self._count, now_ns)
            return
        room = policy.size if policy.kind in ("fifo", "block") else 1
        if len(self._items) >= room:
            self._drop("full" if policy.kind == "fifo" else "replaced", self._pop().sequence, now_ns)
        self._items.append(Item(message, now_ns, self._count))
        if self.most_bytes:
            self._bytes += size_of(message)
            while self._bytes > self.most_bytes and len(self._items) > 1:
                self.discard("full", now_ns)

    def refuse(self, reason: str, now_ns: int) -> None:
        """Count a message that is not taken over at all."""
        self.ledger.produced += 1
        self._count += 1
        self._drop(reason, self._count, now_ns)

    def _drop(self, reason: str, sequence: int, now_ns: int) -> None:
        self.ledger.drop(reason)
        if self.drops is not None:
            self.drops.append(Drop(self.wire, sequence, reason, now_ns))

    def discard(self, reason: str, now_ns: int) -> None:
        """Drop the oldest message. Raises IndexError when empty."""
        self._drop(reason, self._pop().sequence, now_ns)

    def _pop(self) -> Item:
        item = self._items.popleft()
        if self.most_bytes:
            self._bytes -= size_of(item.message)
        return item

    def remove(self, sequence: int, reason: str, now_ns: int) -> None:
        """Drop one message out of turn."""
        self._items = deque(item for item in self._items if item.sequence != sequence)
        self._drop(reason, sequence, now_ns)

    def discard_expired(self, now_ns: int) -> None:
        """Drop what is older than the policy's `max_age`, counted from the message's stamp."""
        limit = self.policy.max_age_ns
        if limit is None:
            return
        while self._items and now_ns - self._items[0].message.stamp.t_ns > limit:
            self.discard("expired", now_ns)

    def take(self) -> Item:
        """The oldest message. Raises IndexError when empty."""
        item = self._pop()
        self.ledger.delivered += 1
        return item
