"""What a training is made from: a YAML file that says everything, so that it can be repeated."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le

from foveate.errors import ModelError

_STRICT = {"extra": "forbid"}  # what is no name here is a fault
_Side = Annotated[int, Ge(32), Le(1024)]


@dataclass(frozen=True, slots=True)
class Data:
    """Labelled recordings: `street` is rendered here; the others are read from `folder`."""

    __pydantic_config__ = _STRICT

    kind: Literal["street", "ddd17", "dsec", "davis", "camvid"] = "street"
    folder: Path | None = None
    drives: Annotated[int, Ge(1), Le(100_000)] = (
        800  # street: rendered drives of one clip each, every one another street
    )
    validation: Annotated[int, Ge(1), Le(10_000)] = 120  # more of them, to measure on
    field: Annotated[float, Gt(0.1), Le(2.5)] = 1.2  # rad, of the rendered camera
    renderings: Annotated[int, Ge(1), Le(64)] = 2  # in 10 ms, at most


@dataclass(frozen=True, slots=True)
class Slices:
    """How events are cut, and how many slices a clip has."""

    __pydantic_config__ = _STRICT

    steps: Annotated[int, Ge(1), Le(64)] = 4
    bins: Annotated[int, Ge(1), Le(32)] = 5
    duration_ms: Annotated[float, Gt(0), Le(10_000)] = 50.0
    count: Annotated[int, Ge(0)] = 0  # events of a slice instead, if it is not 0
    carried: bool = True  # membranes go on from slice to slice

    @property
    def duration_ns(self) -> int:
        return round(self.duration_ms * 1e6)


@dataclass(frozen=True, slots=True)
class Net:
    """The network; see `sltnet.Layout`."""

    __pydantic_config__ = _STRICT

    width: Annotated[int, Ge(8), Le(256)] = 16
    size: tuple[_Side, _Side] = (144, 108)  # width and height of its input
    neuron: Literal["fast_sigmoid", "tanh_window", "relu"] = "fast_sigmoid"  # its surrogate gradient; relu: no spikes
    readout: Literal["spikes", "membranes"] = "membranes"  # what the classifier sees; spikes: as released
    slope: Annotated[float, Gt(0), Le(100)] = 4.0
    gain: Annotated[float, Gt(0), Le(10)] = 0.5  # norms begin with this: about 15 % of neurons fire


@dataclass(frozen=True, slots=True)
class Learning:
    """How it learns."""

    __pydantic_config__ = _STRICT

    steps: Annotated[int, Ge(1)] = 800
    batch: Annotated[int, Ge(1), Le(1024)] = 8
    rate: Annotated[float, Gt(0), Le(1)] = 4e-3
    weight_decay: Annotated[float, Ge(0), Le(1)] = 1e-2
    decay_all: bool = (
        False  # norms and biases too, and within Adam: as in the released training, which killed its blocks
    )
    floor: Annotated[float, Ge(0), Le(1)] = 0.03  # rate below which a channel of neurons is pushed up
    push: Annotated[float, Ge(0)] = 0.1  # how much that counts
    early: Annotated[float, Ge(0)] = 0.4  # how much the early head counts
    seed: Annotated[int, Ge(0)] = 0


@dataclass(frozen=True, slots=True)
class Recipe:
    """A training."""

    __pydantic_config__ = _STRICT

    data: Data = field(default_factory=Data)
    slices: Slices = field(default_factory=Slices)
    net: Net = field(default_factory=Net)
    learning: Learning = field(default_factory=Learning)

    def plain(self) -> dict[str, Any]:
        """As a manifest has it."""
        return dict(json.loads(self.said()))

    def said(self) -> str:
        """The recipe in one line."""
        return json.dumps(dataclasses.asdict(self), default=str, sort_keys=True)

    def data_said(self) -> str:
        """What of it rendered data depend on."""
        size = self.net.size
        return json.dumps(
            [dataclasses.asdict(self.data), self.slices.steps, self.slices.duration_ms, size], default=str
        )


def read(path: Path) -> Recipe:
    """A recipe from YAML. Raises ModelError with the place, the value and what is wrong with it."""
    import yaml

    try:
        values: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise _refused(str(path), error.strerror or type(error).__name__) from None
    except (UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise _refused(str(path), " ".join(str(error).split())[:200] or type(error).__name__) from None
    return of_values(values, str(path))


def of_values(values: Any, who: str) -> Recipe:
    """A recipe from what a document says; `who` is named in the ModelError."""
    from pydantic import TypeAdapter, ValidationError

    try:
        adapter: TypeAdapter[Recipe] = TypeAdapter(Recipe)
        return adapter.validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the document"
        raise _refused(
            who, f"{place}: {first['msg'][0].lower()}{first['msg'][1:]}, not {first['input']!r:.60}"
        ) from None


def _refused(who: str, text: str) -> ModelError:
    return ModelError(who, "read the recipe", text)
