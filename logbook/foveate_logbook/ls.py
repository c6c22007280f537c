"""`foveate log ls`: the streams of a recording, or the messages of one."""

from __future__ import annotations

import argparse
import json

from foveate.quantity import format_duration
from foveate.recording import Recording
from foveate.summary import table
from foveate_logbook.reading import finish, recording_of, span_of, stream_of


def main(options: argparse.Namespace) -> int:
    """List streams with times, sizes and gaps; with a stream, each of its messages."""
    with recording_of(options.log) as log:
        if options.stream is None:
            _streams(log, options)
        else:
            _messages(log, stream_of(log, options.stream).topic, options)
        return finish(log)


def _messages(log: Recording, topic: str, options: argparse.Namespace) -> None:
    start_ns = log.wall_start_ns
    for raw in log.raw(topic, *span_of(log, options)):
        t_s, stamp_s = (raw.log_ns - start_ns) / 1e9, (raw.publish_ns - start_ns) / 1e9
        if options.json:
            print(json.dumps({"number": raw.sequence, "t_s": t_s, "stamp_s": stamp_s, "bytes": len(raw.data)}))
        else:
            print(f"#{raw.sequence:<8} {t_s:12.6f} s  stamp {stamp_s:12.6f} s  {len(raw.data):>10} bytes")


def _streams(log: Recording, options: argparse.Namespace) -> None:
    rows = [["stream", "messages", "first", "last", "mean gap", "longest gap", "bytes", "numbers missing"]]
    span = span_of(log, options)
    for stream in log.streams():
        count = size = longest = missing = 0
        first = last = number = 0
        for raw in log.raw(stream.topic, *span):
            if count:
                longest = max(longest, raw.log_ns - last)
                missing += raw.sequence - number - 1
            else:
                first = raw.log_ns
            last, number, count, size = raw.log_ns, raw.sequence, count + 1, size + len(raw.data)
        times = [(t - log.wall_start_ns) / 1e9 for t in (first, last)] if count else [0.0, 0.0]
        if options.json:
            print(json.dumps({"stream": stream.name, "messages": count, "first_s": times[0], "last_s": times[1],
                              "longest_gap_s": longest / 1e9, "bytes": size, "missing": missing}))  # fmt: skip
            continue
        mean = format_duration((last - first) / (count - 1)) if count > 1 else "-"
        rows.append([stream.name, str(count), f"{times[0]:.3f} s", f"{times[1]:.3f} s", mean,
                     format_duration(longest) if count > 1 else "-", str(size), str(missing)])  # fmt: skip
    for line in table(rows) if not options.json else ():
        print(line)
