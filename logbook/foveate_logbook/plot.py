"""`foveate log plot`: rates, latencies, drops and fields of a recording over time, as a PNG."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate import codec
from foveate.decisions import Step
from foveate.errors import BackendMissing, FoveateError, RecordingError
from foveate.messages import Events
from foveate.recording import Recording
from foveate.terminal import Progress
from foveate_logbook.cat import kind_of
from foveate_logbook.reading import finish, recording_of, stream_of

_BINS = 240
_RATE_BIN_NS = 500_000_000  # shorter ones show the beat between the bins and the messages
_FIELD = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)((?:\[[0-9]+\])*)")
_INCHES = (12.0, 2.6)  # width, and height of a panel
Curve = tuple[NDArray[Any], NDArray[Any]]  # times in seconds, values
Curves = Mapping[str, Curve]


@dataclass(frozen=True, slots=True)
class _Panel:
    """One diagram."""

    title: str
    unit: str
    curves: Curves
    log_scale: bool = False
    band: tuple[NDArray[Any], NDArray[Any], NDArray[Any]] | None = None  # times, least, largest


def main(options: argparse.Namespace) -> int:
    """Draw and write the picture."""
    if options.out.exists():
        raise FoveateError(f"{options.out}: exists already; choose another name")
    with recording_of(options.log) as log:
        progress = Progress(f"reading {options.log.name}", sys.stderr)
        bins = _Bins(log)
        panels = [_Panel("messages a second", "Hz", bins.rates(log, progress))]
        events = bins.events(log)
        if events:
            panels.append(_Panel("events a second", "1/s", events))
        latency, drops = bins.decisions(log)
        if latency:
            panels.append(_Panel("longest latency, trigger to done", "ms", latency, log_scale=True))
        if drops:
            panels.append(_Panel("dropped so far", "messages", drops))
        panels += [_field(log, text) for text in options.field]
        _draw(options.log.name, panels, options.out)
        print(f"{options.out}  {len(panels)} panels")
        return finish(log)


class _Bins:
    """The time of a recording in equal parts: what is drawn does not grow with the recording."""

    def __init__(self, log: Recording) -> None:
        self.begin_ns, end_ns = log.time_range_ns
        self.width_ns = max((end_ns - self.begin_ns) // _BINS, 1) + 1
        self.t_s = (self.begin_ns + (np.arange(_BINS) + 0.5) * self.width_ns) / 1e9

    def place(self, t_ns: int) -> int:
        return min(max((t_ns - self.begin_ns) // self.width_ns, 0), _BINS - 1)

    def rates(self, log: Recording, progress: Progress) -> Curves:
        """Messages a second of every stream."""
        width_ns = max(self.width_ns, min(_RATE_BIN_NS, _BINS * self.width_ns // 4))
        places = max(_BINS * self.width_ns // width_ns, 1)
        names = {number: c.topic[1:] for number, c in log.file.channels.items() if not c.topic.startswith("/foveate/")}
        counts = {name: np.zeros(places + 1) for name in names.values()}
        rows = max(len(log.file), 1)
        for row in range(len(log.file)):
            for raw in log.file.messages(set(names), rows=range(row, row + 1)):
                place = (raw.log_ns - log.wall_start_ns - self.begin_ns) // width_ns
                counts[names[raw.channel]][min(max(place, 0), places)] += 1
            progress((row + 1) / rows)
        t_s = (self.begin_ns + (np.arange(places) + 0.5) * width_ns) / 1e9
        return {n: (t_s, c[:places] * 1e9 / width_ns) for n, c in sorted(counts.items()) if c.any()}

    def events(self, log: Recording) -> Curves:
        """Events a second of every stream of events, brighter and darker ones."""
        curves = {}
        for stream in (item for item in log.streams() if item.type == "Events"):
            counts: NDArray[np.float64] | None = None
            for _, message in log.messages(stream.name, Events):
                assert isinstance(message, Events)
                if counts is None:  # events come before their packet does
                    begin_ns = min([self.begin_ns, *message.t_ns[:1].tolist()])
                    width_ns = (self.begin_ns + _BINS * self.width_ns - begin_ns) // _BINS + 1
                    counts = np.zeros((2, _BINS))
                places = np.clip((message.t_ns - begin_ns) // width_ns, 0, _BINS - 1)
                counts += [np.bincount(places[message.polarity == sign], minlength=_BINS) for sign in (0, 1)]
            if counts is not None:
                t_s = (begin_ns + (np.arange(_BINS) + 0.5) * width_ns) / 1e9
                for sign, name in enumerate(("darker", "brighter")):
                    curves[f"{stream.name} {name}"] = (t_s, counts[sign] * 1e9 / width_ns)
        return curves

    def decisions(self, log: Recording) -> tuple[Curves, Curves]:
        """Longest latency of every node, and drops of every wire so far, by reason."""
        nodes, wires = log.seal.get("nodes", []), [entry["wire"] for entry in log.seal.get("wires", [])]
        latency: dict[str, NDArray[np.float64]] = {}
        drops: dict[str, NDArray[np.float64]] = {}
        for item in log.decisions():
            if isinstance(item, Step):
                if item.inputs:
                    curve = latency.setdefault(nodes[item.node], np.full(_BINS, np.nan))
                    place = self.place(item.done_ns)
                    curve[place] = np.fmax(curve[place], (item.done_ns - item.since_ns) / 1e6)
            elif item.wire < len(wires):
                name = f"{wires[item.wire]}  {item.reason}"
                drops.setdefault(name, np.zeros(_BINS))[self.place(item.t_ns)] += 1
        there = {name: ~np.isnan(curve) for name, curve in latency.items()}
        return (
            {name: (self.t_s[there[name]], curve[there[name]]) for name, curve in latency.items()},
            {name: (self.t_s, np.cumsum(curve)) for name, curve in drops.items()},
        )


def _field(log: Recording, text: str) -> _Panel:
    """The diagram of `node.output.field[0]`; of an array its mean, with a band from least to largest.

    Raises FoveateError, RecordingError.
    """
    node, _, rest = text.partition(".")
    output, _, path = rest.partition(".")
    stream = stream_of(log, f"{node}.{output}")
    coder = codec.codec_of(kind_of(log, stream.name, stream.type))  # type: ignore[arg-type]
    rows: list[tuple[float, float, float, float]] = []
    for raw in log.raw(stream.topic):
        array = np.asarray(_value(coder.decode(raw.data), path, text), np.float64)
        if array.size:
            t_s = (raw.log_ns - log.wall_start_ns) / 1e9
            rows.append((t_s, float(array.min()), float(array.mean()), float(array.max())))
    if not rows:
        raise RecordingError(f"{log.path}: '{text}' has no values")
    t_s, least, mean, largest = np.array(rows).T
    band = None if np.array_equal(least, largest, equal_nan=True) else (t_s, least, largest)
    return _Panel(text + (" (mean, least to largest)" if band else ""), "", {text: (t_s, mean)}, band=band)


def _value(message: Any, path: str, text: str) -> Any:
    """What a path such as `mirror.angle_rad[0]` means in a message; NaN where a part of it is None."""
    value: Any = message
    for part in path.split("."):
        match = _FIELD.fullmatch(part)
        if match is None or (value is not None and not hasattr(value, match[1])):
            known = ", ".join(getattr(type(value), "__dataclass_fields__", {})) or "no fields"
            raise FoveateError(f"--field {text}: '{part}' is no field of {type(value).__name__}; it has {known}")
        value = np.nan if value is None else getattr(value, match[1])
        for index in re.findall(r"\d+", match[2]):
            value = value[int(index)] if np.ndim(value) and int(index) < len(value) else np.nan
    if value is None:
        return np.nan
    if not isinstance(value, int | float | np.ndarray | np.generic):
        raise FoveateError(f"--field {text}: {type(value).__name__} cannot be drawn")
    return value


def _draw(title: str, panels: list[_Panel], out: Path) -> None:
    try:
        import matplotlib
    except ImportError:
        raise BackendMissing("log plot", "matplotlib", "plot") from None
    matplotlib.use("Agg")
    from matplotlib import pyplot

    size = (_INCHES[0], _INCHES[1] * len(panels) + 0.4)
    figure, axes = pyplot.subplots(len(panels), 1, figsize=size, sharex=True, squeeze=False, layout="constrained")
    for axis, panel in zip(axes[:, 0], panels, strict=True):
        for label, (times, values) in panel.curves.items():
            axis.plot(times, values, linewidth=1.1, label=label, marker="." if len(times) < 60 else "")
        if panel.band is not None:
            axis.fill_between(*panel.band, alpha=0.2, linewidth=0)
        axis.set_title(panel.title, fontsize=10, loc="left")
        axis.set_ylabel(panel.unit)
        axis.grid(alpha=0.3)
        if panel.log_scale:
            axis.set_yscale("log")
        elif panel.unit:
            axis.set_ylim(bottom=0)
        axis.legend(fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axes[-1, 0].set_xlabel("time of the run, s")
    figure.suptitle(title)
    try:
        figure.savefig(out, dpi=110)
    except (OSError, ValueError) as error:
        raise FoveateError(f"{out}: cannot write: {error}") from None
    pyplot.close(figure)
