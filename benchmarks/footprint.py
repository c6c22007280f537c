"""What foveate costs before and around the work: start, import, disk, memory.

python benchmarks/footprint.py
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path


def cpu_s(arguments: list[str]) -> float:
    """CPU seconds (user + system) of one process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def interleaved(commands: dict[str, list[str]], repeats: int) -> dict[str, float]:
    """Median CPU seconds of each command, taken in turn."""
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(repeats):
        for name, arguments in commands.items():
            times[name].append(cpu_s(arguments))
    return {name: statistics.median(values) for name, values in times.items()}


def installed_mb() -> dict[str, float]:
    """Megabytes of the packages in this environment's site-packages, the largest ones by name."""
    import numpy

    site = Path(numpy.__file__).parents[1]
    wanted = ("numpy", "numpy.libs", "cv2", "opencv_python_headless.libs", "onnxruntime", "pydantic", "pydantic_core",
              "yaml", "mcap", "google", "lz4", "zstandard")  # fmt: skip
    sizes = {}
    for name in wanted:
        folder = site / name
        if folder.is_dir():
            sizes[name] = sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) / 1e6
    return sizes


def run_memory_mb() -> float:
    """Largest resident memory of a live run of the wide-area search."""
    with tempfile.TemporaryDirectory() as folder:
        command = [
            "-m",
            "foveate",
            "run",
            "wide_area",
            "--duration",
            "5s",
            "--no-report",
            "--quiet",
            "--output",
            folder,
        ]
        code = ("import resource,subprocess,sys; subprocess.run([sys.executable, *sys.argv[1:]], check=True, "
                "stdout=subprocess.DEVNULL); "
                "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")  # fmt: skip
        out = subprocess.run([sys.executable, "-c", code, *command], check=True, capture_output=True, text=True)
    return int(out.stdout.split()[-1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=11)
    options = parser.parse_args()
    commands = {
        "python -c pass": ["-c", "pass"],
        "foveate --help": ["-m", "foveate", "--help"],
        "import numpy": ["-c", "import numpy"],
        "import foveate": ["-c", "import foveate; foveate.Node, foveate.Frame"],
    }
    times = interleaved(commands, options.repeats)
    print("| | CPU s, median | to import numpy |\n|---|---|---|")
    for name, value in times.items():
        print(f"| {name} | {value:.3f} | {value / times['import numpy']:.2f}x |")
    help_s, ratio = times["foveate --help"], times["import foveate"] / times["import numpy"]
    print(f"\ntarget: foveate --help under 0.15 CPU s: {help_s:.3f}, {'met' if help_s < 0.15 else 'missed'}")
    print(f"target: import foveate within 1.5x of import numpy: {ratio:.2f}x, {'met' if ratio <= 1.5 else 'missed'}")
    sizes = installed_mb()
    print("\n| installed | MB |\n|---|---|")
    for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
        print(f"| {name} | {size:.1f} |")
    print(f"| together | {sum(sizes.values()):.0f} |")
    print(f"\nmemory of the live wide-area search: {run_memory_mb():.0f} MB at most")


if __name__ == "__main__":
    main()
