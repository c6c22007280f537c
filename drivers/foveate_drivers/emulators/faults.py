"""What goes wrong on an emulated wire, and when: a plan, so that a test and a user get the same faults again."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields

import numpy as np

from foveate.errors import FoveateError
from foveate.quantity import parse_duration_ns

_PROBABILITIES = ("drop", "delay", "garbage", "nak")


class BadFault(FoveateError):
    """A fault that cannot be read."""


@dataclass(slots=True)
class FaultPlan:
    """Probabilities are per reply, packet or frame; moments count from the emulator's start."""

    drop: float = 0.0  # probability that a reply or packet is not sent
    delay_s: float = 0.0  # a delayed reply comes this much later
    delay: float = 1.0  # probability of that delay, where delay_s is not 0
    garbage: float = 0.0  # probability that a reply is spoiled: bits flipped, cut short, or noise before it
    nak: float = 0.0  # probability that a command is refused although it is right
    unplug_s: float | None = None  # the wire goes away
    replug_s: float | None = None  # and comes back this long after
    first_id: int | None = None  # the first frame's id, to come near a wrap
    clock_jump_at_s: float | None = None
    clock_jump_s: float = 0.0  # how far the device's clock jumps then, back where negative
    underrun_s: float | None = None  # a streamer runs dry then although it was fed
    temperature_c: float | None = None  # what the device measures
    seed: int = 1
    rng: np.random.Generator = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def hits(self, probability: float) -> bool:
        """Whether a fault of that probability strikes now."""
        return probability > 0 and bool(self.rng.random() < probability)

    def spoil(self, reply: bytes) -> bytes:
        """A reply as noise on the line would leave it; never the same bytes."""
        data = bytearray(reply)
        kind = int(self.rng.integers(3))
        if kind == 0 and len(data) > 1:
            del data[int(self.rng.integers(1, len(data))) :]
        elif kind == 1:
            data[:0] = self.rng.integers(0, 256, int(self.rng.integers(1, 6)), np.uint8).tobytes()
        else:
            data[int(self.rng.integers(len(data)))] ^= 1 << int(self.rng.integers(8))
        return bytes(data)

    @classmethod
    def parse(cls, texts: Iterable[str]) -> FaultPlan:
        """From `name=value` as on a command line; durations take units (`delay=20ms`). Raises BadFault."""
        known = {item.name for item in fields(cls) if item.init}
        plan: dict[str, float | int] = {}
        for text in texts:
            name, _, value = text.partition("=")
            name = name.replace("-", "_")
            timed = name if name.endswith("_s") else f"{name}_s"
            try:
                if timed in known and not _is_number(value):
                    sign = -1 if value.startswith("-") else 1
                    plan[timed] = sign * parse_duration_ns(value.removeprefix("-")) / 1e9
                elif name in known:
                    plan[name] = int(value) if name in ("seed", "first_id") else float(value)
                    if name in _PROBABILITIES and not 0 <= plan[name] <= 1:
                        raise BadFault(f"fault '{text}': a probability is within 0 to 1; write times as 20ms")
                elif timed in known:
                    raise BadFault(f"fault '{text}': a time needs its unit, such as {name}=5s")
                else:
                    raise BadFault(f"unknown fault '{name}'; known: {', '.join(sorted(known))}")
            except ValueError as error:
                raise BadFault(f"fault '{text}': {error}") from None
        return cls(**plan)  # type: ignore[arg-type]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
