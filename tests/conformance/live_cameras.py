"""Cameras of other people for tests: Aravis' fake GigE Vision camera, one at a time on 127.0.0.1:3956."""

from __future__ import annotations

import fcntl
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from foveate.clock import process_ns
from foveate_drivers.cameras import gvcp

PROGRAM = "arv-fake-gv-camera-0.8"


@contextmanager
def gige_port() -> Iterator[None]:
    """Only one test at a time may serve GigE Vision on this computer."""
    with (Path(tempfile.gettempdir()) / "foveate-gige.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def answers(address: str) -> bool:
    """Whether a camera at the address says who it is."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.1)
        probe.connect((address, gvcp.PORT))
        try:
            probe.send(gvcp.HEADER.pack(gvcp.COMMAND_KEY, gvcp.ACK_REQUIRED, gvcp.DISCOVERY, 0, 1))
            return len(probe.recv(512)) > 8
        except OSError:
            return False


class FakeCamera:
    """A process of Aravis' fake camera."""

    def __init__(self, lost_per_thousand: int = 0) -> None:
        self._command = [PROGRAM, "-i", "127.0.0.1", "-s", "GV01", "-r", str(lost_per_thousand)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        quiet = subprocess.DEVNULL
        self._process = subprocess.Popen(self._command, stdin=quiet, stdout=quiet, stderr=quiet)
        end_ns = process_ns() + 5_000_000_000
        while not answers("127.0.0.1"):
            assert process_ns() < end_ns and self._process.poll() is None, "the fake camera does not answer"

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def __enter__(self) -> Self:
        if shutil.which(PROGRAM) is None:
            pytest.skip(f"{PROGRAM} is not installed (apt install aravis-tools)")
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
