"""What options of several commands mean."""

from __future__ import annotations

from foveate.errors import Fault, GraphError

DIFFERENT = 4  # exit code: recordings differ, or a budget was missed


def pair(option: str, text: str) -> tuple[str, str]:
    """NAME=VALUE. Raises GraphError."""
    name, equals, value = text.partition("=")
    if not equals or not name or not value:
        raise GraphError([Fault(option, 1, 1, f"write it as NAME=VALUE, not '{text}'")])
    return name, value


def tolerances(texts: list[str]) -> dict[str, float]:
    """`--tolerance node.output=1e-5` by stream. Raises GraphError."""
    found = {}
    for name, text in (pair("--tolerance", item) for item in texts):
        try:
            value = float(text)
        except ValueError:
            value = -1.0
        if not 0 <= value < float("inf"):
            raise GraphError([Fault("--tolerance", 1, 1, f"'{text}' is not a number from 0")])
        found[name] = value
    return found
