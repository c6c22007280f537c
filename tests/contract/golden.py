"""Reads `faulty_graphs.txt` and runs its cases; `python -m tests.contract.golden` rewrites the expected lines.

A case is `=== name`, the graph, then any of `--- file PATH` with a file's text, `--- set NAME=VALUE`,
`--- allow FOLDER`, and at last `--- faults` with the lines expected. `FOLDER` stands for the graph's folder,
`LAUNCH` for `launch/`; a line that ends in `[...]` holds for any line that begins so. `\\t` is a tab, `\\a` a bell.
"""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from foveate.checking import load_graph
from foveate.errors import GraphError
from foveate.paths import launch_folder
from tests.contract.sample_nodes import fixed_catalog

GOLDEN = Path(__file__).with_name("faulty_graphs.txt")
_ANY = "[...]"


@dataclass(slots=True)
class Case:
    """A graph, what is around it, and what is wrong with it."""

    name: str
    graph: str = ""
    files: dict[str, str] = field(default_factory=dict)
    settings: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def read_cases(text: str) -> list[Case]:
    """The cases of a golden file."""
    cases: list[Case] = []
    for part in text.split("=== ")[1:]:
        head, *blocks = part.split("\n--- ")
        name, _, graph = head.partition("\n")
        case = Case(name, _unescaped(graph))
        for block in blocks:
            command, _, body = block.partition("\n")
            word, _, rest = command.partition(" ")
            if word == "file":
                case.files[rest] = _unescaped(body)
            elif word == "set":
                case.settings.append(rest)
            elif word == "allow":
                case.allowed.append(rest)
            else:
                case.faults = body.strip().splitlines()
        cases.append(case)
    return cases


def _unescaped(text: str) -> str:
    return text.rstrip("\n").replace("\\t", "\t").replace("\\a", "\a") + "\n"


def lay_out(case: Case, folder: Path) -> Path:
    """Write a case's files, and those that all cases share; returns the graph's path."""
    inside, outside = folder / "graphs", folder / "outside"
    for made in (inside, outside):
        made.mkdir(parents=True)
    (outside / "secret.yaml").write_text("foveate: 1\ndevices: {}\n", encoding="utf-8")
    (outside / "model.onnx").write_text("not a model", encoding="utf-8")
    (inside / "link.yaml").symlink_to(outside / "secret.yaml")
    (inside / "linked").symlink_to(outside)
    (inside / "loop.yaml").symlink_to(inside / "loop.yaml")
    (inside / "text.onnx").write_text("not a model", encoding="utf-8")
    if "changed.onnx" in case.graph:
        (inside / "changed.onnx").write_bytes((launch_folder() / "models/regions.onnx").read_bytes() + b"\0")
        shutil.copy(launch_folder() / "models/regions.json", inside / "changed.json")
    for name, text in case.files.items():
        path = inside / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    graph = inside / "graph.yaml"
    graph.write_text(case.graph, encoding="utf-8")
    return graph


def faults_of(case: Case, folder: Path) -> list[str]:
    """The fault lines the checker gives, with the folders' names in place of their paths."""
    graph = lay_out(case, folder)
    settings = [text.replace("FOLDER", str(graph.parent)) for text in case.settings]
    try:
        load_graph(graph, settings, [graph.parent / name for name in case.allowed])
    except GraphError as error:
        text = str(error).replace(f"{graph.parent}/graph.yaml", "graph.yaml").replace(str(graph.parent), "FOLDER")
        return text.replace(str(launch_folder()), "LAUNCH").replace(str(folder), "ABOVE").splitlines()
    return []


def fits(expected: list[str], found: list[str]) -> bool:
    """Whether the lines are those expected."""
    return len(expected) == len(found) and all(
        line.startswith(want.removesuffix(_ANY)) if want.endswith(_ANY) else line == want
        for want, line in zip(expected, found, strict=True)
    )


def main() -> None:
    """Write what the checker says now into the golden file; lines that still fit stay as they are."""
    text = GOLDEN.read_text(encoding="utf-8")
    parts = text.split("=== ")
    with fixed_catalog():
        for index, case in enumerate(read_cases(text), 1):
            with tempfile.TemporaryDirectory() as folder:
                found = faults_of(case, Path(folder) / "case")
            if not fits(case.faults, found):
                head = parts[index].split("\n--- faults")[0].rstrip("\n")
                parts[index] = "\n".join([head, "--- faults", *found, "", ""])
    GOLDEN.write_text("=== ".join(parts), encoding="utf-8")


if __name__ == "__main__":
    main()
