"""How a network is to be made smaller: a YAML file, held against the methods' options with file, line and column."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from foveate.catalog import did_you_mean
from foveate.errors import Fault, GraphError
from foveate.yaml_source import Item, read_file, read_text
from foveate_compression.methods.dynamic import Dynamic
from foveate_compression.methods.fcpts import Fcpts
from foveate_compression.methods.method import Method
from foveate_compression.methods.mixed import Mixed
from foveate_compression.methods.mixed_latency import MixedLatency
from foveate_compression.methods.mvq import Mvq
from foveate_compression.methods.outlier_suppression import OutlierSuppression
from foveate_compression.methods.plain import Plain
from foveate_compression.methods.ptq4sam import Ptq4Sam
from foveate_compression.methods.recalibrate import Recalibrate
from foveate_compression.methods.reconstruct import Reconstruct
from foveate_compression.methods.repquant import RepQuant
from foveate_compression.methods.vq4all import Vq4All
from foveate_compression.methods.vq4dit import Vq4Dit

METHODS: dict[str, type[Method]] = {
    "plain": Plain, "mvq": Mvq, "vq4all": Vq4All, "vq4dit": Vq4Dit, "repquant": RepQuant,
    "outlier_suppression": OutlierSuppression, "fcpts": Fcpts, "ptq4sam": Ptq4Sam, "reconstruct": Reconstruct,
    "recalibrate": Recalibrate, "mixed": Mixed, "mixed_latency": MixedLatency, "dynamic": Dynamic,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Calibration:
    """How many samples are looked at, and which."""

    count: Annotated[int, Ge(1), Le(100_000)] = 128
    seed: Annotated[int, Ge(0)] = 0
    scale: Annotated[float, Gt(0)] = 1.0  # images' values (0 to 255) times this
    bgr: bool = False


@dataclass(frozen=True, slots=True)
class Export:
    """`target`: x86 or arm; `int4`: levels of up to four bits are stored as such; `tolerance`: of the golden pair."""

    target: Literal["x86", "arm"] = "x86"
    int4: bool = False
    fused: bool = True  # refuse a file whose quantized layers do not run in integers
    tolerance: Annotated[float, Ge(0)] = 0.25


@dataclass(frozen=True, slots=True)
class Recipe:
    """`steps` in their order."""

    steps: tuple[tuple[str, Method], ...]
    calibration: Calibration = field(default_factory=Calibration)
    export: Export = field(default_factory=Export)

    def plain(self) -> dict[str, Any]:
        """As a manifest has it."""
        steps = [{"method": name, **dataclasses.asdict(method)} for name, method in self.steps]  # type: ignore[call-overload]
        return {"calibration": dataclasses.asdict(self.calibration), "steps": steps,
                "export": dataclasses.asdict(self.export)}  # fmt: skip


def read(path: Path) -> Recipe:
    """A recipe from a file. Raises GraphError with all faults."""
    return _checked(read_file(path))


def of_text(text: str, name: str) -> Recipe:
    """A recipe from YAML. Raises GraphError with all faults."""
    return _checked(read_text(text, name))


def _checked(document: Item) -> Recipe:
    faults: list[Fault] = []
    if not isinstance(document.value, dict):
        raise GraphError([document.fault(f"a recipe is a mapping with 'steps', not {document.kind}")])
    known = {"calibration", "steps", "export"}
    for key in document.value:
        if key not in known:
            faults.append(document.key_fault(key, f"unknown key '{key}'{did_you_mean(key, known)}"))
    calibration = _section(document, "calibration", Calibration, faults)
    export = _section(document, "export", Export, faults)
    steps = _steps(document, faults)
    if faults:
        raise GraphError(faults)
    return Recipe(tuple(steps), calibration, export)


def _steps(document: Item, faults: list[Fault]) -> list[tuple[str, Method]]:
    item = document.value.get("steps")
    if item is None or not isinstance(item.value, list) or not item.value:
        at = document if item is None else item
        faults.append(at.fault("a recipe needs 'steps': a list such as [{method: plain}]"))
        return []
    found = []
    for step in item.value:
        name = step.value.get("method") if isinstance(step.value, dict) else None
        if name is None:
            faults.append(step.fault(f"a step is a mapping with 'method', one of {', '.join(sorted(METHODS))}"))
        elif not isinstance(name.value, str) or name.value not in METHODS:
            faults.append(name.fault(f"unknown method '{name.shown}'{did_you_mean(str(name.value), METHODS)}"))
        else:
            made = _made(step, METHODS[name.value], {"method"}, faults)
            if made is not None:
                found.append((name.value, made))
    return found


def _section(document: Item, name: str, kind: Any, faults: list[Fault]) -> Any:
    item = document.value.get(name)
    if item is None:
        return kind()
    if not isinstance(item.value, dict):
        faults.append(item.fault(f"'{name}' is a mapping, not {item.kind}"))
        return kind()
    return _made(item, kind, set(), faults) or kind()


def _made(item: Item, kind: Any, beside: set[str], faults: list[Fault]) -> Any:
    """An object of a dataclass from a mapping, each value held against its type and bounds."""
    from pydantic import TypeAdapter, ValidationError

    names = {each.name for each in dataclasses.fields(kind)}
    begin = len(faults)
    for key in item.value.keys() - beside - names:
        faults.append(item.key_fault(key, f"unknown option '{key}'{did_you_mean(key, names)}"))
    values = {key: each.plain() for key, each in item.value.items() if key in names}
    try:
        made = TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        for each in error.errors():
            at = item.value.get(str(each["loc"][0])) if each["loc"] else None
            text = f"{each['loc'][0] if each['loc'] else 'step'}: {each['msg'][0].lower()}{each['msg'][1:]}"
            faults.append((at or item).fault(f"{text}, not {(at or item).shown}"))
        return None
    return made if len(faults) == begin else None
