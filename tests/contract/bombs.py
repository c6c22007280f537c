"""Small files that are large inside: what a YAML reader may hang on, crash on, or fill the memory with."""

from __future__ import annotations

_HEAD = "foveate: 1\nnodes:\n"
_TAIL = "\nnodes: {a: {use: numbers}}\n"


def _laughs() -> str:
    """Each list holds the one before nine times: 9^9 elements."""
    lines = ["a0: &a0 [x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    return "\n".join(lines)


def _merges() -> str:
    """Merge keys that double a mapping at each level."""
    return "\n".join(
        ["a0: &a0 {k0: 1}", *(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}], k{i}: 1}}" for i in range(1, 30))]
    )


def _relays(count: int, sources: list[str]) -> str:
    """Relays n0, n1, ..., each fed by the next of `sources`."""
    return "".join(f"  n{i}: {{use: relay, inputs: {{value: {sources[i]}.out}}}}\n" for i in range(count))


REFUSED: dict[str, str | bytes] = {
    "aliases that multiply": _laughs(),
    "merge keys that multiply": _merges(),
    "an alias to itself": "a: &a [*a]",
    "100,000 open lists": "[" * 100_000,
    "100,000 open mappings": "{a: " * 60_000,
    "100,000 nested dashes": "- " * 100_000,
    "600 nested blocks": "\n".join(" " * i + "a:" for i in range(600)),
    "100,000 questions": "? " * 100_000,
    "100,000 colons": "a: " * 80_000,
    "1 MB of text": "foveate: 1\ndescription: " + "x" * 1_000_000 + _TAIL,
    "a list of 1.2 MB": "foveate: 1\nlist: [" + "1, " * 400_000 + "]" + _TAIL,
    "a list of 100,000 in 200 KB": "foveate: 1\nlist: [" + "1," * 100_000 + "]" + _TAIL,
    "9,000 unknown keys": "foveate: 1\n" + "".join(f"k{i}: 1\n" for i in range(9_000)),
    "18,000 equal keys": "a: 1\n" * 18_000,
    "60,000 documents": "---\n" * 60_000,
    "250,000 empty lines": "\n" * 250_000,
    "250,000 spaces": " " * 250_000,
    "a NUL": b"foveate: 1\ndescription: a\x00b\n",
    "only NUL": b"\x00" * 1000,
    "a control character": "foveate: 1\ndescription: a\x1bb\n",
    "a delete character": "foveate: 1\ndescription: a\x7fb\n",
    "a byte that is not UTF-8": b"foveate: 1\ndescription: caf\xe9\n",
    "an overlong encoding": b"foveate: 1\ndescription: \xc0\xaf\n",
    "UTF-16": "foveate: 1\n".encode("utf-16"),
    "a lone surrogate": b"foveate: 1\ndescription: \xed\xa0\x80\n",
    "an escaped surrogate": 'foveate: 1\ndescription: "\\ud800"\n',
    "a byte that is never UTF-8": b"\xff" * 1000,
    "a picture": b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20,
    "1e999999": _HEAD + "  a: {use: options, params: {rate: 1e999999}}\n",
    "-1e999999": _HEAD + "  a: {use: options, params: {rate: -1e999999}}\n",
    "100,000 digits": _HEAD + "  a: {use: options, params: {count: " + "9" * 100_000 + "}}\n",
    "100,000 digits of hexadecimal": _HEAD + "  a: {use: options, params: {count: 0x" + "f" * 100_000 + "}}\n",
    "100,000 digits of a version": "foveate: " + "1" * 100_000 + _TAIL,
    "a reference that never closes": 'foveate: 1\ndescription: "${' + " " * 200_000 + 'x"' + _TAIL,
    "100,000 references that never close": 'foveate: 1\ndescription: "' + "${" * 100_000 + '"' + _TAIL,
    "references that multiply a text": (
        'foveate: 1\nparams: {a: "' + "x" * 9_000 + '"}\ndescription: "' + "${params.a}" * 9_000 + '"' + _TAIL
    ),
    "references that multiply a list": (
        "foveate: 1\nparams: {w: [" + "x," * 9_000 + "]}\nnodes:\n"
        + "".join(f'  n{i}: {{use: options, params: {{words: "${{params.w}}"}}}}\n' for i in range(900))
    ),
    "a path of 120,000 folders": _HEAD + "  a: {include: " + "a/" * 120_000 + "}\n",
    "a name of 200,000 letters": _HEAD + "  a: {include: " + "a" * 200_000 + "}\n",
    "a name of 2,000 letters": _HEAD + "  a: {include: " + "a" * 2_000 + "}\n",
    "a node type of 200,000 letters": _HEAD + "  a: {use: " + "a" * 200_000 + "}\n",
    "a ring of 990": _HEAD + _relays(990, [*(f"n{i}" for i in range(1, 990)), "n0"]),
    "900 unknown nodes": _HEAD + _relays(900, [f"x{i}" for i in range(900)]),
    "1,001 nodes": _HEAD + "".join(f"  n{i}: {{use: numbers}}\n" for i in range(1_001)),
    "18,000 streams": _HEAD + "  a: {use: numbers}\nrecord:\n  streams:\n" + "    - a.out\n" * 18_000,
    "9,000 wrong words": _HEAD + "  a: {use: options, params: {words: [" + "1," * 9_000 + "]}}\n",
    "250,000 tabs": "foveate: 1\n" + "\t" * 250_000,
    "250,000 quotes": "'" * 250_000,
    "250,000 exclamation marks": "!" * 250_000,
    "250,000 percent signs": "%" * 250_000,
}  # fmt: skip
HARMLESS: dict[str, str] = {
    "a text of 250 KB": "foveate: 1\ndescription: " + "x" * 250_000 + _TAIL,
    "a comment of 250 KB": "#" * 250_000 + "\nfoveate: 1" + _TAIL,
    "50,000 lines of one text": "foveate: 1\ndescription: >\n" + "  x\n" * 50_000 + _TAIL,
    "a byte order mark": "\ufefffoveate: 1" + _TAIL,
    "Windows' line ends": ("foveate: 1" + _TAIL).replace("\n", "\r\n"),
    "the end of the document": "---\nfoveate: 1" + _TAIL + "...\n",
    "a chain of 900, last first": _HEAD + _relays(900, [f"n{i}" for i in range(1, 901)]) + "  n900: {use: numbers}\n",
    "numbers as YAML 1.2 has them": _HEAD + "  a: {use: options, params: {rate: 1e2, count: 0x1F, label: no}}\n",
}
