"""A recording as the sources of its graph: recorded outputs stand in for devices, decisions are followed."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from foveate import catalog, expanded
from foveate.budgets import path_wires
from foveate.catalog import did_you_mean
from foveate.changes import Change, Changed, changes
from foveate.checking import load_graph
from foveate.clock import VirtualClock
from foveate.decisions import Step
from foveate.errors import EndOfStream, Fault, FoveateError, GraphError, RecordingError
from foveate.following import FollowingExecutor, Script, followed_nodes
from foveate.graph import Graph, NodeSpec, Record
from foveate.messages import Message
from foveate.node import Node, Port, Schema, schema_of
from foveate.recording.recording import Recording
from foveate.recording.seal import provenance
from foveate.run import Run
from foveate.verify import Verifier
from foveate.yaml_source import read_file


class RecordedSource(Node):
    """Gives the recorded outputs of one node, at the times they were put on their wires."""

    def __init__(self, log: Recording, name: str, outputs: list[Port]) -> None:
        self._iterators: dict[str, Iterator[tuple[int, int, Message]]] = {
            port.name: log.numbered(f"{name}.{port.name}", port.type) for port in outputs
        }
        self._next: dict[str, tuple[int, int, Message]] = {}
        self.sequence = 0  # of the message that the last step gave

    def open(self) -> None:
        for output in list(self._iterators):
            self._advance(output)

    def _advance(self, output: str) -> None:
        item = next(self._iterators[output], None)
        if item is None:
            self._next.pop(output, None)
        else:
            self._next[output] = item

    def due_ns(self) -> int:
        if not self._next:
            raise EndOfStream
        return min(t_ns for _, t_ns, _ in self._next.values())

    def step(self) -> dict[str, Message]:
        output = min(self._next, key=lambda name: self._next[name][1])
        self.sequence, _, message = self._next[output]
        self._advance(output)
        return {output: message}


class Replay:
    """A recording made ready to run again."""

    def __init__(
        self, log: Recording, *, graph: Path | None = None, settings: Collection[str] = (),
        swaps: Mapping[str, str] | None = None, nodes: Collection[str] = (), allowed: Collection[Path] = (),
        allow_changes: bool = False, allow_gaps: bool = False,
        tolerances: Mapping[str, float] | None = None, speed: float = 0.0,
    ) -> None:  # fmt: skip
        """`swaps`: node types by node; `nodes`: run only these, the others give what they gave.

        Raises, before any node has run: RecordingError for a stream that is needed and not (wholly) recorded,
        Changed for a model, parameter or wire that is not as recorded, GraphError.
        """
        self.log = log
        settings, swaps = list(settings), dict(swaps or {})
        whole = load(log, graph, settings, swaps, [*allowed, *_sealed_folders(log)])
        asked = {text.partition("=")[0].strip() for text in settings} | set(swaps)
        now = provenance(whole, "replay")
        fed = replaced_nodes(whole, set(nodes))
        idle = fed | {f"rig.{name}" for name in set(whole.devices) - whole.devices_of(set(whole.nodes) - fed)}
        imported = log.seal.get("executor") == "import"  # no graph made it: there is nothing to compare with
        self.changes: list[Change] = [] if imported else changes(log.seal, now, asked, idle)
        refused = [change for change in self.changes if not change.asked]
        if refused and not allow_changes:
            raise Changed(log.path, refused)
        unknown = [name for name in nodes if name not in whole.nodes]
        if unknown:
            raise RecordingError(f"--nodes: the graph has no node '{unknown[0]}'; it has {', '.join(whole.nodes)}")
        self.graph, self.sources = substitute(whole, log, set(nodes))
        if not allow_gaps:
            refuse_gaps(log, self.graph, set(self.sources))
        self.seal = {**provenance(self.graph, "replay"), **{key: now[key] for key in ("parameters", "files", "uses")}}
        self.run = Run(self.graph, "virtual", replace=self.sources, open_devices=False, wall_start_ns=log.wall_start_ns)
        recorded = whole.record.tolerances if whole.record is not None else {}
        self.verifier = Verifier(log, self.graph, {**recorded, **(tolerances or {})})
        self.followed = followed_nodes(self.run.stations, log.seal)
        for name in self.graph.nodes:
            if name not in self.followed:
                self.verifier.leave_out(name)
        script = Script(log.decisions(), log.seal.get("nodes", []), self.followed)
        costs = {name: spec.cost_ns for name, spec in self.graph.nodes.items()}
        wires = [entry["wire"] for entry in log.seal.get("wires", [])]
        assert isinstance(self.run.clock, VirtualClock)
        self.executor = FollowingExecutor(self.run.clock, costs, script, wires, self.verifier.watch, speed)
        self.run.executor = self.executor


def load(log: Recording, graph: Path | None, settings: list[str], swaps: dict[str, str], allowed: list[Path]) -> Graph:
    """The recording's graph or another, with other node types where asked. Raises GraphError, RecordingError."""
    with tempfile.TemporaryDirectory() as folder:
        path = graph
        if path is None or swaps:
            text = log.graph_text if path is None else load_graph(path, [], allowed, open_devices=False).text
            path = Path(folder) / f"{log.seal.get('graph') or log.path.stem}.yaml"
            path.write_text(_swapped(text, swaps, path) if swaps else text, encoding="utf-8")
        try:
            return load_graph(path, settings, allowed, open_devices=False)
        except GraphError as error:  # the temporary file says nothing to anybody
            here = f"{log.path}:graph.yaml" if graph is None else str(graph)
            raise GraphError([replace(f, file=here if f.file == str(path) else f.file) for f in error.faults]) from None


def _swapped(text: str, swaps: dict[str, str], path: Path) -> str:
    """The graph with other types for some nodes, which keep the inputs and parameters that they have too."""
    path.write_text(text, encoding="utf-8")
    tree = read_file(path).plain()
    for name, use in swaps.items():
        if name not in tree["nodes"]:
            raise GraphError(
                [Fault("--swap", 1, 1, f"the graph has no node '{name}'{did_you_mean(name, tree['nodes'])}")]
            )
        try:
            kind = catalog.load("nodes", use)
            schema = schema_of(kind)
        except FoveateError as error:
            raise GraphError([Fault("--swap", 1, 1, str(error))]) from None
        if schema.is_source or kind.drives_hardware:
            raise GraphError([Fault("--swap", 1, 1, f"'{use}' would not run: the log gives what it gives")])
        old = tree["nodes"][name]
        new = {key: value for key, value in old.items() if key == "cost" or key in schema.parameters}
        for block, known in (("inputs", schema.inputs), ("params", schema.parameters)):
            new[block] = {key: value for key, value in old.get(block, {}).items() if key in known}
        tree["nodes"][name] = {"use": use, **{key: value for key, value in new.items() if value != {}}}
    return expanded.dump(tree)


def _sealed_folders(log: Recording) -> list[Path]:
    """Folders outside `launch/` that the recorded graph named files in; what has changed there is refused by hash."""
    found = set()
    for name in log.seal.get("files", {}):
        if Path(name).is_absolute():
            found.add(Path(name).parent)
    return sorted(found)


def replaced_nodes(graph: Graph, chosen: set[str]) -> set[str]:
    """Nodes whose outputs come from the recording: sources, what touches hardware, all but the `chosen`."""
    return {
        n for n, spec in graph.nodes.items()
        if spec.schema.is_source or spec.kind.drives_hardware or (chosen and n not in chosen)
    }  # fmt: skip


def substitute(graph: Graph, log: Recording, chosen: set[str]) -> tuple[Graph, dict[str, Node]]:
    """`graph` with its sources and hardware nodes, and all but the `chosen` ones, fed from `log`."""
    recorded = {stream.name for stream in log.streams()}
    replaced = replaced_nodes(graph, chosen)
    nodes: dict[str, NodeSpec] = {}
    sources: dict[str, Node] = {}
    for name, spec in graph.nodes.items():
        if name not in replaced:
            nodes[name] = replace(spec, cost_ns=_cost(spec, log))
            continue
        wanted = {wire.output for wire in graph.outgoing(name) if wire.target not in replaced}
        for output in sorted(wanted):
            if f"{name}.{output}" not in recorded:
                raise RecordingError(
                    f"{log.path}: '{name}.{output}' was not recorded, and the graph needs it; "
                    "add it to the graph's record.streams"
                )
        ports = [port for port in spec.schema.outputs.values() if f"{name}.{port.name}" in recorded]
        if ports and (wanted or not chosen):
            schema = Schema({}, {}, {port.name: port for port in ports})
            nodes[name] = replace(spec, kind=RecordedSource, schema=schema, parameters={}, sync=None, cost_ns=0)
            sources[name] = RecordedSource(log, name, ports)
    wires = tuple(w for w in graph.wires if w.target not in replaced and w.source in nodes)
    record = graph.record
    if record is not None:
        streams = tuple(s for s in record.streams if s[0] in nodes and s[1] in nodes[s[0]].schema.outputs)
        record = Record(record.to, streams)
    made = replace(graph, nodes=nodes, wires=wires, record=record, report=None, budgets=())
    ends = [b for b in graph.budgets if b.source.rpartition(".")[0] in nodes and b.target.rpartition(".")[0] in nodes]
    return replace(made, budgets=tuple(b for b in ends if path_wires(made, b.source, b.target))), sources


def _cost(spec: NodeSpec, log: Recording) -> int:
    """What a step of a node that runs freely takes, if the graph does not say: the recorded median."""
    if spec.cost_ns is not None:
        return spec.cost_ns
    recorded = log.end.get("nodes", {}).get(spec.name, {}).get("step_p50_ns")
    return int(recorded) if recorded else spec.kind.cost_ns


def refuse_gaps(log: Recording, graph: Graph, sources: set[str]) -> None:
    """Raises RecordingError if messages that steps consumed, or steps themselves, are not in the recording."""
    if _is_whole(log):
        return
    wires = {str(w): f"{w.source}.{w.output}" for w in graph.wires if w.source in sources}
    needed = {n: wires[e["wire"]] for n, e in enumerate(log.seal.get("wires", [])) if e["wire"] in wires}
    present = {stream: {raw.sequence for raw in log.raw(f"/{stream}")} for stream in set(needed.values())}
    absent: dict[str, list[tuple[int, int]]] = {}
    nodes, last = log.seal.get("nodes", []), dict.fromkeys(graph.nodes, 0)
    for step in log.decisions():
        if not isinstance(step, Step) or nodes[step.node] not in graph.nodes:
            continue
        name = nodes[step.node]
        if name not in sources and step.number != last[name] + 1:
            raise RecordingError(
                f"{log.path}: steps {last[name] + 1} to {step.number - 1} of '{name}' are not in the recording; "
                "--allow-gaps replays the rest, on a state that may be another"
            )
        last[name] = step.number
        for wire, sequence in zip(step.inputs[::2], step.inputs[1::2], strict=True):
            if wire in needed and sequence and sequence not in present[needed[wire]]:
                absent.setdefault(needed[wire], []).append((sequence, step.begun_ns))
    for stream, items in sorted(absent.items()):
        number, t_ns = items[0]
        raise RecordingError(
            f"{log.path}: {len(items)} messages of '{stream}' that the run worked on are not in the recording, first "
            f"#{number} at {t_ns / 1e9:.3f} s; --allow-gaps replays the rest"
        )


def _is_whole(log: Recording) -> bool:
    """Whether nothing can be missing: closed in order, undamaged, nothing dropped on the way into it."""
    end = log.end
    if not log.file.closed or log.file.damages or end.get("lost_own") or "cut" in end or "ring_ns" in log.seal:
        return False
    record = [e for e in end.get("ledger", []) if e.get("wire", "").rpartition(" -> ")[2].startswith("record.")]
    return "ledger" in end and not any(entry["dropped"] for entry in record)
