"""`foveate log`: every action on whole, killed, damaged and foreign recordings; what others then read of it."""

from __future__ import annotations

import errno
import io
import json
import os
import random
import re
import shutil
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap.stream_reader import StreamReader
from mcap.writer import CompressionType
from mcap.writer import Writer as StockWriter

from foveate import catalog
from foveate.cli import main
from foveate.decisions import Step
from foveate.errors import EndOfStream
from foveate.messages import Frame, ProbabilityMap, Stamp
from foveate.node import Node
from foveate.recording import Recording, recorder
from foveate.recording import mcap_format as mcap
from tests.unit import test_replay
from tests.unit.test_foreign_logs import PERIOD, START, depth_of, picture, ros_image, write_rosbags
from tests.unit.test_replay import record

MS = 1_000_000


class Film(Node):
    """Small pictures of noise, 10 ms apart."""

    class Outputs:
        out: Frame

    def __init__(self, *, count: int = 20) -> None:
        self._count, self._next = count, 0

    def due_ns(self) -> int:
        if self._next == self._count:
            raise EndOfStream
        return self._next * 10 * MS

    def step(self) -> Frame:
        self._next += 1
        return Frame(Stamp((self._next - 1) * 10 * MS), noise(self._next), "Mono8", self._next)


class Mean(Node):
    """The mean of every picture, many times."""

    class Outputs:
        out: ProbabilityMap

    def step(self, frame: Frame) -> ProbabilityMap:
        return ProbabilityMap(
            Stamp(frame.stamp.t_ns), np.full((5, 8), frame.image.mean(), np.float32), 0.0, 0.0, 1.0
        )  # fmt: skip


class Blank(Mean):
    """Says nothing in many numbers."""

    class Outputs:
        out: ProbabilityMap

    def step(self, frame: Frame) -> ProbabilityMap:
        return ProbabilityMap(Stamp(frame.stamp.t_ns), np.full((5, 8), np.nan, np.float32), 0.0, 0.0, 1.0)


def noise(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 255, (12, 16), np.uint8)


@contextmanager
def known_nodes() -> Iterator[None]:
    """While it holds, graphs may use the nodes of this file, and those that replays are tested with."""
    ours = {**test_replay.OURS, "film": Film, "mean": Mean, "blank": Blank}
    listing, load = catalog.listing, catalog.load
    points = {n: EntryPoint(n, f"{kind.__module__}:{kind.__name__}", "foveate.nodes") for n, kind in ours.items()}
    with (
        patch.object(catalog, "listing", lambda g: {**listing(g), **points} if g == "nodes" else listing(g)),
        patch.object(catalog, "load", lambda g, n: ours[n] if g == "nodes" and n in ours else load(g, n)),
    ):
        yield


@pytest.fixture(autouse=True)
def our_nodes() -> Iterator[None]:
    with known_nodes():
        yield


NUMBERS = """\
foveate: 1
nodes:
  fast: {{use: ticks, params: {{count: {count}, seed: 1}}}}
  rare: {{use: ticks, params: {{count: 4, period: 9000000, seed: 2}}}}
  sum: {{use: sum, cost: {cost}, params: {{noise: {noise}}}, inputs: {{value: {{from: fast.out, queue: {queue}}}}}}}
  join: {{use: join, cost: 500us, inputs: {{value: sum.out, held: rare.out}}}}
record:
  streams: [rare.out, sum.out, join.out, {{from: fast.out, queue: every(2)}}]
"""
PICTURES = """\
foveate: 1
nodes:
  film: {use: film}
  mean: {use: mean, cost: 3ms, inputs: {frame: film.out}}
record: {streams: [film.out, mean.out]}
"""


def numbers(
    folder: Path, *, count: int = 40, cost: str = "1ms", noise: float = 0.0, queue: str = "fifo(2)"
) -> Path:  # fmt: skip
    return record(folder, NUMBERS.format(count=count, cost=cost, noise=noise, queue=queue))[0]


@pytest.fixture(scope="module")
def run_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbers, half of one stream not recorded."""
    with known_nodes():
        return numbers(tmp_path_factory.mktemp("numbers"))


@pytest.fixture(scope="module")
def film_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures: each message is a batch of its own, film and mean by turns."""
    with known_nodes(), patch.object(recorder, "_BATCH_BYTES", 1):
        return record(tmp_path_factory.mktemp("film"), PICTURES)[0]


def batches(path: Path) -> list[int]:
    """Where each batch begins."""
    found = re.finditer(re.escape(mcap.MARKER), path.read_bytes())
    return [match.start() - mcap.RECORD_HEAD.size for match in found]


@pytest.fixture
def killed(film_log: Path, tmp_path: Path) -> Path:
    """The picture log as a process left it that was killed while it wrote its batch 12."""
    path = tmp_path / "killed.mcap"
    path.write_bytes(film_log.read_bytes()[: batches(film_log)[12] + 100])
    return path


@pytest.fixture
def damaged(film_log: Path, tmp_path: Path) -> Path:
    """The picture log with a wrong byte in picture 6."""
    path = tmp_path / "damaged.mcap"
    data = bytearray(film_log.read_bytes())
    data[batches(film_log)[10] + mcap.BATCH_BYTES + mcap.CHUNK_HEAD.size + 60] ^= 0x20
    path.write_bytes(data)
    return path


@pytest.fixture
def log(capsys: pytest.CaptureFixture[str]) -> Any:
    """Run `foveate log`: exit code, what was printed, what was said."""

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(["log", *map(str, arguments)])
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return code, out, err

    return run


def refused(result: tuple[int, str, str]) -> str:
    """The one line of an error."""
    code, out, err = result
    assert (code, out) == (1, "") and err.startswith("foveate: ") and err.count("\n") == 1, result
    return err.removeprefix("foveate: ").rstrip("\n")


def rows(text: str) -> list[list[str]]:
    """The cells of a table."""
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines()]


# info -----------------------------------------------------------------------------------------------------------


def test_info_says_what_made_a_recording(run_log: Path, log: Any) -> None:
    code, out, err = log("info", run_log)
    assert (code, err) == (0, "")
    assert "graph       graph  sha256 " in out and "executor    virtual" in out and "ended by    end" in out
    assert "not by default" in out
    table = rows(out[out.index("stream ") :])
    assert [row[0] for row in table] == ["stream", "/fast.out", "/join.out", "/rare.out", "/sum.out"]
    assert [row[2] for row in table[1:]] == ["20", "40", "4", "40"]
    assert [row[4] for row in table[1:]] == ["20 skipped", "0", "0", "0"]

    code, out, err = log("info", run_log, "--json")
    facts = json.loads(out)
    assert (code, err) == (0, "") and facts["closed"] and facts["lost"] == {} and facts["notes"] == []
    assert facts["bytes"] == run_log.stat().st_size and facts["file"] == str(run_log)
    assert facts["seal"]["nodes"] == ["fast", "rare", "sum", "join"] and facts["end"]["stopped_by"] == "end"
    streams = {s["topic"]: s for s in facts["streams"]}
    assert streams["/fast.out"]["messages"] == 20 and streams["/fast.out"]["dropped"] == {"skipped": 20}


def test_info_of_a_killed_run(killed: Path, log: Any) -> None:
    code, out, err = log("info", killed)
    assert code == 3 and "/film.out" in out and "was not closed in order: recovered" in err
    assert re.search(r"accepted for recording and not in the file: film\.out 14, .*mean\.out 14$", err, re.MULTILINE)
    code, out, _ = log("info", killed, "--json")
    facts = json.loads(out)
    assert code == 3 and not facts["closed"] and facts["lost"]["film.out"] == 14 and len(facts["notes"]) == 2


ON_DAMAGE = {
    "info": ["--check"], "ls": [], "cat": ["film.out"], "diff": ["LOG"], "cut": ["OUT.mcap"],
    "plot": ["OUT.png"], "export": ["csv", "OUT"],
}  # fmt: skip


@pytest.mark.parametrize("action", ON_DAMAGE)
def test_what_a_damaged_recording_lacks_is_named_by_every_action(
    action: str, damaged: Path, tmp_path: Path, log: Any
) -> None:
    words = {"LOG": damaged, "OUT": tmp_path / "out", "OUT.mcap": tmp_path / "o.mcap", "OUT.png": tmp_path / "o.png"}
    code, _, err = log(action, damaged, *(words.get(word, word) for word in ON_DAMAGE[action]))
    assert code == 3 and "accepted for recording and not in the file: film.out 1" in err


def test_info_of_a_foreign_log_is_a_table(tmp_path: Path, log: Any) -> None:
    for place in (write_rosbags(tmp_path / "a.bag", "ros1"), write_rosbags(tmp_path / "b", "ros2 mcap")):
        code, out, err = log("info", place)
        assert (code, err) == (0, "") and "not recorded by foveate" in out and "2023-11-14" in out
        table = rows(out[out.index("topic ") :])
        assert [(row[0], row[2], row[3]) for row in table[1:]] == [
            ("/cam/depth", "DepthFrame", "6"), ("/cam/image", "Frame", "6"),
        ]  # fmt: skip
        code, out, _ = log("info", place, "--json")
        facts = json.loads(out)
        assert code == 0 and facts["start_ns"] == START + 5 * MS
        assert {t["topic"]: t["becomes"] for t in facts["topics"]} == {
            "/cam/depth": "DepthFrame",
            "/cam/image": "Frame",
        }


@pytest.mark.parametrize("action", ["info", "ls", "cat", "trace", "cut", "plot", "export", "diff"])
def test_what_is_no_recording_is_one_line(action: str, tmp_path: Path, log: Any) -> None:
    (tmp_path / "text.txt").write_text("hello\n")
    (tmp_path / "empty.mcap").write_bytes(b"")
    (tmp_path / "empty.bag").write_bytes(b"")
    (tmp_path / "folder").mkdir()
    more = {
        "cat": ["a.b"], "trace": ["a.b"], "cut": [tmp_path / "out.mcap"], "plot": [tmp_path / "out.png"],
        "export": ["csv", tmp_path / "out"], "diff": [tmp_path / "text.txt"],
    }.get(action, [])  # fmt: skip
    for name in ("text.txt", "empty.mcap", "empty.bag", "folder", "none.mcap"):
        line = refused(log(action, tmp_path / name, *more))
        assert name in line
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty.bag", "empty.mcap", "folder", "text.txt"]


# ls -------------------------------------------------------------------------------------------------------------


def test_ls_numbers_what_is_missing_and_the_gaps(run_log: Path, film_log: Path, log: Any) -> None:
    code, out, err = log("ls", run_log)
    table = {row[0]: row for row in rows(out)}
    assert (code, err) == (0, "")
    assert table["stream"][-1] == "numbers missing" and table["fast.out"][-1] == "19" and table["sum.out"][-1] == "0"
    code, out, _ = log("ls", film_log, "--json")
    found = {row["stream"]: row for row in map(json.loads, out.splitlines())}
    assert code == 0 and set(found) == {"film.out", "mean.out"}
    film = found["film.out"]
    assert (film["messages"], film["missing"], film["first_s"], film["last_s"]) == (20, 0, 0.0, 0.19)
    assert film["longest_gap_s"] == 0.01 and film["bytes"] > 20 * 12 * 16
    assert (found["mean.out"]["first_s"], found["mean.out"]["last_s"]) == (0.003, 0.193)


def test_ls_of_a_part_and_of_one_stream(film_log: Path, log: Any) -> None:
    code, out, _ = log("ls", film_log, "--json", "--from", "50ms", "--to", "80ms")
    found = {row["stream"]: row["messages"] for row in map(json.loads, out.splitlines())}
    assert code == 0 and found == {"film.out": 3, "mean.out": 3}
    code, out, _ = log("ls", film_log, "film.out", "--from", "50ms", "--to", "80ms")
    assert code == 0 and re.findall(r"^#(\d+) +(\S+) s  stamp +(\S+) s", out, re.MULTILINE) == [
        ("6", "0.050000", "0.050000"), ("7", "0.060000", "0.060000"), ("8", "0.070000", "0.070000"),
    ]  # fmt: skip
    code, out, _ = log("ls", film_log, "/mean.out", "--json", "--from", "190ms")
    assert code == 0 and [json.loads(line) for line in out.splitlines()] == [
        {"number": 20, "t_s": 0.193, "stamp_s": 0.19, "bytes": json.loads(out)["bytes"]}
    ]
    code, out, _ = log("ls", film_log, "--from", "9s")
    assert code == 0 and rows(out)[1][:2] == ["film.out", "0"]
    assert "not a duration: 'soon'" in refused(log("ls", film_log, "--from", "soon"))
    assert refused(log("ls", film_log, "flim.out")).endswith("no stream 'flim.out'; did you mean 'film.out'?")


def test_ls_of_what_is_not_whole(killed: Path, damaged: Path, log: Any) -> None:
    code, out, err = log("ls", killed, "--json")
    film = next(row for row in map(json.loads, out.splitlines()) if row["stream"] == "film.out")
    assert code == 3 and film["missing"] == 0 and 0 < film["messages"] < 20 and "not closed in order" in err
    code, out, err = log("ls", damaged, "--json")
    film = next(row for row in map(json.loads, out.splitlines()) if row["stream"] == "film.out")
    assert code == 3 and film["missing"] == 1 and film["messages"] == 19 and film["longest_gap_s"] == 0.02
    code, out, err = log("ls", damaged, "film.out")
    assert code == 3 and len(out.splitlines()) == 19


# cat ------------------------------------------------------------------------------------------------------------


def lines(result: tuple[int, str, str]) -> list[dict[str, Any]]:
    code, out, err = result
    assert (code, err) == (0, "")
    return [json.loads(line) for line in out.splitlines()]


def test_cat_shows_the_values(run_log: Path, film_log: Path, log: Any) -> None:
    with Recording(run_log) as reading:
        expected = [m.expected.tolist() for _, m in reading.messages("sum.out", ProbabilityMap)]  # type: ignore[attr-defined]
    found = lines(log("cat", run_log, "sum.out"))
    assert [row["number"] for row in found] == list(range(1, 41))
    assert [row["expected"] for row in found] == expected
    assert found[0]["stamp"]["clock"] == "pipeline" and found[0]["cell_rad"] == 1.0
    (one,) = lines(log("cat", run_log, "/fast.out", "--number", "5"))
    assert one["number"] == 5
    assert lines(log("cat", run_log, "fast.out", "--number", "4")) == [], "its queue left it out"
    assert [row["number"] for row in lines(log("cat", run_log, "fast.out", "--count", "3"))] == [1, 3, 5]
    assert [row["t_s"] for row in lines(log("cat", film_log, "film.out", "--from", "45ms", "--to", "70ms"))] == [
        0.05, 0.06,
    ]  # fmt: skip
    both = lines(log("cat", film_log, "film.out", "--from", "45ms", "--count", "1"))
    assert [row["number"] for row in both] == [6]


def test_cat_shortens_large_arrays_unless_asked(film_log: Path, log: Any) -> None:
    (short,) = lines(log("cat", film_log, "film.out", "--number", "3"))
    image = noise(3)
    assert short["image"] == {
        "shape": [12, 16], "dtype": "uint8", "min": float(image.min()), "max": float(image.max()),
        "mean": round(float(image.mean()), 6),
    }  # fmt: skip
    assert (short["encoding"], short["seq"], short["mirror"]) == ("Mono8", 3, None)
    (full,) = lines(log("cat", film_log, "film.out", "--number", "3", "--full"))
    assert full["image"] == image.tolist()


def test_cat_of_an_unknown_stream_or_a_damaged_file(film_log: Path, damaged: Path, log: Any) -> None:
    assert "no stream 'mean.uot'; did you mean 'mean.out'?" in refused(log("cat", film_log, "mean.uot"))
    code, out, _ = log("cat", damaged, "film.out")
    assert code == 3 and len(out.splitlines()) == 19


def test_cat_of_no_message(film_log: Path, log: Any) -> None:
    assert lines(log("cat", film_log, "film.out", "--count", "0")) == []


def test_cat_of_arrays_without_a_number(tmp_path: Path, log: Any) -> None:
    path = record(tmp_path, PICTURES.replace("use: mean", "use: blank"))[0]
    assert len(lines(log("cat", path, "mean.out"))) == 20


# trace ----------------------------------------------------------------------------------------------------------


def test_trace_goes_back_to_the_sources(run_log: Path, log: Any) -> None:
    with Recording(run_log) as reading:
        steps = [s for s in reading.decisions() if isinstance(s, Step)]
    join = [s for s in steps if s.node == 3]
    step = join[29]  # after the first of `rare` has come
    used = dict(zip(step.inputs[::2], step.inputs[1::2], strict=True))
    code, out, err = log("trace", run_log, "join.out", "30")
    assert (code, err) == (0, "")
    told = out.splitlines()
    assert told[0].startswith("join.out #30 at ") and "join step 30, waited " in told[0]
    assert told[1].startswith(f"  sum.out #{used[1]} at ") and told[1].endswith("took 1 ms")
    assert told[2].startswith(f"    fast.out #{used[1]} at ")
    assert told[3].startswith(f"  rare.out #{used[2]} at ")
    assert told[4].startswith("goes back to ") and len(told) == 5
    code, out, _ = log("trace", run_log, "join.out", "30", "--json")
    facts = json.loads(out)
    assert code == 0 and facts["message"] == "join.out #30"
    assert {s["message"] for s in facts["sources"]} == {f"fast.out #{used[1]}", f"rare.out #{used[2]}"}
    assert [s["t_s"] for s in facts["sources"]] == sorted((s["t_s"] for s in facts["sources"]), reverse=True)


def test_trace_of_the_last_of_a_source_and_of_none(run_log: Path, log: Any) -> None:
    code, out, _ = log("trace", run_log, "join.out")
    assert code == 0 and out.startswith("join.out #40 at ")
    code, out, _ = log("trace", run_log, "fast.out", "3")
    assert code == 0 and out.splitlines()[1] == "goes back to no source"
    assert refused(log("trace", run_log, "join.out", "41")).endswith("no step is recorded that gave join.out #41")
    assert "did you mean 'join.out'?" in refused(log("trace", run_log, "jion.out"))
    assert log("trace", run_log, "sum.out", "12", "--json")[0] == 0


def test_trace_of_an_import_says_that_it_has_no_decisions(tmp_path: Path, log: Any) -> None:
    assert log("import", write_rosbags(tmp_path / "a.bag", "ros1"), tmp_path / "a.mcap")[0] == 0
    assert "its decisions do not speak of 'cam_image.frame'" in refused(
        log("trace", tmp_path / "a.mcap", "cam_image.frame")
    )


# diff -----------------------------------------------------------------------------------------------------------


def test_diff_of_equal_recordings(run_log: Path, tmp_path: Path, log: Any) -> None:
    other = numbers(tmp_path)
    code, out, err = log("diff", run_log, other, "--times")
    assert (code, err) == (0, "")
    assert out.startswith(f"A  {run_log}\nB  {other}\n") and out.endswith("the recordings say the same\n")
    assert {row[0]: row[1:] for row in rows(out)[3:-1]} == {
        "fast.out": ["20", "0", "0", "0", "0"], "join.out": ["40", "0", "0", "0", "0"],
        "rare.out": ["4", "0", "0", "0", "0"], "sum.out": ["40", "0", "0", "0", "0"],
    }  # fmt: skip


def test_diff_within_a_tolerance_and_beyond_it(run_log: Path, tmp_path: Path, log: Any) -> None:
    other = numbers(tmp_path, noise=0.001)
    code, out, _ = log("diff", run_log, other, "--streams", "sum.out,fast.out")
    assert code == 4 and "the recordings differ" in out
    part = re.search(r"^sum\.out parts at #1 at 0\.\d{6} s: (.*)$", out, re.MULTILINE)
    assert part is not None and "A " in part[1] and "B " in part[1] and "expected" in part[1]
    assert "fast.out parts" not in out and "join.out" not in out
    code, out, _ = log("diff", run_log, other, "--streams", "sum.out", "--tolerance", "sum.out=0.002", "--json")
    found = json.loads(out)["sum.out"]
    assert code == 0 and (found["equal"], found["close"], found["different"]) == (0, 40, 0)
    assert found["largest"] == pytest.approx(0.001, rel=0.05) and found["first"] == ""
    assert log("diff", run_log, other, "--streams", "sum.out", "--tolerance", "sum.out=1e-5")[0] == 4
    code, out, err = log("diff", run_log, other, "--tolerance", "sum.out=much")
    assert code == 2 and "'much' is not a number from 0" in err


def test_diff_names_what_only_one_of_them_has(run_log: Path, tmp_path: Path, log: Any) -> None:
    shorter = tmp_path / "short.mcap"
    assert log("cut", run_log, shorter, "--to", "40ms")[0] == 0
    numbers_there = [number for number, _, _ in content(run_log, "fast.out")]
    kept = len(content(shorter, "fast.out"))
    for pair, only, where in (((run_log, shorter), "only_a", "A"), ((shorter, run_log), "only_b", "B")):
        code, out, _ = log("diff", *pair, "--streams", "fast.out", "--json")
        found = json.loads(out)["fast.out"]
        assert code == 4 and (found["equal"], found["different"], found[only]) == (kept, 0, 20 - kept)
        assert found["first"] == f"#{numbers_there[kept]}, which is only in {where}" and 5 < kept < 20


def test_diff_of_times(run_log: Path, tmp_path: Path, log: Any) -> None:
    slower = numbers(tmp_path, cost="1100us", queue="block(40)")
    quicker = numbers(tmp_path / "b", queue="block(40)")
    code, out, _ = log("diff", quicker, slower, "--streams", "sum.out", "--json")
    assert code == 0 and json.loads(out)["sum.out"]["equal"] == 40
    code, out, _ = log("diff", quicker, slower, "--streams", "sum.out", "--times", "--json")
    found = json.loads(out)["sum.out"]
    assert code == 4 and found["different"] == 40
    assert re.fullmatch(r"#1 at (0\.\d{6}) s: time: A \1 s, B 0\.\d{6} s", found["first"])


def test_diff_with_what_is_not_whole(film_log: Path, damaged: Path, log: Any) -> None:
    code, out, _ = log("diff", film_log, damaged, "--json")
    found = json.loads(out)["film.out"]
    assert code == 4 and (found["equal"], found["only_a"], found["only_b"]) == (19, 1, 0)
    assert found["first"] == "#6, which is only in A"
    code, _, _ = log("diff", damaged, damaged)
    assert code == 3


def test_diff_of_a_stream_that_is_not_there(run_log: Path, log: Any) -> None:
    assert "no stream 'smu.out'" in refused(log("diff", run_log, run_log, "--streams", "smu.out"))


def test_diff_of_streams_of_different_types(run_log: Path, tmp_path: Path, log: Any) -> None:
    text = "foveate: 1\nnodes: {fast: {use: film}}\nrecord: {streams: [fast.out]}\n"
    other = record(tmp_path, text)[0]
    code, _, err = log("diff", run_log, other, "--streams", "fast.out")
    assert code == 4 or (code == 1 and err.count("\n") == 1)


# cut ------------------------------------------------------------------------------------------------------------


def content(path: Path, stream: str) -> list[tuple[int, int, bytes]]:
    with Recording(path) as reading:
        return [(raw.sequence, raw.log_ns, bytes(raw.data)) for raw in reading.raw(f"/{stream}")]


def test_cut_keeps_the_content_of_the_part_and_the_seal_of_the_whole(film_log: Path, tmp_path: Path, log: Any) -> None:
    out_path = tmp_path / "part" / "cut.mcap"
    code, out, err = log("cut", film_log, out_path, "--from", "50ms", "--to", "103ms")
    assert (code, err) == (0, "") and out.startswith(f"{out_path}  ")
    assert content(out_path, "film.out") == content(film_log, "film.out")[5:11]
    assert content(out_path, "mean.out") == content(film_log, "mean.out")[5:10], "0.103 s is the next part's"
    with Recording(film_log) as whole, Recording(out_path) as part:
        assert part.file.closed and not part.notes()
        assert part.seal == whole.seal and part.graph_text == whole.graph_text
        assert part.end["cut"] == {"of": "run.mcap", "from": "50ms", "to": "103ms", "streams": None}
        assert part.end["stopped_by"] == "end"
    with out_path.open("rb") as stream:
        messages = list(make_reader(stream, validate_crcs=True).iter_messages())
    assert sum(c.topic == "/film.out" for _, c, _ in messages) == 6
    assert list(out_path.parent.iterdir()) == [out_path], "nothing is left beside it"


def test_parts_that_meet_are_the_whole(film_log: Path, tmp_path: Path, log: Any) -> None:
    assert log("cut", film_log, tmp_path / "a.mcap", "--to", "77ms")[0] == 0
    assert log("cut", film_log, tmp_path / "b.mcap", "--from", "77ms")[0] == 0
    for stream in ("film.out", "mean.out"):
        assert content(tmp_path / "a.mcap", stream) + content(tmp_path / "b.mcap", stream) == content(film_log, stream)


def test_cut_of_streams(film_log: Path, tmp_path: Path, log: Any) -> None:
    assert log("cut", film_log, tmp_path / "a.mcap", "--streams", "mean.out")[0] == 0
    with Recording(tmp_path / "a.mcap") as part, Recording(film_log) as whole:
        assert [s.name for s in part.streams()] == ["mean.out"]
        assert list(part.decisions()) == list(whole.decisions())
    assert content(tmp_path / "a.mcap", "mean.out") == content(film_log, "mean.out")
    assert "did you mean 'mean.out'?" in refused(log("cut", film_log, tmp_path / "b.mcap", "--streams", "maen.out"))
    assert not (tmp_path / "b.mcap").exists()


@pytest.mark.parametrize("span", [(50, 103), (0, 30), (0, 100)])
def test_cut_keeps_the_decisions_of_the_part(span: tuple[int, int], film_log: Path, tmp_path: Path, log: Any) -> None:
    assert log("cut", film_log, tmp_path / "a.mcap", "--from", f"{span[0]}ms", "--to", f"{span[1]}ms")[0] == 0
    with Recording(tmp_path / "a.mcap") as part, Recording(film_log) as whole:
        expected = [s for s in whole.decisions() if isinstance(s, Step) and span[0] <= s.begun_ns / MS < span[1]]
        assert [s for s in part.decisions() if isinstance(s, Step)] == expected and len(expected) >= 6


def test_cut_can_be_traced(film_log: Path, tmp_path: Path, log: Any) -> None:
    assert log("cut", film_log, tmp_path / "a.mcap", "--to", "100ms")[0] == 0
    assert log("trace", tmp_path / "a.mcap", "mean.out", "3")[0] == 0


def replay(path: Path, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, Any], str]:
    capsys.readouterr()
    code = main(["replay", str(path), "--verify", "--json", "--no-record", *more])
    out, err = capsys.readouterr()
    return code, json.loads(out) if out else {}, err


def test_a_part_that_lacks_nothing_is_verified(
    film_log: Path, tmp_path: Path, log: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, more in (("a", ["--to", "1h"]), ("b", []), ("c", ["--streams", "film.out,mean.out"])):
        assert log("cut", film_log, tmp_path / f"{name}.mcap", *more)[0] == 0
        code, result, err = replay(tmp_path / f"{name}.mcap", capsys)
        assert code == 0 and result["verified"] == {"good": True, "first": None}, err


def test_the_beginning_of_a_recording_is_verified(
    film_log: Path, tmp_path: Path, log: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert log("cut", film_log, tmp_path / "a.mcap", "--to", "95ms")[0] == 0
    code, result, err = replay(tmp_path / "a.mcap", capsys)
    assert code == 0 and result["verified"] == {"good": True, "first": None}, err


def test_a_part_that_begins_in_the_middle_is_refused(
    film_log: Path, tmp_path: Path, log: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert log("cut", film_log, tmp_path / "a.mcap", "--from", "95ms")[0] == 0
    code, _, err = replay(tmp_path / "a.mcap", capsys)
    assert code == 1 and "steps 1 to 10 of 'mean' are not in the recording; --allow-gaps" in err
    assert err.count("\n") == 1
    code, result, err = replay(tmp_path / "a.mcap", capsys, "--allow-gaps")
    assert code in (0, 4) and result["balanced"], err


def test_a_part_without_a_source_is_refused(
    film_log: Path, tmp_path: Path, log: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    assert log("cut", film_log, tmp_path / "a.mcap", "--streams", "mean.out")[0] == 0
    code, _, err = replay(tmp_path / "a.mcap", capsys)
    assert code == 1 and "'film.out' was not recorded, and the graph needs it" in err


def test_cut_of_what_is_damaged_ends_with_3(damaged: Path, tmp_path: Path, log: Any) -> None:
    assert log("cut", damaged, tmp_path / "a.mcap", "--to", "1h")[0] == 3
    assert len(content(tmp_path / "a.mcap", "film.out")) == 19


# recover --------------------------------------------------------------------------------------------------------


def stock(path: Path) -> dict[str, list[bytes]]:
    """What the mcap package reads of a file, by its index, with every checksum compared."""
    found: dict[str, list[bytes]] = {}
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None and summary.chunk_indexes
        for _, channel, message in reader.iter_messages():
            found.setdefault(channel.topic, []).append(message.data)
        assert summary.statistics.message_count == sum(map(len, found.values()))
    with path.open("rb") as stream:  # and from end to end
        assert list(StreamReader(stream, validate_crcs=True).records)
    return found


def test_recover_of_a_killed_run(killed: Path, film_log: Path, tmp_path: Path, log: Any) -> None:
    out_path = tmp_path / "clean.mcap"
    code, out, err = log("recover", killed, out_path)
    kept = content(out_path, "film.out")
    assert code == 3 and kept == content(film_log, "film.out")[: len(kept)] and 5 < len(kept) < 20
    assert "was not closed in order: recovered" in err
    lost = re.search(r"^lost: .*film\.out (\d+)", out, re.MULTILINE)
    assert lost is not None and int(lost[1]) == 20 - len(kept)
    assert len(stock(out_path)["/film.out"]) == len(kept)
    with Recording(out_path) as clean, Recording(film_log) as whole:
        assert clean.file.closed and clean.notes() == [] and clean.seal == whole.seal
        assert clean.end["recovered"]["of"] == "killed.mcap" and clean.end["recovered"]["lost"]["film.out"] > 0
        assert len(clean.end["recovered"]["notes"]) == 2
    assert log("info", out_path)[0] == 0


def test_recover_of_a_killed_run_that_had_written_all(film_log: Path, tmp_path: Path, log: Any) -> None:
    path = tmp_path / "killed.mcap"
    with Recording(film_log) as whole:
        end = max(d for d in batches(film_log))
        total = sum(whole.counts.values())
    data = film_log.read_bytes()
    batch = mcap.Batch.parse(data[end : end + mcap.BATCH_BYTES])
    assert batch is not None
    path.write_bytes(data[: end + mcap.BATCH_BYTES + batch.chunk_bytes])
    code, out, err = log("recover", path, tmp_path / "clean.mcap")
    assert code == 0 and f"recovered {total} messages" in err and "lost" not in out
    assert content(tmp_path / "clean.mcap", "mean.out") == content(film_log, "mean.out")


def test_recover_of_a_damaged_recording(damaged: Path, film_log: Path, tmp_path: Path, log: Any) -> None:
    code, out, err = log("recover", damaged, tmp_path / "clean.mcap")
    assert code == 3 and "lost: film.out 1" in out and "checksum does not fit" in err
    whole = content(film_log, "film.out")
    assert content(tmp_path / "clean.mcap", "film.out") == whole[:5] + whole[6:]
    assert len(stock(tmp_path / "clean.mcap")["/film.out"]) == 19


def test_recover_of_a_whole_recording(film_log: Path, tmp_path: Path, log: Any) -> None:
    code, out, err = log("recover", film_log, tmp_path / "clean.mcap")
    assert (code, err) == (0, "") and "lost" not in out
    for stream in ("film.out", "mean.out"):
        assert content(tmp_path / "clean.mcap", stream) == content(film_log, stream)


def foreign(path: Path, count: int = 40, compression: CompressionType = CompressionType.ZSTD) -> list[bytes]:
    """A ROS 2 log as other programs write it: images in small chunks, metadata, an attachment."""
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    kind = "sensor_msgs/msg/Image"
    definition, _ = store.generate_msgdef(kind, ros_version=2)
    sent = []
    with path.open("wb") as stream:
        writer = StockWriter(stream, chunk_size=4096, compression=compression)
        writer.start(profile="ros2", library="somebody")
        schema = writer.register_schema(kind, "ros2msg", definition.encode())
        channel = writer.register_channel("/cam/image", "cdr", schema, {"made_by": "somebody"})
        writer.add_metadata("rig", {"name": "left"})
        writer.add_attachment(1, 2, "note.txt", "text/plain", b"hello")
        for i in range(count):
            t_ns = START + i * PERIOD
            message = ros_image(store.types, t_ns, picture(i, 16, 12), "bgr8")
            sent.append(bytes(store.serialize_cdr(message, kind)))
            writer.add_message(channel, t_ns + 5, sent[-1], t_ns, i)
        writer.finish()
    return sent


def assert_ros2_reads(path: Path, sent: list[bytes]) -> None:
    """The stock reader, and rosbags, which takes profile, schemas and encodings at their word."""
    from rosbags.rosbag2 import Reader
    from rosbags.typesys import Stores, get_typestore

    assert stock(path)["/cam/image"] == sent
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        assert [m.metadata for m in reader.iter_metadata()] == [{"name": "left"}]
        assert [(a.name, a.data) for a in reader.iter_attachments()] == [("note.txt", b"hello")]
    store = get_typestore(Stores.ROS2_HUMBLE)
    with Reader(path) as bag:
        (connection,) = bag.connections
        assert (connection.topic, connection.msgtype) == ("/cam/image", "sensor_msgs/msg/Image")
        for i, (_, t_ns, data) in enumerate(bag.messages()):
            assert bytes(data) == sent[i] and t_ns == START + i * PERIOD + 5
            image: Any = store.deserialize_cdr(data, connection.msgtype)
            assert np.array_equal(np.reshape(image.data, (12, 16, 3)), picture(i, 16, 12))
        assert bag.message_count == len(sent)


@pytest.mark.parametrize("compression", [CompressionType.ZSTD, CompressionType.LZ4, CompressionType.NONE])
def test_recover_of_a_foreign_log_that_was_cut_off(compression: CompressionType, tmp_path: Path, log: Any) -> None:
    sent = foreign(tmp_path / "whole.mcap", compression=compression)
    data = (tmp_path / "whole.mcap").read_bytes()
    path = tmp_path / "torn.mcap"
    path.write_bytes(data[: len(data) // 2])
    code, out, err = log("recover", path, tmp_path / "clean.mcap")
    assert code == 3 and re.search(r"torn\.mcap: cannot be read from byte \d+ of \d+ on", err)
    count = int(re.search(r"  (\d+) messages", out)[1])  # type: ignore[index]
    assert 5 < count < 40
    assert_ros2_reads(tmp_path / "clean.mcap", sent[:count])


def test_recover_of_a_foreign_log_with_a_wrong_byte(tmp_path: Path, log: Any) -> None:
    path = tmp_path / "bad.mcap"
    sent = foreign(path, compression=CompressionType.NONE)
    data = bytearray(path.read_bytes())
    at = data.index(picture(20, 16, 12).tobytes()) + 300
    data[at] ^= 1
    path.write_bytes(data)
    code, out, err = log("recover", path, tmp_path / "clean.mcap")
    count = int(re.search(r"  (\d+) messages", out)[1])  # type: ignore[index]
    assert code == 3 and re.search(r"bad\.mcap: a chunk of \d+ bytes is damaged", err)
    assert 30 < count < 40
    kept = stock(tmp_path / "clean.mcap")["/cam/image"]
    assert len(kept) == count and sent[20] not in kept and [m for m in sent if m in set(kept)] == kept


def test_recover_of_a_whole_foreign_log(tmp_path: Path, log: Any) -> None:
    sent = foreign(tmp_path / "whole.mcap")
    code, out, err = log("recover", tmp_path / "whole.mcap", tmp_path / "clean.mcap")
    assert (code, err) == (0, "") and "  40 messages" in out
    assert_ros2_reads(tmp_path / "clean.mcap", sent)


def test_recover_of_what_is_no_mcap(tmp_path: Path, log: Any) -> None:
    (tmp_path / "text.txt").write_text("hello\n" * 99)
    refused(log("recover", tmp_path / "text.txt", tmp_path / "clean.mcap"))
    assert not (tmp_path / "clean.mcap").exists()


def test_recover_of_a_folder_names_the_folder(tmp_path: Path, log: Any) -> None:
    (tmp_path / "folder").mkdir()
    line = refused(log("recover", tmp_path / "folder", tmp_path / "clean.mcap"))
    assert not (tmp_path / "clean.mcap").exists() and line.startswith(f"{tmp_path}/folder: ")


# What exists, and disks that fail --------------------------------------------------------------------------------


def test_what_exists_is_never_overwritten(film_log: Path, damaged: Path, tmp_path: Path, log: Any) -> None:
    foreign(tmp_path / "foreign.mcap")
    bag = write_rosbags(tmp_path / "a.bag", "ros1")
    out_path = tmp_path / "there.mcap"
    out_path.write_bytes(b"mine")
    for command in (
        ["cut", film_log, out_path], ["recover", damaged, out_path], ["recover", tmp_path / "foreign.mcap", out_path],
        ["import", bag, out_path], ["plot", film_log, out_path], ["export", film_log, "ros2", out_path],
        ["export", film_log, "csv", out_path], ["export", film_log, "images", out_path],
        ["cut", film_log, film_log], ["recover", damaged, damaged],
    ):  # fmt: skip
        assert "exists already" in refused(log(*command)), command
        assert out_path.read_bytes() == b"mine"
    film = tmp_path / "film.mp4"
    film.write_bytes(b"mine")
    assert "exists already" in refused(log("export", film_log, "video", film, "--streams", "film.out"))
    assert film.read_bytes() == b"mine"


def full_disk(after: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk takes `after` more writes of recordings."""
    real, left = os.writev, [after]

    def writev(*arguments: Any) -> int:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*arguments)

    monkeypatch.setattr(os, "writev", writev)


@pytest.mark.parametrize("after", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("action", ["cut", "recover", "import"])
def test_a_full_disk_leaves_no_part_of_a_file(
    action: str, after: int, film_log: Path, tmp_path: Path, log: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_rosbags(tmp_path / "a.bag", "ros1") if action == "import" else film_log
    (tmp_path / "out").mkdir()
    full_disk(after, monkeypatch)
    line = refused(log(action, source, tmp_path / "out" / "x.mcap"))
    assert "x.mcap: cannot write: " in line and "No space left" in line
    assert list((tmp_path / "out").iterdir()) == []


class FullFile(io.FileIO):
    """A file on a disk that is soon full."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > 600_000:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().write(data)


def test_a_full_disk_is_no_damage_of_a_foreign_log(tmp_path: Path, log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(1)
    with (tmp_path / "a.mcap").open("wb") as stream:
        writer = StockWriter(stream, compression=CompressionType.NONE)
        writer.start()
        channel = writer.register_channel("/x", "raw", 0)
        for i in range(40):
            writer.add_message(channel, i, rng.randbytes(100_000), i, i)
        writer.finish()
    (tmp_path / "out").mkdir()
    real = Path.open

    def opened(self: Path, mode: str = "r", *more: Any, **named: Any) -> Any:
        return FullFile(self, "wb") if self.parent.name == "out" else real(self, mode, *more, **named)

    monkeypatch.setattr(Path, "open", opened)
    line = refused(log("recover", tmp_path / "a.mcap", tmp_path / "out" / "x.mcap"))
    assert "x.mcap: cannot write: " in line and list((tmp_path / "out").iterdir()) == []


def test_a_source_that_breaks_off_leaves_no_part_of_a_file(
    film_log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody presses Ctrl-C."""

    def stop(self: Any, *given: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("foveate.terminal.Progress.__call__", stop)
    assert main(["log", "cut", str(film_log), str(tmp_path / "x.mcap")]) == 130
    assert list(tmp_path.iterdir()) == []


# plot -----------------------------------------------------------------------------------------------------------


def png_size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n" and data[-8:-4] == b"IEND"
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The panels of every picture that is drawn."""
    pytest.importorskip("matplotlib")
    from foveate_logbook import plot

    found: list[Any] = []
    real = plot._draw

    def draw(title: str, panels: list[Any], out: Path) -> None:
        found[:] = panels
        with warnings.catch_warnings():  # of matplotlib's own making
            warnings.simplefilter("ignore", DeprecationWarning)
            real(title, panels, out)

    monkeypatch.setattr(plot, "_draw", draw)
    return found


def test_plot_draws_rates_latencies_drops_and_fields(tmp_path: Path, log: Any, drawn: list[Any]) -> None:
    path = numbers(tmp_path, cost="3ms")
    out_path = tmp_path / "p.png"
    fields = ["--field", "sum.out.expected", "--field", "sum.out.expected[0][2]", "--field", "rare.out.stamp.t_ns"]
    code, out, err = log("plot", path, out_path, *fields)
    assert (code, err, out) == (0, "", f"{out_path}  6 panels\n")
    assert [p.title for p in drawn] == [
        "messages a second", "longest latency, trigger to done", "dropped so far",
        "sum.out.expected (mean, least to largest)", "sum.out.expected[0][2]", "rare.out.stamp.t_ns",
    ]  # fmt: skip
    width, height = png_size(out_path)
    assert 1000 <= width <= 2000 and 6 * 200 <= height <= 6 * 400
    assert set(drawn[0].curves) == {"fast.out", "rare.out", "sum.out", "join.out"}
    assert set(drawn[1].curves) == {"sum", "join"}
    with Recording(path) as reading:
        full = reading.end["ledger"][0]["dropped"]["full"]
        messages = list(reading.messages("sum.out", ProbabilityMap))
    assert drawn[2].curves["fast.out -> sum.value  full"][1].max() == full > 0
    times, values = drawn[4].curves["sum.out.expected[0][2]"]
    assert times.tolist() == [t / 1e9 for t, _ in messages]
    assert values.tolist() == [float(m.expected[0, 2]) for _, m in messages]  # type: ignore[attr-defined]
    assert drawn[3].band is not None and drawn[4].band is None
    latency = np.concatenate([values for _, values in drawn[1].curves.values()])
    assert 3 <= np.max(drawn[1].curves["sum"][1]) <= 12 and np.min(latency) >= 0.5


def test_plot_of_a_rate_is_that_rate(film_log: Path, tmp_path: Path, log: Any, drawn: list[Any]) -> None:
    assert log("plot", film_log, tmp_path / "p.png")[0] == 0
    assert [p.title for p in drawn] == ["messages a second", "longest latency, trigger to done"]
    _, rate = drawn[0].curves["film.out"]
    assert len(rate) >= 2 and np.mean(rate) == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ("film.out.imgae", "'imgae' is no field of Frame; it has stamp, image, encoding, seq, lost_before, mirror"),
        ("film.out.stamp.time", "'time' is no field of Stamp; it has t_ns, exposure_ns, sigma_ns, clock"),
        ("film.out", "'' is no field of Frame; it has stamp, image,"),
        ("film.out.image[x]", "'image[x]' is no field of Frame"),
        ("film.out.encoding", "str cannot be drawn"),
        ("film.out.stamp", "Stamp cannot be drawn"),
        ("flim.out.image", "no stream 'flim.out'; did you mean 'film.out'?"),
        ("film", "no stream 'film.'"),
        ("film.out.mirror.angle_rad.x", "'x' is no field of float"),
    ],
)
def test_an_unknown_field_names_the_known_ones(field: str, told: str, film_log: Path, tmp_path: Path, log: Any) -> None:
    result = log("plot", film_log, tmp_path / "p.png", "--field", field)
    assert told in refused(result)
    assert not (tmp_path / "p.png").exists()


def test_plot_of_what_is_never_there_and_of_what_is_damaged(
    film_log: Path, damaged: Path, tmp_path: Path, log: Any, drawn: list[Any]
) -> None:
    assert log("plot", film_log, tmp_path / "a.png", "--field", "film.out.mirror.angle_rad[0]")[0] == 0
    assert np.isnan(drawn[-1].curves["film.out.mirror.angle_rad[0]"][1]).all()
    assert log("plot", film_log, tmp_path / "b.png", "--field", "film.out.image[0][99]")[0] == 0
    assert log("plot", damaged, tmp_path / "c.png")[0] == 3
    assert png_size(tmp_path / "c.png")[0] > 1000


def test_plot_into_a_folder_that_is_not_there(film_log: Path, tmp_path: Path, log: Any, drawn: list[Any]) -> None:
    assert "cannot write" in refused(log("plot", film_log, tmp_path / "none" / "p.png"))


def test_plot_without_matplotlib(film_log: Path, tmp_path: Path, log: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    line = refused(log("plot", film_log, tmp_path / "p.png"))
    assert "matplotlib" in line and "plot" in line


# import and export ----------------------------------------------------------------------------------------------


def test_a_bag_that_is_imported_and_exported_is_the_same(tmp_path: Path, log: Any) -> None:
    from rosbags.highlevel import AnyReader

    bag = write_rosbags(tmp_path / "a.bag", "ros1")
    code, out, err = log("import", bag, tmp_path / "a.mcap")
    assert (code, err) == (0, "") and "  /cam/image -> cam_image.frame\n" in out and "  12 messages" in out
    assert "/cam/depth -> cam_depth.depth" in out
    code, out, err = log("info", tmp_path / "a.mcap", "--json")
    facts = json.loads(out)
    assert code == 0 and facts["seal"]["executor"] == "import" and facts["seal"]["source"]["path"] == "a.bag"
    assert len(facts["seal"]["source"]["sha256"]) == 64 and facts["lost"] == {}
    code, out, err = log("export", tmp_path / "a.mcap", "ros2", tmp_path / "b")
    assert (code, err) == (0, "") and "/cam_image/frame sensor_msgs/msg/Image, 6 messages" in out
    with AnyReader([tmp_path / "b"]) as reader:
        found: dict[str, list[Any]] = {}
        for connection, t_ns, data in reader.messages():
            found.setdefault(connection.topic, []).append((t_ns, reader.deserialize(data, connection.msgtype)))
    assert set(found) == {"/cam_image/frame", "/cam_depth/depth"}
    for topic, kind, expected in (
        ("/cam_image/frame", "bgr8", picture), ("/cam_depth/depth", "16UC1", depth_of),
    ):  # fmt: skip
        assert len(found[topic]) == 6
        for i, (t_ns, message) in enumerate(found[topic]):
            assert t_ns == START + i * PERIOD + 5 * MS, "received"
            stamp = message.header.stamp
            assert stamp.sec * 10**9 + stamp.nanosec == START + i * PERIOD, "the header's"
            assert message.encoding == kind
            assert np.array_equal(message.data, expected(i).view(np.uint8).reshape(-1))


def test_import_of_some_topics(tmp_path: Path, log: Any) -> None:
    bag = write_rosbags(tmp_path / "a.bag", "ros1")
    assert log("import", bag, tmp_path / "a.mcap", "--topics", "/cam/depth")[0] == 0
    with Recording(tmp_path / "a.mcap") as reading:
        assert [(s.name, s.messages) for s in reading.streams()] == [("cam_depth.depth", 6)]
    line = refused(log("import", bag, tmp_path / "b.mcap", "--topics", "/cam/dpeth"))
    assert line.endswith("no topic '/cam/dpeth'; did you mean '/cam/depth'?")
    assert not (tmp_path / "b.mcap").exists()


def bag_of(to: Path, topics: dict[str, str]) -> Path:
    """A ROS 2 bag with two messages on each topic: images, or texts."""
    from rosbags.rosbag2 import Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_HUMBLE)
    with Writer(to, version=9) as writer:
        for number, (topic, kind) in enumerate(topics.items()):
            connection = writer.add_connection(topic, kind, typestore=store)
            for i in range(2):
                t_ns = START + i * PERIOD
                message = (
                    ros_image(store.types, t_ns, picture(10 * number + i, 16, 12), "bgr8")
                    if kind.endswith("Image") else store.types[kind]("hello")
                )  # fmt: skip
                writer.write(connection, t_ns, store.serialize_cdr(message, kind))
    return to


def test_topics_that_would_get_one_name_get_two(tmp_path: Path, log: Any) -> None:
    image = "sensor_msgs/msg/Image"
    names = {"/cam/image": image, "/cam_image": image, "/cam//image": image, "/3d": image}
    code, out, _ = log("import", bag_of(tmp_path / "a", names), tmp_path / "a.mcap")
    streams = dict(re.findall(r"^  (\S+) -> (\S+)$", out, re.MULTILINE))
    assert code == 0 and set(streams) == set(names) and len(set(streams.values())) == 4
    assert set(streams.values()) == {
        "cam_image.frame", "cam_image_2.frame", "cam_image_3.frame", "topic_3d.frame",
    }  # fmt: skip
    with Recording(tmp_path / "a.mcap") as reading:
        for number, topic in enumerate(names):
            (_, first), (_, second) = reading.messages(streams[topic], Frame)
            for i, frame in enumerate((first, second)):
                assert isinstance(frame, Frame) and np.array_equal(frame.image, picture(10 * number + i, 16, 12))


def test_a_topic_that_cannot_be_decoded_is_named(tmp_path: Path, log: Any) -> None:
    bag = bag_of(tmp_path / "a", {"/image": "sensor_msgs/msg/Image", "/words": "std_msgs/msg/String"})
    code, out, err = log("import", bag, tmp_path / "a.mcap")
    assert code == 0 and err.startswith("/words: ") and "String" in err and "  2 messages" in out
    assert "/words ->" not in out
    with Recording(tmp_path / "a.mcap") as reading:
        assert any(line.startswith("/words: ") for line in reading.end["notes"])
    code, out, _ = log("info", bag)
    assert code == 0 and re.search(r"^  /words .*- \(.+\) +2$", out, re.MULTILINE)


def test_messages_that_cannot_be_read_are_lost_and_named(tmp_path: Path, log: Any) -> None:
    folder = tmp_path / "tum"
    folder.mkdir()
    (folder / "groundtruth.txt").write_text("1.0 1 2 3 0 0 0 1\n2.0 1 2 3 0 0 0 0\n3.0 1 2 3 0 0 0 1\n")
    code, out, err = log("import", folder, tmp_path / "a.mcap")
    assert code == 3 and "  2 messages" in out and err.startswith("/groundtruth: ")


def test_export_in_every_format(film_log: Path, tmp_path: Path, log: Any) -> None:
    for kind, name in (("csv", "c"), ("images", "i"), ("video", "v.mp4"), ("ros2", "r.mcap"), ("tum", "t")):
        code, out, err = log("export", film_log, kind, tmp_path / name, "--streams", "film.out")
        assert (code, err) == (0, ""), (kind, err)
        assert (tmp_path / name).exists() and str(tmp_path / name) in out
    assert len(list((tmp_path / "i").rglob("*.png"))) == 20
    assert "no stream 'flim.out'" in refused(log("export", film_log, "csv", tmp_path / "x", "--streams", "flim.out"))
    assert not (tmp_path / "x").exists()


def test_export_of_what_is_damaged_ends_with_3(damaged: Path, tmp_path: Path, log: Any) -> None:
    assert log("export", damaged, "images", tmp_path / "i", "--streams", "film.out")[0] == 3
    assert len(list((tmp_path / "i").rglob("*.png"))) == 19


# The command ----------------------------------------------------------------------------------------------------


def test_an_action_that_is_none_ends_with_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["lost"], [], ["cat", "x.mcap"], ["export", "x.mcap", "avi", "out"]):
        with pytest.raises(SystemExit) as caught:
            main(["log", *arguments])
        assert caught.value.code == 2 and "usage: foveate log" in capsys.readouterr().err


def test_a_recording_is_never_changed_by_looking_at_it(killed: Path, damaged: Path, tmp_path: Path, log: Any) -> None:
    for path in (killed, damaged):
        before = path.read_bytes()
        for command in (["info"], ["ls"], ["cat", "film.out"], ["trace", "film.out"], ["diff", path]):
            log(command[0], path, *command[1:])
        log("recover", path, tmp_path / f"{path.stem}-clean.mcap")
        assert path.read_bytes() == before
    shutil.rmtree(tmp_path)
