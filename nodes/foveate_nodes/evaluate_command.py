"""The command `foveate evaluate`: results against the truth. Each kind's module is imported when it is asked for."""

from __future__ import annotations

import argparse
from importlib import import_module

_KINDS = {  # what can be evaluated: (module with main(arguments), what it tells)
    "trajectory": ("foveate_nodes.odometry.evaluate_trajectory", "poses over time: ATE, RPE, drift"),
}


def main(arguments: list[str]) -> int:
    """Evaluate one kind of result; returns its exit code."""
    listed = "\n".join(f"  {name:<12} {about}" for name, (_, about) in sorted(_KINDS.items()))
    parser = argparse.ArgumentParser(
        prog="foveate evaluate", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Hold results against the truth.",
        epilog=f"what can be evaluated:\n{listed}\n\n'foveate evaluate KIND --help' tells the options of each.",
    )  # fmt: skip
    parser.add_argument("kind", choices=sorted(_KINDS), metavar="KIND")
    options = parser.parse_args(arguments[:1])
    return int(import_module(_KINDS[options.kind][0]).main(arguments[1:]))
