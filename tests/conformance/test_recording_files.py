"""The recordings in tests/data/recordings against what must be said of them."""

from __future__ import annotations

import json
import struct
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from mcap.exceptions import McapError
from mcap.records import Message
from mcap.stream_reader import StreamReader

from foveate.recording import Recording

FOLDER = Path(__file__).resolve().parents[1] / "data" / "recordings"
EXPECTED: dict[str, dict[str, Any]] = json.loads((FOLDER / "expected.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def maker() -> ModuleType:
    spec = spec_from_file_location("make_recordings", FOLDER / "make.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look for it there
    spec.loader.exec_module(module)
    return module


def said(path: Path, digest: Any) -> dict[str, Any]:
    """What our reader says of a file, in the words of `expected.json`."""
    with Recording(path) as log:
        streams = {}
        for stream in log.streams():
            found = [(raw.sequence, raw.log_ns, raw.publish_ns, bytes(raw.data)) for raw in log.raw(stream.topic)]
            streams[stream.topic] = {"messages": len(found), "sha256": digest(found)}
        everything = sum(1 for _ in log.file.messages())
        assert everything == sum(stream["messages"] for stream in streams.values())
        return {
            "closed": log.file.closed, "torn_bytes": log.file.torn_bytes, "streams": streams,
            "damages": [{"at": d.at, "messages": d.messages} for d in sorted(log.file.damages, key=lambda d: d.at)],
            "lost": log.lost(), "attachments": sorted(log.file.attachments),
        }  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_a_recording_says_what_is_expected(name: str, maker: ModuleType) -> None:
    expected = EXPECTED[name]
    expected["damages"].sort(key=lambda damage: damage["at"])
    if name == "damaged_preamble_length_killed.mcap":  # how the wrong record is named is left to the reader
        expected = {**expected, "damages": [], "attachments": []}
        assert {**said(FOLDER / name, maker.digest), "damages": [], "attachments": []} == expected
        return
    assert said(FOLDER / name, maker.digest) == expected


@pytest.mark.parametrize(
    "name", ["good", "empty", "killed", "damaged_batch", "damaged_tally", "torn_batch", "torn_head"]
)
def test_a_stock_reader_finds_the_same_messages(name: str, maker: ModuleType) -> None:
    """Where no checksum of MCAP's own is wrong; without an index it ends with an error behind the last whole chunk."""
    expected = EXPECTED[f"{name}.mcap"]
    found: dict[int, list[tuple[int, int, int, bytes]]] = {1: [], 2: [], 3: []}
    ended = False
    with (FOLDER / f"{name}.mcap").open("rb") as stream:
        try:
            for record in StreamReader(stream, validate_crcs=True).records:
                if isinstance(record, Message):
                    found[record.channel_id].append(
                        (record.sequence, record.log_time, record.publish_time, record.data)
                    )
            ended = True
        except (McapError, struct.error):
            pass
    assert ended == expected["closed"]
    for number, (topic, stream_) in enumerate(expected["streams"].items(), 1):
        assert len(found[number]) == stream_["messages"], topic
        assert maker.digest(found[number]) == stream_["sha256"], topic


def test_every_file_of_the_folder_is_expected_and_small() -> None:
    files = {path.name: path.stat().st_size for path in FOLDER.glob("*.mcap")}
    assert set(files) == set(EXPECTED)
    assert max(files.values()) < 20_000 and sum(files.values()) < 150_000


def test_the_folder_is_what_its_script_makes(maker: ModuleType, tmp_path: Path) -> None:
    maker.make(tmp_path)
    for path in [*FOLDER.glob("*.mcap"), FOLDER / "expected.json"]:
        assert (tmp_path / path.name).read_bytes() == path.read_bytes(), path.name


def test_the_files_differ_in_what_they_test() -> None:
    """The check of the others: damage that costs nothing and damage that costs messages are both there."""
    whole = EXPECTED["good.mcap"]["streams"]
    assert sum(stream["messages"] for stream in whole.values()) == 27
    costing = [name for name, item in EXPECTED.items() if item["lost"] and item["streams"] != whole]
    harmless = [name for name, item in EXPECTED.items() if item["damages"] and item["streams"] == whole]
    assert len(costing) >= 8 and len(harmless) >= 3
