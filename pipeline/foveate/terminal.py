"""What a run shows while it goes on: a table that redraws itself, or a line now and then."""

from __future__ import annotations

import shutil
import threading
from typing import TextIO

from foveate.clock import process_ns
from foveate.quantity import format_duration
from foveate.run import Run
from foveate.station import ledgers
from foveate.summary import drops_text, table

_PERIOD_S = 0.25
_PLAIN_PERIOD_S = 5.0


class Progress:
    """A bar for long work whose share is known; called with 0 to 1, prints a few times a second on a terminal."""

    def __init__(self, title: str, out: TextIO) -> None:
        self._title = title
        self._out = out
        self._fancy = out.isatty()
        self._begun_ns = self._shown_ns = process_ns()

    def __call__(self, share: float) -> None:
        now = process_ns()
        if now - self._shown_ns < (100_000_000 if self._fancy else 5_000_000_000) and share < 1:
            return
        if share >= 1 and (self._shown_ns == self._begun_ns or not self._fancy):  # it was quick: say nothing
            return
        self._shown_ns = now
        filled = round(24 * min(share, 1.0))
        left_ns = (now - self._begun_ns) * (1 - share) / max(share, 1e-6)
        rest = "" if share >= 1 else f", {format_duration(left_ns)} left"
        text = f"{self._title}  [{'#' * filled}{'-' * (24 - filled)}] {100 * share:3.0f} %{rest}"
        self._out.write(f"\r\x1b[2K{text}" + ("\n" if share >= 1 else "") if self._fancy else text + "\n")
        self._out.flush()


class _Shown:
    """A thread that draws until it is told to finish."""

    def __init__(self, run: Run, title: str, duration_ns: int | None, out: TextIO) -> None:
        self._run = run
        self._title = title
        self._duration_ns = duration_ns
        self._out = out
        self._fancy = out.isatty()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="view", daemon=True)
        self._height = 0

    def start(self) -> None:
        self._thread.start()

    def finish(self) -> None:
        """Draw the last state and stop."""
        self._done.set()
        self._thread.join(1.0)
        self._draw(last=True)

    def _loop(self) -> None:
        while not self._done.wait(_PERIOD_S if self._fancy else _PLAIN_PERIOD_S):
            self._draw(last=False)

    def _lines(self) -> list[str]:
        raise NotImplementedError

    def _draw(self, last: bool) -> None:
        lines = self._lines()
        if self._fancy:
            width, height = shutil.get_terminal_size()
            lines = [line[: width - 1] for line in lines[: height - 1]]
            up = f"\x1b[{self._height}A" if self._height else ""
            self._out.write(up + "".join(f"\x1b[2K{line}\n" for line in lines) + "\x1b[J")
            self._height = len(lines)
        elif not last:
            self._out.write(self._progress() + "\n")
        self._out.flush()

    def _progress(self) -> str:
        now = self._run.clock.now_ns()
        if not self._duration_ns:
            return f"{self._title}  {format_duration(now)}"
        share = min(now / self._duration_ns, 1.0)
        filled = round(24 * share)
        bar = "#" * filled + "-" * (24 - filled)
        times = f"{format_duration(now)} of {format_duration(self._duration_ns)}"
        return f"{self._title}  [{bar}] {100 * share:3.0f} %  {times}"


class ProgressBar(_Shown):
    """For a run in simulated time: one line."""

    def __init__(self, run: Run, duration_ns: int | None, title: str, out: TextIO) -> None:
        super().__init__(run, title, duration_ns, out)

    def _lines(self) -> list[str]:
        return [self._progress()]


class LiveView(_Shown):
    """Per node: rate, latency, what waits in its queues, what was dropped and why."""

    def __init__(self, run: Run, title: str, duration_ns: int | None, out: TextIO) -> None:
        super().__init__(run, title, duration_ns, out)
        self._before: dict[str, tuple[int, int]] = {}
        self._rates: dict[str, float] = {}

    def _rate(self, name: str, steps: int, now_ns: int) -> float:
        """Steps a second since the last drawing, smoothed."""
        last_steps, last_ns = self._before.get(name, (0, 0))
        self._before[name] = (steps, now_ns)
        newest = (steps - last_steps) * 1e9 / max(now_ns - last_ns, 1)
        smooth = self._rates.get(name)
        self._rates[name] = newest if smooth is None else 0.6 * smooth + 0.4 * newest
        return self._rates[name]

    def _lines(self) -> list[str]:
        now = self._run.clock.now_ns()
        waiting: dict[str, int] = {}
        dropped: dict[str, dict[str, int]] = {}
        for wire, queue in ledgers(self._run.stations):
            waiting[wire.target] = waiting.get(wire.target, 0) + len(queue)
            for reason, count in list(queue.ledger.dropped.items()):
                sums = dropped.setdefault(wire.target, {})
                sums[reason] = sums.get(reason, 0) + count
        rows = [["node", "rate Hz", "p50 ms", "p99 ms", "queue", "dropped"]]
        for name, station in self._run.stations.items():
            stats = station.stats
            p50, p99 = (stats.latency.quantile_ns(q) / 1e6 for q in (0.5, 0.99))
            note = f"blocked by {stats.blocked_by}" if stats.state == "blocked" else ""
            rows.append([
                name, f"{self._rate(name, stats.steps, now):.1f}", f"{p50:.2f}", f"{p99:.2f}",
                str(waiting.get(name, 0)), drops_text(dropped.get(name, {})) + (f"  {note}" if note else ""),
            ])  # fmt: skip
        return [self._progress(), *table(rows)]
