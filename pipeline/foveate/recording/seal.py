"""What made a recording: the graph, every parameter with its origin, file hashes, versions, devices, clocks."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from foveate.clock import Clock, wall_offset
from foveate.device import Device
from foveate.expanded import plain
from foveate.graph import Graph
from foveate.paths import shortest

FORMAT = 1  # of the recording; docs/recording.md
SEAL_NAME = "seal.json"
GRAPH_NAME = "graph.yaml"
_PACKAGES = ("foveate", "numpy", "mcap", "protobuf", "pyyaml", "pydantic", "opencv-python-headless",
             "opencv-python", "onnxruntime")  # fmt: skip
_BLOCK = 1 << 20


def provenance(graph: Graph, executor: str) -> dict[str, Any]:
    """What is known before anything is opened."""
    return {
        "format": FORMAT,
        "graph": graph.name,
        "graph_sha256": hashlib.sha256(graph.text.encode()).hexdigest(),
        "executor": executor,
        "nodes": list(graph.nodes),
        "uses": {name: spec.use for name, spec in graph.nodes.items()},
        "wires": [{"wire": str(w), "queue": str(w.policy)} for w in graph.wires],
        "outputs": {name: list(spec.schema.outputs) for name, spec in graph.nodes.items()},
        "parameters": _parameters(graph),
        "files": files_of(graph),
        "versions": versions(),
        "platform": {"system": platform.system(), "release": platform.release(), "machine": platform.machine(),
                     "python": platform.python_version()},
    }  # fmt: skip


def _parameters(graph: Graph) -> dict[str, dict[str, Any]]:
    """`node.parameter` and `rig.device.option`: value and origin."""
    found = {}
    for name, spec in graph.nodes.items():
        for key, value in spec.parameters.items():
            found[f"{name}.{key}"] = {"value": plain(value), "origin": spec.origins.get(key, "default")}
    for name, device in graph.devices.items():
        for key, value in device.options.items():
            found[f"rig.{name}.{key}"] = {"value": plain(value), "origin": device.origins.get(key, "default")}
    return found


def files_of(graph: Graph) -> dict[str, dict[str, Any]]:
    """SHA-256 of every file that a parameter names, and of its companions (`model.*` beside `model.onnx`)."""
    values = [v for spec in graph.nodes.values() for v in spec.parameters.values()]
    values += [v for device in graph.devices.values() for v in device.options.values()]
    named = [p for v in values for p in (v if isinstance(v, tuple) else (v,)) if isinstance(p, Path)]
    found: dict[str, dict[str, Any]] = {}
    for path in named:
        if path.is_dir():
            found[shortest(path)] = _folder(path)
        elif path.is_file():
            for item in filter(Path.is_file, sorted({path, *path.parent.glob(f"{path.stem}.*")})):
                found[shortest(item)] = {"sha256": sha256_of(item), "bytes": item.stat().st_size}
    return found


def sha256_of(path: Path) -> str:
    """The hash of a file's content. Raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _folder(path: Path) -> dict[str, Any]:
    """A folder by the names and sizes of its files: its content may be gigabytes of pictures."""
    listing = sorted((str(p.relative_to(path)), p.stat().st_size) for p in path.rglob("*") if p.is_file())
    digest = hashlib.sha256(json.dumps(listing).encode()).hexdigest()
    return {"listing_sha256": digest, "files": len(listing), "bytes": sum(size for _, size in listing)}


def versions() -> dict[str, str]:
    """Of the packages that a result may depend on, those that are installed."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def complete(facts: Mapping[str, Any], devices: Iterable[Device], clock: Clock) -> bytes:
    """The seal as it goes into the file, once devices are open and the clock runs."""
    identities = {}
    for device in devices:
        identities[device.uri] = {key: value for key, value in asdict(device.info()).items() if key != "uri"}
    clocks = {"pipeline": {"kind": clock.kind, "wall_start_ns": clock.wall_start_ns, **clock_reading(clock)}}
    return json.dumps({**facts, "devices": identities, "clocks": clocks}, indent=1).encode()


def clock_reading(clock: Clock) -> dict[str, int]:
    """How the wall clock stands to the pipeline's now; nothing where time is simulated."""
    if clock.kind == "simulated":
        return {}
    offset = wall_offset()
    return {"wall_offset_ns": offset.offset_ns, "sigma_ns": offset.sigma_ns}
