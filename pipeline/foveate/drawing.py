"""Draws a graph: as indented text, or as an SVG of boxes in columns."""

from __future__ import annotations

from foveate.graph import Graph, Wire, order

_BOX_W, _ROW_H, _HEAD_H, _GAP_X, _GAP_Y, _PAD = 190, 18, 40, 110, 28, 24
_FILL = {"source": "#e3f0ff", "node": "#f4f4f4", "sink": "#e8f7e8"}


def text(graph: Graph) -> str:
    """Nodes in the order messages pass, each with its wires out."""
    lines = [f"{graph.name}  ({graph.path})"]
    for name in order(graph):
        spec = graph.nodes[name]
        devices = f"  [{', '.join(f'{d} {graph.devices[d].uri}' for d in spec.devices)}]" if spec.devices else ""
        lines.append(f"\n{name}: {spec.use}{devices}")
        wires = graph.outgoing(name)
        for i, wire in enumerate(wires):
            branch = "└─" if i == len(wires) - 1 else "├─"
            kind = spec.schema.outputs[wire.output].type.__name__
            lines.append(f"  {branch} {wire.output} ({kind}) ─▶ {wire.target}.{wire.input}  {_policy(wire)}")
    if graph.record is not None:
        streams = ", ".join(f"{node}.{output}" for node, output, _ in graph.record.streams)
        lines.append(f"\nrecorded: {streams}")
    return "\n".join(lines)


def _policy(wire: Wire) -> str:
    age = "" if wire.policy.max_age_ns is None else f", at most {wire.policy.max_age_ns / 1e6:g} ms old"
    return f"{wire.policy}{age}"


def columns(graph: Graph) -> list[list[str]]:
    """Nodes by their longest distance from a source; wires that close a cycle do not count."""
    rank: dict[str, int] = {}
    names = order(graph)
    place = {name: i for i, name in enumerate(names)}
    for name in names:
        before = [w.source for w in graph.incoming(name) if place[w.source] < place[name]]
        rank[name] = max((rank[source] + 1 for source in before), default=0)
    result: list[list[str]] = [[] for _ in range(max(rank.values(), default=0) + 1)]
    for name in names:
        result[rank[name]].append(name)
    return result


def svg(graph: Graph) -> str:
    """A self-contained SVG picture."""
    grid = columns(graph)
    height_of = {
        name: _HEAD_H + _ROW_H * max(len(s.schema.inputs), len(s.schema.outputs)) for name, s in graph.nodes.items()
    }
    at: dict[str, tuple[float, float]] = {}
    tallest = max((sum(height_of[n] + _GAP_Y for n in column) for column in grid), default=0)
    for c, column in enumerate(grid):
        y = _PAD + (tallest - sum(height_of[n] + _GAP_Y for n in column)) / 2
        for name in column:
            at[name] = (_PAD + c * (_BOX_W + _GAP_X), y)
            y += height_of[name] + _GAP_Y
    width = 2 * _PAD + len(grid) * (_BOX_W + _GAP_X) - _GAP_X
    height = tallest + 2 * _PAD + 30
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" font-family="sans-serif" font-size="12">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0L8 4L0 8z" fill="#667"/></marker></defs>',
        f'<rect width="{width:.0f}" height="{height:.0f}" fill="white"/>',
    ]
    lowest = [height - 14.0]
    parts += [_arc(graph, wire, at, lowest) for wire in graph.wires]
    for name in graph.nodes:
        parts += _box(graph, name, *at[name], height_of[name])
    parts.append("</svg>")
    return "\n".join(parts) + "\n"


def _box(graph: Graph, name: str, x: float, y: float, height: float) -> list[str]:
    spec = graph.nodes[name]
    kind = "source" if spec.schema.is_source else "node" if graph.outgoing(name) else "sink"
    parts = [
        f'<rect x="{x}" y="{y}" width="{_BOX_W}" height="{height}" rx="6" fill="{_FILL[kind]}" stroke="#88a"/>',
        f'<text x="{x + _BOX_W / 2}" y="{y + 16}" text-anchor="middle" font-weight="bold">{name}</text>',
        f'<text x="{x + _BOX_W / 2}" y="{y + 30}" text-anchor="middle" fill="#667" font-size="10">{spec.use}</text>',
    ]
    for i, port in enumerate(spec.schema.inputs):
        parts.append(f'<text x="{x + 6}" y="{_port_y(y, i) + 4}" font-size="11">{port}</text>')
    for i, port in enumerate(spec.schema.outputs):
        star = " ●" if graph.record and any((n, o) == (name, port) for n, o, _ in graph.record.streams) else ""
        parts.append(
            f'<text x="{x + _BOX_W - 6}" y="{_port_y(y, i) + 4}" text-anchor="end" font-size="11">{port}'
            f'<tspan fill="#c33">{star}</tspan></text>'
        )
    return parts


def _port_y(y: float, index: int) -> float:
    return y + _HEAD_H + _ROW_H * (index + 0.5) - 4


def _arc(graph: Graph, wire: Wire, at: dict[str, tuple[float, float]], lowest: list[float]) -> str:
    outputs = list(graph.nodes[wire.source].schema.outputs)
    inputs = list(graph.nodes[wire.target].schema.inputs)
    x0, y0 = at[wire.source][0] + _BOX_W, _port_y(at[wire.source][1], outputs.index(wire.output))
    x1, y1 = at[wire.target][0], _port_y(at[wire.target][1], inputs.index(wire.input))
    title = f"<title>{wire}  {_policy(wire)}</title>"
    if x1 > x0:
        bend = max((x1 - x0) / 2, 30)
        path = f"M{x0} {y0:.1f}C{x0 + bend:.1f} {y0:.1f} {x1 - bend:.1f} {y1:.1f} {x1} {y1:.1f}"
    else:  # backwards: below everything
        low = lowest[0]
        lowest[0] -= 5
        down = f"M{x0} {y0:.1f}C{x0 + 60} {y0:.1f} {x0 + 60} {low} {x0} {low}L{x1} {low}"
        path = f"{down}C{x1 - 60} {low} {x1 - 60} {y1:.1f} {x1} {y1:.1f}"
    return f'<path d="{path}" fill="none" stroke="#667" marker-end="url(#tip)">{title}</path>'
