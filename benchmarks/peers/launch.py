"""Installs the peers in environments of their own and runs one trial of a hop in them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from peers.plan import Plan

PACKAGES = {
    "dora": ("dora-rs==1.1.0", "dora-rs-cli==1.1.0", "numpy"),
    "ezmsg": ("ezmsg==3.9.0", "numpy"),
}
IMPORTS = {"dora": "import dora, pyarrow, dora_cli", "ezmsg": "import ezmsg.core"}
POOL_BYTES = 268_435_456  # dora's own 8 MB are full after one 6.2 MB frame: the next go through TCP
_INSTALL_S = 300.0
_SCRIPTS = Path(__file__).resolve().parent.parent

DATAFLOW = """\
nodes:
  - id: produce
    path: {python}
    args: -u -m peers.dora_node {mode} {plan}
    outputs: [payload]
    shared_memory_pool_size: {pool}
    env: {{PYTHONPATH: "{scripts}"}}
  - id: consume
    path: {python}
    args: -u -m peers.dora_node take {plan}
    inputs:
      payload: {{source: produce/payload, queue_size: 8}}
    shared_memory_pool_size: {pool}
    env: {{PYTHONPATH: "{scripts}"}}
"""


class PeerFailed(Exception):
    """A peer could not be installed, or a trial gave no result."""


def install(name: str, folder: Path) -> Path:
    """The interpreter of the peer's environment; makes the environment where there is none."""
    home = folder.resolve() / name
    python = home / "bin" / "python"
    if _works(python, name):
        return python
    finish([sys.executable, "-m", "venv", "--clear", str(home)], _INSTALL_S)
    finish([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *PACKAGES[name]], _INSTALL_S)
    if not _works(python, name):
        raise PeerFailed("installed, but its packages cannot be imported")
    return python


def _works(python: Path, name: str) -> bool:
    try:
        finish([str(python), "-c", IMPORTS[name]], 60.0)
    except (PeerFailed, OSError):
        return False
    return True


def finish(command: list[str], limit_s: float, **options: Any) -> str:
    """Run to the end, at most `limit_s`; gives what was printed. Raises PeerFailed with its last line."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
        start_new_session=True, **options,
    )  # fmt: skip
    try:
        text, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        _end(process)
        raise PeerFailed(f"did not end within {limit_s:.0f} s") from None
    except BaseException:
        _end(process)
        raise
    if process.returncode:
        raise PeerFailed(f"exit code {process.returncode}: {last_line(text)}")
    return text


def _end(process: subprocess.Popen[str]) -> None:
    """End a process of ours and what it started in its session."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        try:
            process.communicate(timeout=5)
            return
        except subprocess.TimeoutExpired:
            continue


def last_line(text: str) -> str:
    """The last line that says something, shortened."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:160] if lines else "no output"


def trial(python: Path, mode: str, plan: Plan) -> dict[str, Any]:
    """One trial in other processes. `mode`: dora's copy or loan, ezmsg's two or one process(es)."""
    with tempfile.TemporaryDirectory(prefix="hop-") as name:
        folder = Path(name)
        out, file = folder / "result.json", folder / "plan.json"
        replace(plan, out=str(out)).save(file)
        environment = {**os.environ, "PYTHONPATH": str(_SCRIPTS)}
        if mode in ("copy", "loan"):
            environment["DORA_ZENOH_MULTICAST"] = "off"  # else it listens on all interfaces
            flow = folder / "flow.yml"
            flow.write_text(
                DATAFLOW.format(python=python, mode=mode, plan=file, pool=POOL_BYTES, scripts=_SCRIPTS)
            )  # fmt: skip
            command = [str(python.parent / "dora"), "run", str(flow)]
        else:
            command = [str(python), "-m", "peers.ezmsg_units", mode, str(file)]
        text = finish(command, plan.limit_s + 5, cwd=folder, env=environment)
        until = time.monotonic() + 1.0
        while not out.exists() and time.monotonic() < until:
            time.sleep(0.01)
        if not out.exists():
            raise PeerFailed(f"gave no result: {last_line(text)}")
        result: dict[str, Any] = json.loads(out.read_text())
        return result
