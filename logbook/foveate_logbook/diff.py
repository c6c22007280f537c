"""`foveate log diff`: compares the streams of two recordings and says where they part."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

from foveate import codec
from foveate.catalog import did_you_mean
from foveate.commands.options import DIFFERENT, tolerances
from foveate.comparing import difference
from foveate.errors import FoveateError
from foveate.recording import Recording
from foveate.recording.mcap_file import RawMessage
from foveate.summary import table
from foveate_logbook.cat import kind_of
from foveate_logbook.reading import finish


@dataclass(slots=True)
class _Compared:
    """How one stream of both recordings compares."""

    equal: int = 0
    close: int = 0
    different: int = 0
    only_a: int = 0
    only_b: int = 0
    largest: float = 0.0
    first: str = ""

    @property
    def same(self) -> bool:
        return not (self.different or self.only_a or self.only_b)


def main(options: argparse.Namespace) -> int:
    """Compare messages of the same number; content only, or with --times also when they were put."""
    allowed = tolerances(options.tolerance)
    with Recording(options.log) as a, Recording(options.other) as b:
        names = sorted({s.name for s in a.streams()} | {s.name for s in b.streams()})
        wanted = options.streams.split(",") if options.streams else names
        for name in [*wanted, *allowed]:
            if name not in names:
                raise FoveateError(f"no stream '{name}' in either recording{did_you_mean(name, names)}")
        found = {name: _compare(a, b, name, allowed.get(name, 0.0), options.times) for name in wanted}
        code = finish(a, b)
    if options.json:
        print(json.dumps({name: {k: getattr(c, k) for k in _Compared.__slots__} for name, c in found.items()}))
    else:
        _print(options.log, options.other, found)
    if not all(c.same for c in found.values()):
        return DIFFERENT
    return code


def _compare(a: Recording, b: Recording, name: str, tolerance: float, times: bool) -> _Compared:
    result = _Compared()
    left, right = a.raw(f"/{name}"), b.raw(f"/{name}")
    one, other = next(left, None), next(right, None)
    while one is not None or other is not None:
        if one is not None and other is not None and one.sequence == other.sequence:
            _pair(result, a, b, name, (one, other), tolerance, times)
            one, other = next(left, None), next(right, None)
            continue
        lone = one if other is None or (one is not None and one.sequence < other.sequence) else other
        assert lone is not None
        if not result.first:
            result.first = f"#{lone.sequence}, which is only in {'A' if lone is one else 'B'}"
        if lone is one:
            result.only_a, one = result.only_a + 1, next(left, None)
        else:
            result.only_b, other = result.only_b + 1, next(right, None)
    return result


def _pair(
    result: _Compared, a: Recording, b: Recording, name: str, raws: tuple[RawMessage, RawMessage],
    tolerance: float, times: bool,
) -> None:  # fmt: skip
    one, other = raws
    t_a, t_b = one.log_ns - a.wall_start_ns, other.log_ns - b.wall_start_ns
    text = ""
    if times and t_a != t_b:
        text = f"time: A {t_a / 1e9:.6f} s, B {t_b / 1e9:.6f} s"
    elif one.data == other.data and a.wall_start_ns == b.wall_start_ns:
        result.equal += 1
        return
    else:
        stream = next(s for s in a.streams() if s.name == name)
        coder = codec.codec_of(kind_of(a, name, stream.type))  # type: ignore[arg-type]
        found = difference(coder.decode(one.data), coder.decode(other.data), 0.0)
        if found is None:
            result.equal += 1
            return
        result.largest = max(result.largest, found.size)
        beyond = difference(coder.decode(one.data), coder.decode(other.data), tolerance) if tolerance else found
        if beyond is None:
            result.close += 1
            return
        text = beyond.told("A", "B")
    result.different += 1
    if not result.first:
        result.first = f"#{one.sequence} at {t_a / 1e9:.6f} s: {text}"


def _print(a: Path, b: Path, found: dict[str, _Compared]) -> None:
    print(f"A  {a}\nB  {b}")
    rows = [["stream", "equal", "within tolerance", "different", "only in A", "only in B"]]
    for name, c in found.items():
        rows.append([name, *(str(n) for n in (c.equal, c.close, c.different, c.only_a, c.only_b))])
    for line in table(rows):
        print(line)
    parts = [(name, c) for name, c in found.items() if c.first]
    for name, c in parts:
        print(f"{name} parts at {c.first}")
    print("the recordings differ" if parts else "the recordings say the same")
