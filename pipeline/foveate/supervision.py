"""What happens when a node fails: the run stops, the node starts anew, or the failure is counted and passed over."""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from foveate.node import Node

Action = Literal["stop", "restart", "ignore"]
_LONGEST_BACKOFF_NS = 5_000_000_000


@dataclass(frozen=True, slots=True)
class FaultPolicy:
    """A node's `on_fault`."""

    action: Action = "stop"
    times: int = 5  # restarts in the time `within`; one more failure stops the run
    within_ns: int = 60_000_000_000
    backoff_ns: int = 100_000_000  # before the first restart; each further one waits twice as long


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do about a failure now."""

    action: Action
    delay_ns: int = 0  # before a restart
    why: str = ""  # the run stops although restarts are allowed


class Supervisor:
    """Keeps count of one node's failures, and of the state it had before them."""

    def __init__(
        self, policy: FaultPolicy, make: Callable[[], Node],
        reopen: Callable[[BaseException], None] = lambda error: None, tell: Callable[[str], None] = lambda why: None,
    ) -> None:  # fmt: skip
        """`make` constructs the node anew; `reopen` closes and opens the device that an error came from;
        `tell` hears of every failure."""
        self._tell = tell
        self.policy = policy
        self._make = make
        self._reopen = reopen
        self.faults = 0
        self.restarts = 0
        self.last = ""  # what the last failure was
        self._recent: deque[int] = deque()
        self._state: Any = None

    def judge(self, error: BaseException, now_ns: int) -> Verdict:
        """Note a failure and say what follows from it."""
        policy = self.policy
        self.faults += 1
        self.last = f"{type(error).__name__}: {' '.join(str(error).split())}"
        self._tell(self.last)
        if policy.action != "restart":
            return Verdict(policy.action)
        while self._recent and now_ns - self._recent[0] > policy.within_ns:
            self._recent.popleft()
        if len(self._recent) >= policy.times:
            return Verdict("stop", why=f"it was restarted {policy.times} times in {policy.within_ns / 1e9:g} s")
        self._recent.append(now_ns)
        return Verdict("restart", min(policy.backoff_ns << (len(self._recent) - 1), _LONGEST_BACKOFF_NS))

    def keep_state(self, node: Node) -> None:
        """Called after every step that went well."""
        if self.policy.action == "restart":
            state = node.state_dict()
            if state is not None:
                self._state = copy.deepcopy(state)

    def revive(self, old: Node, error: BaseException) -> Node:
        """Close the old node whatever it says, and give an open new one its state. Raises what the new one raises."""
        try:
            old.close()
        except Exception as another:
            self.last += f"; close: {type(another).__name__}: {another}"
        self._reopen(error)
        node = self._make()
        node.open()
        if self._state is not None:
            node.load_state_dict(copy.deepcopy(self._state))
        self.restarts += 1
        return node
