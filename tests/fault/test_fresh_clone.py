"""What a newcomer does: clone, and type the README's first command."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 180.0


@pytest.mark.heavy
@pytest.mark.timeout(900)
def test_make_run_works_in_a_fresh_clone(tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    command = readme.split("```sh\n")[1].split("#")[0].strip()
    assert command == "make run"
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", "--depth=1", f"file://{ROOT}", str(clone)], check=True)
    environment = {k: v for k, v in os.environ.items() if k not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    begun = time.monotonic()
    done = subprocess.run(command.split(), cwd=clone, env=environment, capture_output=True, text=True, check=False)
    took_s = time.monotonic() - begun
    print(f"{command} took {took_s:.0f} s with installation")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "every message accounted for" in done.stdout and "found" in done.stdout
    folders = list((clone / "logs").iterdir())
    assert len(folders) == 1
    assert {"run.mcap", "report.html"} <= {p.name for p in folders[0].iterdir()}
    assert (clone / ".venv/bin/foveate").exists()
    assert took_s < LIMIT_S
