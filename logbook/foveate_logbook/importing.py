"""`foveate log import`: somebody else's log as a recording; topics become streams, what cannot be decoded is named."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from foveate import catalog, codec
from foveate.errors import FoveateError
from foveate.recording.seal import FORMAT, SEAL_NAME, sha256_of, versions
from foveate.recording.writer import ChannelSpec
from foveate.terminal import Progress
from foveate_logbook.formats.base import Log, Topic
from foveate_logbook.formats.opening import open_log
from foveate_logbook.reading import LOST
from foveate_logbook.rewriting import Rewriter

_OUTPUT = {
    "Frame": "frame",
    "DepthFrame": "depth",
    "CameraInfo": "info",
    "Imu": "imu",
    "Pose": "pose",
    "Events": "events",
}


def stream_names(topics: list[Topic]) -> dict[str, str]:
    """Stream by topic: `/camera/color/image_raw` becomes `camera_color_image_raw.frame`; no two are the same."""
    found: dict[str, str] = {}
    for topic in topics:
        if topic.kind is not None:
            name, number = _stream_name(topic), 1
            while name in found.values():
                number += 1
                node, _, output = _stream_name(topic).rpartition(".")
                name = f"{node}_{number}.{output}"
            found[topic.name] = name
    return found


def _stream_name(topic: Topic) -> str:
    assert topic.kind is not None
    node = re.sub(r"[^A-Za-z0-9]+", "_", topic.name).strip("_") or "topic"
    return f"{node if node[0].isalpha() else 'topic_' + node}.{_OUTPUT.get(topic.kind.__name__, 'message')}"


def import_log(log: Log, to: Path, topics: list[Topic], progress: Callable[[float], None]) -> tuple[int, list[str]]:
    """Write the decodable `topics` to a recording; the number of messages, and what is missing, a line each.

    Raises RecordingError where `to` exists or cannot be written.
    """
    kinds = {topic.name: topic for topic in topics if topic.kind is not None}
    coders = {name: codec.codec_of(topic.kind) for name, topic in kinds.items()}  # type: ignore[arg-type]
    streams = stream_names(topics)
    specs = [
        ChannelSpec(f"/{streams[name]}", coders[name].encoding,
                    {"type": topic.kind.__name__ if topic.kind else "", "topic": name, "schema": topic.schema},
                    coders[name].schema_name, coders[name].encoding, coders[name].schema_data)
        for name, topic in kinds.items()
    ]  # fmt: skip
    numbers = {name: number for number, name in enumerate(kinds, 1)}
    source = {"path": log.path.name, "sha256": sha256_of(log.path) if log.path.is_file() else "", **log.metadata}
    seal = {
        "format": FORMAT, "graph": f"import of {log.path.name}", "executor": "import", "source": source,
        "versions": versions(), "nodes": [], "wires": [], "parameters": {}, "files": {},
        "clocks": {"pipeline": {"kind": "log", "wall_start_ns": log.start_ns}},
    }  # fmt: skip
    out = Rewriter(to, specs, {SEAL_NAME: json.dumps(seal, indent=1).encode()})
    counts = dict.fromkeys(kinds, 0)
    total = max(sum(topic.messages for topic in kinds.values()), 1)
    try:
        for done, (name, t_ns, message) in enumerate(log.messages(list(kinds)), 1):
            counts[name] += 1
            pieces = coders[name].encode(message, log.start_ns)
            stamp_ns = max(log.start_ns + message.stamp.t_ns, 0)
            out.add(numbers[name], counts[name], log.start_ns + t_ns, stamp_ns, pieces)
            progress(min(done / total, 1.0))
        lines = [f"{name or log.path.name}: {text}" for name, text in log.problems.items()]
        lines += [f"{topic.name}: {topic.reason}" for topic in topics if topic.kind is None]
        return out.finish({"notes": lines}), lines
    except BaseException:
        out.give_up()
        raise


def _chosen(log: Log, wanted: str | None) -> list[Topic]:
    if wanted is None:
        return log.topics
    known = {topic.name: topic for topic in log.topics}
    for name in wanted.split(","):
        if name not in known:
            raise FoveateError(f"{log.path}: no topic '{name}'{catalog.did_you_mean(name, known)}")
    return [known[name] for name in wanted.split(",")]


def main(options: argparse.Namespace) -> int:
    """Make a recording of a log; exit code 3 if a message of a decodable topic could not be read."""
    with open_log(options.log) as log:
        chosen = _chosen(log, options.topics)
        count, lines = import_log(log, options.out, chosen, Progress(f"importing {log.path.name}", sys.stderr))
        for topic, stream in stream_names(chosen).items():
            print(f"  {topic} -> {stream}")
        for line in lines:
            print(line, file=sys.stderr)
        print(f"{options.out}  {count} messages")
        return LOST if log.problems else 0
