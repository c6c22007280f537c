"""What tests share: the data folder, small graphs made in code, messages, a recorder in memory."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from foveate.errors import EndOfStream
from foveate.graph import Graph, NodeSpec, Record, Wire
from foveate.messages import Message, ProbabilityMap, Stamp
from foveate.node import Node, schema_of
from foveate.queues import Policy
from foveate.station import Recorder
from foveate_drivers.conformance.suite import Skipped

settings.register_profile("house", deadline=None)  # no test fails by the clock
settings.load_profile("house")

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of real data skip, with the reason, where the data are absent; live tests are tried three times."""
    for item in items:
        if item.path.parent.name in ("conformance", "fault"):
            item.add_marker(pytest.mark.live)
        if "live" in item.keywords:
            item.add_marker(pytest.mark.flaky(reruns=2))  # a busy computer that pauses is not what they test
        if "data" in item.keywords and not SHARED.is_dir():
            item.add_marker(pytest.mark.skip(reason=f"needs the folder {SHARED.name} beside the checkout"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    """A conformance check that cannot be made on a device skips its test, with the reason."""
    try:
        return (yield)
    except Skipped as reason:
        pytest.skip(str(reason))


@pytest.fixture
def shared_data() -> Path:
    return SHARED


def number(value: int, t_ns: int = 0) -> ProbabilityMap:
    """A small message that carries a number."""
    return ProbabilityMap(Stamp(t_ns), np.array([[value]], np.float32), 0.0, 0.0, 1.0)


def value_of(message: ProbabilityMap) -> int:
    return int(message.expected[0, 0])


class Numbers(Node):
    """Counts 0, 1, 2, ... every `period_ns`; ends after `count`."""

    class Outputs:
        out: ProbabilityMap

    def __init__(self, *, count: int = 10, period_ns: int = 1_000_000) -> None:
        self.count, self.period_ns, self.next = count, period_ns, 0

    def due_ns(self) -> int:
        return self.next * self.period_ns

    def step(self) -> ProbabilityMap:
        if self.next >= self.count:
            raise EndOfStream
        self.next += 1
        return number(self.next - 1, (self.next - 1) * self.period_ns)


class Collect(Node):
    """Keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[int] = []

    def step(self, value: ProbabilityMap) -> None:
        self.got.append(value_of(value))


class Pass(Node):
    """Gives on what it gets."""

    class Outputs:
        out: ProbabilityMap

    def __init__(self) -> None:
        self.steps = 0

    def step(self, value: ProbabilityMap) -> ProbabilityMap:
        self.steps += 1
        return value


class MemoryRecorder(Recorder):
    """Keeps every recorded message, by stream."""

    def __init__(self) -> None:
        self.streams: dict[str, list[Message]] = {}

    def record(self, stream: str, message: Message, now_ns: int, sequence: int) -> None:
        self.streams.setdefault(stream, []).append(message)


def graph_of(
    nodes: Mapping[str, Node], wires: list[str], costs_ns: Mapping[str, int] | None = None, record: tuple[str, ...] = ()
) -> Graph:
    """A graph of ready instances; wires are texts `a.out -> b.value queue`, queue as in YAML."""
    specs = {
        name: NodeSpec(name, type(node).__name__, type(node), schema_of(type(node)), {}, {}, (costs_ns or {}).get(name))
        for name, node in nodes.items()
    }
    made = []
    for text in wires:
        source, _, target, *queue = text.split()
        a, b = source.rsplit(".", 1), target.rsplit(".", 1)
        made.append(Wire(a[0], a[1], b[0], b[1], Policy.parse(queue[0]) if queue else Policy()))
    streams = tuple((*name.rsplit(".", 1), Policy("fifo", 1000)) for name in record)
    return Graph(
        "test", Path("test.yaml"), specs, tuple(made), record=Record(Path("logs"), streams) if record else None
    )  # type: ignore[arg-type]


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The current folder is an empty one."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
