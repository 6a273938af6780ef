"""What devices send each other in a step, read from the compiled program's text.

A loop's body is counted as often as it runs. Bytes are those that one device sends, by the usual
algorithms: a ring's 2 (n - 1) / n of an all-reduce over n devices, (n - 1) / n of an all-gather's
result, of a reduce-scatter's input and of an all-to-all, and all of a permute's. A group of several
nodes (or slices) does it in two steps, within each node over its links and between the nodes over
the network, where each device has a share of what its node holds.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

KINDS = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
_WIDTHS = {"pred": 1, "f64": 8, "s64": 8, "u64": 8, "c64": 8, "bf16": 2, "f16": 2}
_ARRAY = re.compile(r"\b(pred|bf16|[a-z]\d+)(?:e\d\w*)?\[([\d,]*)\]")
_HEAD = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
_LINE = re.compile(r"^\s+(?:ROOT )?%?([\w.\-]+) = (.+)$")
_OPERATION = re.compile(rf" ({'|'.join(KINDS)})(-start)?\(")
_CALLED = re.compile(r"\b(calls|body|to_apply|branch_computations)=\{?((?:%[\w.\-]+(?:, )?)+)")
_TRIPS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
_MESH = re.compile(r"replica_groups=mesh\[([^\]]*)\]\s*\{([^}]*)\}")
_IOTA = re.compile(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?")
_LISTS = re.compile(r"(?:replica_groups|source_target_pairs)=\{(\{[\d,{}]*\})\}")

Groups = np.ndarray  # of device numbers: [groups members]


class Collective(NamedTuple):
    """One operation of the compiled program.

    Attributes:
      kind: one of KINDS.
      size: bytes of its whole result on a device (of its input, for a reduce-scatter).
      groups: device numbers, a row a group; of a permute, pairs of sender and receiver.
      times: how often a step runs it.
      source: what it was in the program, as JAX names it.
    """

    kind: str
    size: int
    groups: Groups
    times: int
    source: str

    def axes(self, mesh: Mapping[str, int]) -> tuple[str, ...]:
        """Returns the axes of the mesh that it goes along."""
        places = np.stack(np.unravel_index(self.groups, tuple(mesh.values())))
        moved = (places != places[:, :, :1]).any(axis=(1, 2))
        return tuple(axis for axis, moves in zip(mesh, moved, strict=True) if moves)

    def sent(self, together: int) -> tuple[float, float]:
        """Returns bytes that one device sends in a step: over links, and over the network.

        Args:
          together: devices of a node, which are neighbours in number.
        """
        nodes = self.groups // together
        if self.kind == "collective-permute":
            away = float((nodes[:, :1] != nodes[:, 1:]).mean())
            moves = float((self.groups[:, :1] != self.groups[:, 1:]).mean())
            return self.times * self.size * (moves - away), self.times * self.size * away
        there = len(set(nodes[0]))
        inside = self.groups.shape[1] // there
        rounds = 2 if self.kind == "all-reduce" else 1
        within = rounds * self.size * (inside - 1) / inside
        share = self.size if self.kind == "all-to-all" else self.size / inside
        across = rounds * share * (there - 1) / there
        return self.times * within, self.times * across


def collectives(text: str, devices: int) -> list[Collective]:
    """Returns the collectives of a compiled program.

    Args:
      text: jax.stages.Compiled.as_text().
      devices: that it runs on.
    """
    computations, entry = _computations(text)
    runs = _runs(computations, entry)
    found: dict[str, Collective] = {}
    for name, lines in computations.items():
        for own, line in lines if runs[name] else ():
            if one := _collective(name, line, devices, runs[name]):
                # What runs beside computation is in several fusions, and is sent once.
                channel = re.search(r"channel_id=(\d+)", line)
                key = channel[1] if channel else own
                if key not in found or one.times > found[key].times:
                    found[key] = one
    return list(found.values())


def totals(
    found: Sequence[Collective], mesh: Mapping[str, int], together: int
) -> dict[tuple[str, tuple[str, ...]], tuple[int, float, float]]:
    """Returns how often, and bytes over links and network, by kind and axes; the most first."""
    sums: dict[tuple[str, tuple[str, ...]], tuple[int, float, float]] = {}
    for one in found:
        key = one.kind, one.axes(mesh)
        times, links, network = sums.get(key, (0, 0.0, 0.0))
        over_links, over_network = one.sent(together)
        sums[key] = times + one.times, links + over_links, network + over_network
    return dict(sorted(sums.items(), key=lambda item: -sum(item[1][1:])))


def _computations(text: str) -> tuple[dict[str, list[tuple[str, str]]], str]:
    """Returns the lines of every computation, as (name, rest), and the name of the first to run."""
    computations: dict[str, list[tuple[str, str]]] = {}
    entry, lines = "", []
    for line in text.splitlines():
        if head := _HEAD.match(line):
            lines = computations[head[2]] = []
            entry = head[2] if head[1] else entry
        elif match := _LINE.match(line):
            lines.append((match[1], match[2]))
    return computations, entry


def _runs(computations: Mapping[str, Sequence[tuple[str, str]]], entry: str) -> dict[str, int]:
    """Returns how often each computation runs in a step; a branch as if it were taken."""
    runs = dict.fromkeys(computations, 0)
    calls = {
        name: [call for _, line in lines for call in _calls(line, computations)]
        for name, lines in computations.items()
    }
    todo = [(entry, 1)]
    while todo:
        name, times = todo.pop()
        runs[name] += times
        todo += [(called, times * trips) for called, trips in calls[name]]
    return runs


def _calls(line: str, computations: Mapping) -> Iterator[tuple[str, int]]:
    """Yields the computations that a line runs, and how often."""
    if "=%" not in line and "={%" not in line:
        return
    trips = 1
    if " while(" in line:
        trips = _trips(line, computations)
    for _, names in _CALLED.findall(line):
        for name in re.findall(r"%([\w.\-]+)", names):
            yield name, trips


def _trips(line: str, computations: Mapping) -> int:
    """Returns how often a loop runs: as it says, or by what its counter, from 0, stays below."""
    if known := _TRIPS.search(line):
        return int(known[1])
    condition = re.search(r"condition=%([\w.\-]+)", line)
    lines = computations[condition[1]] if condition else ()
    limits = [int(m[1]) for _, rest in lines if (m := re.search(r"constant\((\d+)\)", rest))]
    return max(limits, default=1)


def _collective(computation: str, line: str, devices: int, times: int) -> Collective | None:
    """Returns the collective of a line; None where it has none."""
    match = _OPERATION.search(line)
    if match is None:
        return None
    kind, sizes = match[1], _sizes(line[: match.start()])
    groups = _groups(line, devices)
    if groups.shape[1] < 2:
        return None
    started = match[2] and kind in ("all-gather", "collective-permute")
    size = max(sizes) if started else sum(sizes)
    if kind == "reduce-scatter":
        size *= groups.shape[1]
    if kind == "all-reduce" and "all-reduce-scatter" in computation:  # a fusion of the TPU's
        kind = "reduce-scatter"
    source = re.search(r'op_name="([^"]*)"', line)
    return Collective(kind, size, groups, times, source[1] if source else "")


def _sizes(shapes: str) -> list[int]:
    """Returns the bytes of each array of a type, such as "(f32[2,3]{1,0}, bf16[])"."""
    sizes = []
    for kind, sides in _ARRAY.findall(re.sub(r"/\*.*?\*/", "", shapes)):
        width = _WIDTHS.get(kind) or max(1, int(re.sub(r"\D", "", kind)) // 8)
        sizes.append(width * math.prod(int(n) for n in sides.split(",") if n))
    return sizes


def _groups(line: str, devices: int) -> Groups:
    """Returns which devices a collective is among, from any of the forms that XLA writes."""
    if match := _MESH.search(line):
        axes = {name: int(n) for name, n in re.findall(r"'([^']*)'=(\d+)", match[1])}
        along = [i for i, name in enumerate(axes) if f"'{name}'" in match[2]]
        grid = np.arange(devices).reshape(tuple(axes.values()))
        last = np.moveaxis(grid, along, range(-len(along), 0))
        return last.reshape(-1, math.prod(grid.shape[i] for i in along))
    if match := _IOTA.search(line):
        shape, sides, order = (
            [int(n) for n in part.split(",")] if part else None for part in match.groups()
        )
        numbers = np.arange(math.prod(sides)).reshape(sides)  # type: ignore[arg-type]
        return (numbers.transpose(order) if order else numbers).reshape(shape)
    if match := _LISTS.search(line):
        return np.array([[int(n) for n in row.split(",")] for row in match[1][1:-1].split("},{")])
    return np.arange(devices)[None]
