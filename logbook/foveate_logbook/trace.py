"""`foveate log trace`: the steps and source messages behind a message."""

from __future__ import annotations

import argparse
import json
from typing import Any

from foveate.decisions import Step
from foveate.errors import RecordingError
from foveate.lineage import Ancestor, Lineage, Output, outputs_of
from foveate.quantity import format_duration
from foveate.recording import Recording
from foveate_logbook.reading import finish, stream_of

_DEEPEST = 12  # a loop of nodes has no end


class _Names:
    """Names of what the decisions number."""

    def __init__(self, log: Recording) -> None:
        seal = log.seal
        self.nodes: list[str] = seal.get("nodes", [])
        self.outputs: dict[str, list[str]] = seal.get("outputs", {})
        self.wires: list[str] = [entry["wire"] for entry in seal.get("wires", [])]

    def output(self, name: str) -> Output:
        node, _, output = name.rpartition(".")
        return Output(self.nodes.index(node), self.outputs[node].index(output))

    def feeds(self) -> list[Output]:
        return [self.output(wire.partition(" -> ")[0]) for wire in self.wires]


def main(options: argparse.Namespace) -> int:
    """Print the tree of one message; by default the last of its stream."""
    with Recording(options.log) as log:
        stream = stream_of(log, options.stream)
        names = _Names(log)
        if stream.name.rpartition(".")[0] not in names.nodes:
            raise RecordingError(f"{log.path}: its decisions do not speak of '{stream.name}'")
        lineage = Lineage(names.feeds(), keep=0)
        wanted, step = names.output(stream.name), None
        number = options.number
        for item in log.decisions():
            if not isinstance(item, Step):
                continue
            lineage.add(item)
            given = [n for o, n, _ in outputs_of(item) if (item.node, o) == (wanted.node, wanted.output)]
            if given and (number is None or number in given):
                step, found = item, number if number is not None else given[-1]
                if number is not None:
                    break
        if step is None:
            which = "" if number is None else f" #{number}"
            raise RecordingError(f"{log.path}: no step is recorded that gave {stream.name}{which}")
        code = finish(log)
    sources = [_named(names, a) for a in lineage.sources(step)]
    if options.json:
        print(json.dumps({"message": f"{stream.name} #{found}", "sources": sources}))
        return code
    for line in _tree(names, lineage, step, f"{stream.name} #{found}", 0, set()):
        print(line)
    print("goes back to " + (", ".join(f"{s['message']} at {s['t_s']:.6f} s" for s in sources) or "no source"))
    return code


def _named(names: _Names, a: Ancestor) -> dict[str, Any]:
    node = names.nodes[a.of.node]
    return {"message": f"{node}.{names.outputs[node][a.of.output]} #{a.sequence}", "t_s": a.put_ns / 1e9}


def _tree(names: _Names, lineage: Lineage, step: Step, what: str, depth: int, seen: set[tuple[int, int]]) -> list[str]:
    """A line for the step, and the trees of what it consumed."""
    node = names.nodes[step.node]
    took = format_duration(step.done_ns - step.begun_ns)
    waited = format_duration(step.begun_ns - step.since_ns)
    line = (
        f"{'  ' * depth}{what} at {step.done_ns / 1e9:.6f} s: {node} step {step.number}, waited {waited}, took {took}"
    )
    if (step.node, step.number) in seen:
        return [line + " (above)"]
    seen.add((step.node, step.number))
    lines = [line]
    for parent in lineage.parents(step) if depth < _DEEPEST else ():
        if parent is None:
            lines.append(f"{'  ' * (depth + 1)}a message whose step is not recorded")
        else:
            lines += _tree(names, lineage, parent.step, _named(names, parent)["message"], depth + 1, seen)
    return lines
