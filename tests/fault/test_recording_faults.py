"""Recordings under faults: kill -9, full disks, cut power, hostile files, signals (REC1, REC4 to REC7)."""

from __future__ import annotations

import errno
import gc
import json
import os
import random
import resource
import select
import signal
import struct
import subprocess
import sys
import time
import traceback
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from foveate.clock import process_ns
from foveate.commands.run import end_facts, exit_code
from foveate.errors import RecordingError
from foveate.messages import ProbabilityMap
from foveate.recording import McapRecorder, Recording
from foveate.recording import mcap_format as mcap
from foveate.recording import recorder as recorder_module
from foveate.recording.mcap_file import McapFile
from foveate.recording.recorder import BATCH_AGE_S
from foveate.recording.seal import provenance
from foveate.recording.writer import ChannelSpec, McapWriter, Unwritten
from foveate.run import Result, Run
from tests.conftest import Collect, Numbers, Pass, graph_of, value_of

ROOT = Path(__file__).resolve().parents[2]
QUEUE = 256  # messages that the recorder's queue of a stream holds

RIG = """\
foveate: 1
devices:
  world:  {uri: "sim:town", scene: procedural, seed: 1, range: 150.0, field: 0.2, vehicles: 2, people: 0}
  mirror: {uri: "sim:galvo", scanner: saccade30, limit: 0.24}
  search: {uri: "sim:search", world: "${rig.world}", through: "${rig.mirror}", width: 256, height: 256,
           field: 0.0419, rate: 120.0, exposure: 0.001, readout: 0.004}
"""
GRAPH = """\
foveate: 1
rig: rig.yaml
nodes:
  search: {use: camera, device: "${rig.search}", mirror: "${rig.mirror}"}
  aim:
    use: raster_gaze
    camera: ${rig.search}
    mirror: ${rig.mirror}
    inputs: {strobe: search.frame}
    params: {range: 150.0, width: 0.838, height: 0.471}
  mirror:
    use: mirror
    device: ${rig.mirror}
    inputs: {target: {from: aim.target, queue: fifo(4), max_age: 50ms}}
  truth:  {use: ground_truth, device: "${rig.world}"}
record:
  streams: [search.frame, aim.target, mirror.state, truth.objects]
"""
RATES_HZ = {"search.frame": 120, "aim.target": 120, "mirror.state": 120, "truth.objects": 20}

heavy = pytest.mark.heavy


# Processes to be killed: one that has imported everything forks the others -------------------------------------------


def serve() -> None:
    """Runs in a process of its own: for each line (job, arguments) on stdin a child; says its number and its end."""
    for name in ("cv2", "foveate_drivers.cameras.sim", "foveate_nodes.detection.raster_gaze"):
        import_module(name)  # once, before the children
    tell("ready")
    for line in sys.stdin:
        job, *arguments = line.rstrip("\n").split("\t")
        child = os.fork()
        if not child:
            code = 70
            try:
                code = {"write": write_until_killed, "flood": flood, "command": command}[job](*arguments)
            except BaseException:
                traceback.print_exc()
            os._exit(code)
        tell(f"child {child}")
        tell(f"done {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")


def tell(text: str) -> None:
    os.write(1, f"{text}\n".encode())


def message_of(seed: int, number: int) -> tuple[int, bytes]:
    """Channel and content of message `number`: mostly small ones, a frame now and then."""
    rng = random.Random(seed * 1_000_003 + number)
    if rng.random() < 0.02:
        return 3, struct.pack("<QQ", seed, number) + BLOCK[rng.randrange(1000) :][: rng.randint(20_000, 400_000)]
    return rng.randint(1, 2), struct.pack("<QQ", seed, number) + BLOCK[: rng.randint(0, 4000)]


BLOCK = random.Random(0).randbytes(500_000)


def channels() -> list[ChannelSpec]:
    return [ChannelSpec(f"/n{i}.out", "json", {}, f"test.n{i}", "jsonschema", b"{}") for i in (1, 2, 3)]


def write_until_killed(path: str, seed: str) -> int:
    """Acknowledges, on stdout, how many messages are in the file."""
    writer = McapWriter(Path(path), channels(), {}, {})
    rng, number = random.Random(int(seed)), 0
    while True:
        for _ in range(rng.randint(1, 20)):
            channel, data = message_of(int(seed), number)
            writer.tally[mcap.TALLY_COUNTERS * (channel - 1)] += 1
            writer.add(channel, number, number, number, [data[:16], memoryview(data)[16:]])
            number += 1
        writer.flush()
        tell(f"kept {number}")
        time.sleep(0.002)  # its load, 5,000 messages a second


def flood(path: str) -> int:
    """Frames of 32 MB: it is nearly always within a write."""
    writer = McapWriter(Path(path), channels(), {}, {})
    for number in range(12):
        writer.tally[mcap.TALLY_COUNTERS * 2] += 1
        writer.add(3, number, number, number, [struct.pack("<Q", number), *[BLOCK] * 64])
        writer.flush()
        tell(f"kept {number + 1}")
    signal.pause()
    return 0


def command(output: str, limit_bytes: str, *arguments: str) -> int:
    """`foveate` with these arguments; what it prints goes to files named `output`.out and .err."""
    for number, suffix in ((1, "out"), (2, "err")):
        os.dup2(os.open(f"{output}.{suffix}", os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o644), number)
    if int(limit_bytes):
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(limit_bytes), resource.RLIM_INFINITY))
    from foveate.cli import main

    try:
        return main(list(arguments))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()


class Runner:
    """Starts children and hears what they say."""

    def __init__(self) -> None:
        script = f"import sys; sys.path.insert(0, {str(ROOT)!r}); "
        script += "from tests.fault.test_recording_faults import serve; serve()"
        self._process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._rest = b""
        self.acknowledged = 0
        self._expect("ready", 60)

    def start(self, job: str, *arguments: object) -> int:
        assert self._process.stdin is not None
        self._process.stdin.write(("\t".join([job, *map(str, arguments)]) + "\n").encode())
        self._process.stdin.flush()
        self.acknowledged = 0
        return int(self._expect("child", 10))

    def hear(self, seconds: float) -> Iterator[list[str]]:
        """Words of each line that comes in this time."""
        assert self._process.stdout is not None
        deadline = time.monotonic() + seconds
        while True:
            *lines, self._rest = self._rest.split(b"\n")
            for at, line in enumerate(lines):
                words = line.decode().split()
                if words[0] == "kept":
                    self.acknowledged = int(words[1])
                    continue
                self._rest = b"\n".join([*lines[at + 1 :], self._rest])
                yield words
                break
            else:
                left = deadline - time.monotonic()
                if left <= 0 or not select.select([self._process.stdout], [], [], left)[0]:
                    return
                data = os.read(self._process.stdout.fileno(), 65536)
                assert data, "the process that forks has ended"
                self._rest += data

    def _expect(self, word: str, seconds: float) -> str:
        for words in self.hear(seconds):
            assert words[0] == word, words
            return words[-1]
        raise AssertionError(f"no {word!r} within {seconds} s")

    def listen(self, seconds: float) -> None:
        """Let this time pass; nothing but acknowledgements must come."""
        for words in self.hear(seconds):
            raise AssertionError(words)

    def end(self, seconds: float = 60) -> int:
        """The exit code of the child."""
        return int(self._expect("done", seconds))

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    made = Runner()
    yield made
    made.close()


@pytest.fixture(scope="module")
def graph_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graph")
    (folder / "rig.yaml").write_text(RIG, encoding="utf-8")
    (folder / "small.yaml").write_text(GRAPH, encoding="utf-8")
    return folder / "small.yaml"


def run_small(runner: Runner, graph: Path, folder: Path, *more: str, limit_bytes: int = 0) -> int:
    return runner.start(
        "command", folder.with_suffix(""), limit_bytes, "run", graph, "--json", "--output", folder, *more
    )


def wait_until_it_grows(runner: Runner, log: Path, size: int) -> None:
    """Until the recording has this many bytes; bounded."""
    deadline = time.monotonic() + 60
    while not log.exists() or log.stat().st_size < size:
        assert time.monotonic() < deadline, "the run did not start"
        runner.listen(0.005)


def moment_s(rng: random.Random) -> float:
    """1 to 500 ms, as many below 22 ms as above."""
    return float(0.001 * 500 ** rng.random())


# REC1: killed -----------------------------------------------------------------------------------------------------


def check_prefix(path: Path, seed: int, at_least: int) -> int:
    """The file holds messages 0, 1, 2, ... without a gap or a wrong byte, at least so many; how many."""
    file = McapFile(path)
    count = 0
    for raw in file.messages():
        assert (raw.channel, raw.data) == message_of(seed, count) and raw.sequence == count
        count += 1
    file.close()
    assert not file.damages and count >= at_least, (count, at_least)
    return count


@pytest.mark.parametrize("runs", [5, pytest.param(500, marks=heavy)])
def test_rec1_a_killed_writer_has_lost_nothing_it_acknowledged(runs: int, runner: Runner, tmp_path: Path) -> None:
    rng = random.Random(runs)
    torn = acknowledged = unacknowledged = largest = 0
    for seed in range(runs):
        path = tmp_path / "killed.mcap"
        path.unlink(missing_ok=True)
        child = runner.start("write", path, seed)
        runner.listen(moment_s(rng))
        if runner.acknowledged:
            check_prefix(path, seed, runner.acknowledged)  # also of a file that is being written
        os.kill(child, signal.SIGKILL)
        assert runner.end() == -signal.SIGKILL
        if not path.exists() or path.stat().st_size < len(mcap.MAGIC):
            assert not runner.acknowledged
            continue
        count = check_prefix(path, seed, runner.acknowledged)
        with Recording(path) as log:
            if len(log.file):
                assert not log.file.closed
                accepted = sum(a for a, _, _ in log.file.tally)
                assert sum(log.lost().values()) == accepted - count
                assert 0 <= count - sum(k for _, _, k in log.file.tally) <= 20  # killed before it could count a batch
                unacknowledged = max(unacknowledged, accepted - count)
            torn += log.file.torn_bytes > 0
        acknowledged += runner.acknowledged
        largest = max(largest, path.stat().st_size)
    print(
        f"{runs} kills: {acknowledged} acknowledged messages, 0 lost; {torn} torn batches; at most {unacknowledged} "
        f"accepted ones not yet written; largest file {largest / 1e6:.1f} MB"
    )
    assert acknowledged > 40 * runs


def test_rec1_a_writer_killed_within_a_write_leaves_a_torn_batch(runner: Runner, tmp_path: Path) -> None:
    rng, torn, path = random.Random(1), 0, tmp_path / "killed.mcap"
    for _ in range(6):
        path.unlink(missing_ok=True)
        child = runner.start("flood", path)
        runner.listen(rng.uniform(0.02, 0.15))
        os.kill(child, signal.SIGKILL)
        assert runner.end() == -signal.SIGKILL
        with Recording(path) as log:
            got = [(raw.sequence, bytes(raw.data[:8]), len(raw.data)) for raw in log.file.messages()]
            assert got == [(n, struct.pack("<Q", n), 8 + 64 * len(BLOCK)) for n in range(len(got))]
            assert runner.acknowledged <= len(got) <= runner.acknowledged + 1 and not log.file.damages
            if log.file.torn_bytes:
                torn += 1
                assert f"{log.file.torn_bytes} bytes of a torn batch discarded" in log.notes()[0]
                assert sum(log.lost().values()) == 1
    print(f"{torn} of 6 kills left a torn batch")
    assert torn


@pytest.mark.parametrize("runs", [3, pytest.param(30, marks=heavy)])
def test_rec1_a_killed_run_is_replayed_and_verified(
    runs: int, runner: Runner, graph_file: Path, tmp_path: Path
) -> None:
    rng = random.Random(runs)
    worst: Counter[str] = Counter()
    codes: Counter[int] = Counter()
    for number in range(runs):
        folder = tmp_path / f"{number}"
        log_path = folder / "run.mcap"
        child = run_small(runner, graph_file, folder)
        wait_until_it_grows(runner, log_path, 300_000)
        runner.listen(moment_s(rng))
        with Recording(log_path) as log:  # while it is being written
            assert log.streams() and not log.file.damages
        os.kill(child, signal.SIGKILL)
        assert runner.end() == -signal.SIGKILL
        with Recording(log_path) as log:
            counts = {log.file.channels[n].topic[1:]: count for n, count in log.counts.items()}
            lost = log.lost()
            for number_, (accepted, dropped, _) in enumerate(log.file.tally, 1):
                name = log.file.channels[number_].topic[1:]
                assert accepted - dropped - counts[name] == lost.get(name, 0), name
            assert not log.file.damages and not log.file.closed
            worst |= Counter(lost)
        for name, rate_hz in RATES_HZ.items():
            assert lost.get(name, 0) <= QUEUE + 1 + rate_hz * BATCH_AGE_S, lost
        runner.start("command", tmp_path / "replay", 0, "replay", "--verify", "--no-record", log_path)
        code = runner.end()
        said = (tmp_path / "replay.out").read_text() + (tmp_path / "replay.err").read_text()
        assert "verified: the replay gave what was recorded" in said and "NOT VERIFIED" not in said, said
        assert code == (3 if lost else 0), said
        codes[code] += 1
    print(f"{runs} killed runs, all verified; exit codes of the replays {dict(codes)}; most lost {dict(worst)}")


# REC4: a full disk --------------------------------------------------------------------------------------------------

COUNT = 3000


class Outcome:
    """A run of a small graph in simulated time with its recording at `path`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sink = Collect()
        nodes = {"a": Numbers(count=COUNT), "b": Pass(), "sink": self.sink}
        wires = ["a.out -> b.value fifo(9)", "b.out -> sink.value fifo(9)"]
        self.graph = graph_of(nodes, wires, {"b": 100_000}, ("a.out", "b.out"))
        run = Run(self.graph, "virtual", replace=nodes)
        recorder = McapRecorder(path, self.graph, provenance(self.graph, "virtual"))
        run.add_recorder(recorder)
        self.result: Result = run.execute()
        recorder.end(end_facts(self.result))
        self.lost_own = recorder.lost_own  # batches of decisions

    @property
    def others(self) -> list[tuple[str, int, int, dict[str, int]]]:
        """The ledgers of wires that do not end at the recorder."""
        return [(w.wire, w.produced, w.delivered, dict(w.dropped)) for w in self.result.wires
                if "-> record." not in w.wire]  # fmt: skip

    def check_file(self) -> int:
        """Nothing in it is wrong, and what it lacks is in the ledger; the number of messages it has."""
        total = 0
        with Recording(self.path) as log:
            for stream in ("a.out", "b.out"):
                wire = next(w for w in self.result.wires if w.wire.endswith(f"-> record.{stream}"))
                got = [(n, value_of(m)) for n, _, m in log.numbered(stream, ProbabilityMap)]  # type: ignore[arg-type]
                assert all(value == n - 1 for n, value in got)
                assert len({n for n, _ in got}) == len(got) == wire.delivered
                assert wire.produced == COUNT == wire.delivered + sum(wire.dropped.values())
                total += len(got)
            assert not log.file.damages
        return total


class Disk:
    """Stands in for `os.writev`: takes `room` bytes of the file, in pieces as it likes; then it is full."""

    def __init__(self, room: int, rng: random.Random, short: bool) -> None:
        self.room, self._rng, self._short = room, rng, short
        self._real = os.writev
        self.refused = 0

    def __call__(self, handle: int, buffers: Sequence[Any]) -> int:
        data = b"".join(bytes(b) for b in buffers)
        if self._short and len(data) > 1:
            data = data[: self._rng.randint(1, len(data))]
        data = data[: max(self.room - os.lseek(handle, 0, os.SEEK_CUR), 0)]
        if not data:
            self.refused += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._real(handle, [data])


def test_rec4_a_full_disk_costs_only_what_does_not_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    whole = Outcome(tmp_path / "whole.mcap")
    assert exit_code(whole.result) == 0 and whole.check_file() == 2 * COUNT and not caplog.records
    size, start = whole.path.stat().st_size, first_batch(whole.path)
    rng, kept, lines = random.Random(4), [], Counter[int]()
    for number in range(8):
        disk = Disk(rng.randint(start, size - 150_000), rng, short=bool(number % 2))
        caplog.clear()
        with monkeypatch.context() as patch:
            patch.setattr(os, "writev", disk)
            outcome = Outcome(tmp_path / f"{number}.mcap")
        assert disk.refused
        assert outcome.result.failure is None and outcome.result.balanced
        assert outcome.sink.got == whole.sink.got and outcome.others == whole.others
        assert exit_code(outcome.result) == 3 and outcome.result.unrecorded > 0
        kept.append(outcome.check_file())
        assert outcome.result.unrecorded == 2 * COUNT - kept[-1] + outcome.lost_own
        unwritten = [r for r in caplog.records if "No space left on device; the run goes on" in r.getMessage()]
        assert len(unwritten) == 1
        lines[len(caplog.records)] += 1
    print(f"8 full disks: {min(kept)} to {max(kept)} of {2 * COUNT} messages kept; runs by error lines {dict(lines)}")
    assert len(set(kept)) > 4


def first_batch(path: Path) -> int:
    return path.read_bytes().index(mcap.MARKER) - mcap.RECORD_HEAD.size


def test_rec4_a_full_disk_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    room = first_batch(Outcome(tmp_path / "whole.mcap").path) + 100
    monkeypatch.setattr(os, "writev", Disk(room, random.Random(0), short=False))
    outcome = Outcome(tmp_path / "a.mcap")
    assert exit_code(outcome.result) == 3 and outcome.check_file() == 0
    assert len(caplog.records) == 1, [r.getMessage() for r in caplog.records]


class Silent(Pass):
    """Takes everything, gives nothing."""

    def step(self, value: ProbabilityMap) -> None:
        super().step(value)


def test_rec4_lost_decisions_are_lost_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = {"a": Numbers(count=50), "b": Silent()}
    graph = graph_of(nodes, ["a.out -> b.value"], record=("b.out",))
    codes = []
    for room in (1 << 40, 1):
        run = Run(graph, "virtual", replace={"a": Numbers(count=50), "b": Silent()})
        recorder = McapRecorder(tmp_path / f"{room}.mcap", graph, provenance(graph, "virtual"))
        run.add_recorder(recorder)
        real = recorder.open

        def opening(real: Callable[[], None] = real, room: int = room, path: Path = recorder.path) -> None:
            real()
            monkeypatch.setattr(os, "writev", Disk(path.stat().st_size + room, random.Random(0), short=False))

        monkeypatch.setattr(recorder, "open", opening)
        with monkeypatch.context():
            result = run.execute()
            recorder.end(end_facts(result))
        monkeypatch.undo()
        with Recording(recorder.path) as log:
            codes.append((exit_code(result), sum(1 for _ in log.decisions())))
    assert codes[0] == (0, 100), codes
    assert codes[1] == (3, 0), codes


def test_rec4_short_writes_alone_cost_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, "writev", Disk(1 << 40, random.Random(1), short=True))
        outcome = Outcome(tmp_path / "a.mcap")
    assert exit_code(outcome.result) == 0 and outcome.check_file() == 2 * COUNT


def test_rec4_a_disk_that_has_room_again_is_used_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Space that comes back: the messages in between are counted, the file is closed with its index."""
    disk = Disk(0, random.Random(1), short=False)
    writer = McapWriter(tmp_path / "a.mcap", channels(), {}, {})
    kept = []
    for number in range(60):
        channel, data = message_of(7, number)
        writer.add(channel, number, number, number, [data])
        full = 20 <= number < 40
        with monkeypatch.context() as patch:
            if full:
                patch.setattr(os, "writev", disk)
                with pytest.raises(Unwritten, match="1 messages were not written: No space left on device"):
                    writer.flush()
            else:
                writer.flush()
                kept.append(number)
    writer.finish({})
    writer.close()
    file = McapFile(tmp_path / "a.mcap")
    assert [raw.sequence for raw in file.messages()] == kept and file.closed and not file.damages
    file.close()
    assert disk.refused == 20


def test_rec4_a_torn_batch_that_cannot_be_cut_off_costs_no_later_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that neither takes the whole batch nor lets the file be shortened, and then works again."""
    writer = McapWriter(tmp_path / "a.mcap", channels(), {}, {})
    for number in range(30):
        channel, data = message_of(7, number)
        writer.add(channel, number, number, number, [data + bytes(500)])
        if number == 10:
            with monkeypatch.context() as patch:
                room = (tmp_path / "a.mcap").stat().st_size + 300
                patch.setattr(os, "writev", Disk(room, random.Random(1), short=False))
                patch.setattr(os, "ftruncate", failing_disk)
                with pytest.raises(Unwritten):
                    writer.flush()
        else:
            writer.flush()
    writer.finish({})
    writer.close()
    file = McapFile(tmp_path / "a.mcap")
    got = [raw.sequence for raw in file.messages()]
    file.close()
    assert got == [n for n in range(30) if n != 10]


def failing_disk(*_: object) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_rec4_no_room_for_the_beginning_ends_the_run_with_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "writev", Disk(0, random.Random(1), short=False))
    outcome = Outcome(tmp_path / "a.mcap")
    assert exit_code(outcome.result) == 1
    assert "No space left on device" in str(outcome.result.failure) and "\n" not in str(outcome.result.failure)
    assert outcome.sink.got == []
    del outcome
    gc.collect()


def simulated(runner: Runner, graph: Path, folder: Path, limit_bytes: int = 0) -> tuple[int, dict[str, Any], list[str]]:
    """Exit code, result and lines of stderr of half a second in simulated time."""
    run_small(runner, graph, folder, "--executor", "virtual", "--duration", "500ms", limit_bytes=limit_bytes)
    code = runner.end()
    result = json.loads(folder.with_suffix(".out").read_text())
    return code, result, folder.with_suffix(".err").read_text().splitlines()


def apart_from_recording(result: dict[str, Any]) -> list[Any]:
    nodes = [(name, node["steps"]) for name, node in result["nodes"].items() if name != "record"]
    return nodes + [wire for wire in result["wires"] if "-> record." not in wire["wire"]]


def check_limited(
    whole: dict[str, Any], code: int, result: dict[str, Any], told: list[str], log_path: Path, reason: str
) -> None:
    assert code == 3 and result["failure"] is None and result["balanced"] and result["unrecorded"] > 0
    assert apart_from_recording(result) == apart_from_recording(whole)
    assert sum(f"cannot write: {reason}; the run goes on" in line for line in told) == 1 and len(told) <= 2, told
    with Recording(log_path) as log:
        counts = {s.name: s.messages for s in log.streams()}
        assert not log.file.damages and not log.file.torn_bytes
    for wire in result["wires"]:
        if "-> record." in wire["wire"]:
            assert wire["delivered"] == counts[wire["wire"].partition("-> record.")[2]]
    print(f"{reason}: {log_path.stat().st_size} bytes, {result['unrecorded']} messages unwritten")


def test_rec4_a_file_size_limit(runner: Runner, graph_file: Path, tmp_path: Path) -> None:
    code, whole, told = simulated(runner, graph_file, tmp_path / "whole")
    assert code == 0 and not told and not whole["unrecorded"]
    for limit in (100_000, 1_000_000):
        folder = tmp_path / str(limit)
        code, result, told = simulated(runner, graph_file, folder, limit)
        assert (folder / "run.mcap").stat().st_size <= limit
        check_limited(whole, code, result, told, folder / "run.mcap", "File too large")


def test_rec4_a_small_disk(runner: Runner, graph_file: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"cannot mount a tmpfs: {mounted.stderr.strip()}")
    try:
        code, whole, _ = simulated(runner, graph_file, tmp_path / "whole")
        assert code == 0
        runner.start("command", tmp_path / "limited", 0, "run", graph_file, "--json", "--output", disk / "logs",
                     "--executor", "virtual", "--duration", "500ms")  # fmt: skip
        code = runner.end()
        result = json.loads((tmp_path / "limited.out").read_text())
        told = (tmp_path / "limited.err").read_text().splitlines()
        check_limited(whole, code, result, told, disk / "logs" / "run.mcap", "No space left on device")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# REC5: a power cut --------------------------------------------------------------------------------------------------


def synced_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """A file of 60 batches; (size, messages in it) at each time that the disk was asked to keep it."""
    synced: list[tuple[int, int]] = []
    writer = McapWriter(path, channels(), {"graph.yaml": ("application/yaml", b"foveate: 1\n")}, {})
    monkeypatch.setattr(os, "fdatasync", lambda handle: synced.append((os.fstat(handle).st_size, writer.acknowledged)))
    number, rng = 0, random.Random(5)
    for batch in range(60):
        for _ in range(rng.randint(1, 6)):
            channel, data = message_of(5, number)
            writer.tally[mcap.TALLY_COUNTERS * (channel - 1)] += 1
            writer.add(channel, number, number, number, [data])
            number += 1
        writer.flush()
        if batch % 3 == 0:
            writer.sync()
    writer.close()
    return synced


def test_rec5_a_power_cut_costs_what_came_after_the_last_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "cut.mcap"
    synced = synced_file(path, monkeypatch)
    size, rng = path.stat().st_size, random.Random(6)
    assert len(synced) == 20 and check_prefix(path, 5, synced[-1][1]) > synced[-1][1]
    cuts = sorted(((rng.randint(*sorted((rng.choice(synced)[0], size)))) for _ in range(500)), reverse=True)
    for cut in cuts:  # from the end to the front, so that one file serves
        os.truncate(path, cut)
        kept = max(messages for at, messages in synced if at <= cut)
        check_prefix(path, 5, kept)
    print(f"500 cuts between {cuts[-1]} and {size} bytes: everything before the last sync readable")


def test_rec5_pages_that_never_reached_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file has its length, but pages behind the last sync are zero: what is older is readable, nothing is wrong."""
    path, torn = tmp_path / "whole.mcap", tmp_path / "torn.mcap"
    synced = synced_file(path, monkeypatch)
    data, rng, kept = path.read_bytes(), random.Random(7), []
    for _ in range(60):
        at, messages = rng.choice(synced)
        holed = bytearray(data)
        for page in range(-(-at // 4096), len(data) // 4096 + 1):
            if rng.random() < 0.2:
                holed[page * 4096 : page * 4096 + 4096] = bytes(len(holed[page * 4096 : page * 4096 + 4096]))
        torn.write_bytes(holed)
        file = McapFile(torn)
        got = [raw.sequence for raw in file.messages() if (raw.channel, raw.data) == message_of(5, raw.sequence)]
        assert got[:messages] == list(range(messages)) and got == sorted(set(got))
        assert len(got) == sum(1 for _ in file.messages())
        kept.append(len(got) - messages)
        file.close()
    print(f"60 files with missing pages: 0 wrong; {min(kept)} to {max(kept)} messages found behind the last sync")


def test_rec5_a_live_run_asks_the_disk_to_keep_things(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "fdatasync", lambda handle: synced.append((process_ns(), os.fstat(handle).st_size)))
    monkeypatch.setattr(recorder_module, "_SYNC_NS", 100_000_000)  # a second in earnest
    nodes = {"a": Numbers(count=800), "b": Pass(), "sink": Collect()}
    graph = graph_of(nodes, ["a.out -> b.value", "b.out -> sink.value"], record=("a.out",))
    for attempt in range(3):
        synced.clear()
        for name in ("a", "sink"):
            nodes[name].__init__(**({"count": 800} if name == "a" else {}))  # type: ignore[misc]
        run = Run(graph, "live", replace=nodes)
        recorder = McapRecorder(tmp_path / f"{attempt}.mcap", graph, provenance(graph, "live"))
        run.add_recorder(recorder)
        result = run.execute()
        recorder.end(end_facts(result))
        assert exit_code(result) == 0
        apart = [(b[0] - a[0]) / 1e6 for a, b in pairwise(synced)]
        print(f"{len(synced)} syncs, at most {max(apart, default=0):.0f} ms apart")
        if len(synced) >= 5 and max(apart) < 200:
            break
    assert len(synced) >= 5 and max(apart) < 200
    assert [size for _, size in synced] == sorted(size for _, size in synced)


def test_rec5_a_disk_that_keeps_nothing_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(os, "fdatasync", lambda handle: asked.append(handle) or failing_disk())
    monkeypatch.setattr(recorder_module, "_SYNC_NS", 50_000_000)
    nodes = {"a": Numbers(count=500)}
    graph = graph_of(nodes, [], record=("a.out",))
    run = Run(graph, "live", replace=nodes)
    recorder = McapRecorder(tmp_path / "a.mcap", graph, provenance(graph, "live"))
    run.add_recorder(recorder)
    result = run.execute()
    recorder.end(end_facts(result))
    assert result.failure is None and len(asked) > 2
    assert len(caplog.records) == 1, [r.getMessage() for r in caplog.records]


# REC6: hostile files ------------------------------------------------------------------------------------------------

GIGABYTE = 1 << 30


def valid(path: Path) -> bytes:
    writer = McapWriter(path, channels(), {"graph.yaml": ("application/yaml", b"foveate: 1\n")}, {"a": {"b": "c"}})
    for number in range(40):
        writer.add(1, number, number, number, [b"x" * 50])
        if number % 10 == 9:
            writer.flush()
    writer.finish({"end.json": ("application/json", b"{}")})
    writer.close()
    return path.read_bytes()


def with_bytes(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def hostile(data: bytes) -> Iterator[tuple[str, bytes, int]]:
    """What it is, its content, and the length to which it is stretched by a hole."""
    head = mcap.RECORD_HEAD.size
    yield "magic of something else", b"\x89PNG\r\n\x1a\n" + data[8:], 0
    yield "version 9", data[:5] + b"9" + data[6:], 0
    yield "nothing but a hole", b"", GIGABYTE
    yield "a magic and a hole", data[:8], GIGABYTE
    yield "a valid beginning and a hole", data, GIGABYTE
    yield "half a batch and a hole", data[: data.index(mcap.MARKER) + 150], GIGABYTE
    at = 8
    while data[at] != mcap.BATCH:
        length = mcap.RECORD_HEAD.unpack_from(data, at)[1]
        for value in (2**64 - 1, 2**63, 2**32 - 1, 200 << 20):
            changed = with_bytes(data, at + 1, struct.pack("<Q", value))
            yield f"record {data[at]:#x} of {value} bytes", changed, 0
            yield f"record {data[at]:#x} of {value} bytes in a file with a hole", changed, GIGABYTE
        for inner in range(at + head, at + head + min(length - 4, 60), 2):
            yield f"0xFFFFFFFF at byte {inner - at} of record {data[at]:#x}", with_bytes(data, inner, b"\xff" * 4), 0
        at += head + length
    batch = mcap.Batch.parse(data[at : at + mcap.BATCH_BYTES])
    assert batch is not None
    for name, value in (("chunk_bytes", 2**64 - 1), ("chunk_bytes", 2**31), ("index_bytes", 2**32 - 1)):
        fields = {slot: getattr(batch, slot) for slot in batch.__slots__} | {name: value}
        changed = with_bytes(data, at, mcap.Batch(**fields).to_bytes())
        for tail in (changed, changed[:-1]):  # with and without an index
            yield f"a batch whose {name} is {value}", tail, 0
            yield f"a batch whose {name} is {value}, and a hole", tail, GIGABYTE
    chunk_at = at + mcap.BATCH_BYTES
    for offset in (1, 25, 41):  # length of the record, of its content, of its content as stored
        yield "a chunk of any size", with_bytes(data, chunk_at + offset, b"\xff" * 8), 0
    foot = len(data) - mcap.FOOTER_BYTES
    for start in (0, 1, foot, 2**63, 2**64 - 1):
        yield f"an index at {start}", with_bytes(data, foot + head, struct.pack("<Q", start)), 0


def open_and_read(path: Path) -> str:
    """What came of it; anything but a typed error is raised."""
    try:
        with Recording(path) as log:
            count = sum(1 for _ in log.file.messages())
            return f"{count} messages, {len(log.notes())} notes"
    except RecordingError:
        return "refused"


def test_rec6_a_long_record_in_a_hole_costs_neither_time_nor_memory(tmp_path: Path) -> None:
    check_hostile(tmp_path, lambda what: what.startswith(f"record 0x9 of {200 << 20} bytes"))


def test_rec6_a_hostile_file_costs_neither_time_nor_memory(tmp_path: Path) -> None:
    check_hostile(tmp_path, lambda what: not (f"{200 << 20}" in what and "hole" in what))


def check_hostile(folder: Path, chosen: Callable[[str], bool]) -> None:
    data = valid(folder / "valid.mcap")
    path = folder / "hostile.mcap"
    outcomes: Counter[str] = Counter()
    slow, fat = [], []
    worst_ms = worst_bytes = 0.0
    for what, content, stretched in hostile(data):
        if not chosen(what):
            continue
        path.write_bytes(content)
        if stretched:
            os.truncate(path, stretched)
        took = []
        for _ in range(3):
            begun = process_ns()
            outcome = open_and_read(path)
            took.append((process_ns() - begun) / 1e6)
            if took[-1] < 50:
                break
        tracemalloc.start()
        assert open_and_read(path) == outcome
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        outcomes[outcome if outcome == "refused" else "opened"] += 1
        slow += [f"{what}: {min(took):.0f} ms"] if min(took) >= 50 else []
        fat += [f"{what}: {peak / 1e6:.0f} MB"] if peak >= 20e6 else []
        worst_ms, worst_bytes = max(worst_ms, min(took)), max(worst_bytes, peak)
        if what in ("magic of something else", "version 9", "nothing but a hole"):
            assert outcome == "refused", what
    print(f"{dict(outcomes)}; slowest {worst_ms:.1f} ms, most memory {worst_bytes / 1e6:.2f} MB; {slow + fat}")
    assert not slow and not fat


# REC7: signals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("runs", [10, pytest.param(50, marks=heavy)])
def test_rec7_a_signal_at_any_moment_closes_the_file(
    runs: int, runner: Runner, graph_file: Path, tmp_path: Path
) -> None:
    rng = random.Random(runs)
    took_s: list[float] = []
    for number in range(runs):
        tries: list[float] = []
        while len(tries) < 3 and (not tries or tries[-1] > 2):
            folder = tmp_path / f"{number}-{len(tries)}"
            child = run_small(runner, graph_file, folder)
            wait_until_it_grows(runner, folder / "run.mcap", 1)
            runner.listen(moment_s(rng))
            begun = time.monotonic()
            os.kill(child, (signal.SIGINT, signal.SIGTERM)[number % 2])
            code = runner.end()
            tries.append(time.monotonic() - begun)
            result = json.loads(folder.with_suffix(".out").read_text())
            assert code == 0 and result["stopped_by"] == "signal" and result["balanced"], result
            assert not result["unrecorded"] and folder.with_suffix(".err").read_text() == ""
            with Recording(folder / "run.mcap") as log:
                assert log.file.closed and log.end["stopped_by"] == "signal" and not log.notes() and not log.lost()
                counts = {s.name: s.messages for s in log.streams()}
            for wire in result["wires"]:
                if "-> record." in wire["wire"]:
                    assert counts[wire["wire"].partition("-> record.")[2]] == wire["delivered"] == wire["produced"]
        took_s.append(min(tries))
    print(f"{runs} signals: ended after {sorted(took_s)[runs // 2]:.2f} s (median), at most {max(took_s):.2f} s")
    assert max(took_s) <= 2


def test_every_message_of_a_writer_is_the_same_each_time() -> None:
    """The check of the others: content depends on the number alone, and frames come among small messages."""
    kinds = [message_of(3, n) for n in range(500)]
    assert kinds == [message_of(3, n) for n in range(500)]
    assert {channel for channel, _ in kinds} == {1, 2, 3}
    assert max(len(data) for _, data in kinds) > 100_000 and len({data for _, data in kinds}) == 500
