"""A plan in words and tables for people, and as one object for programs."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

from vivit_jax.memory import in_units
from vivit_jax.metrics import duration
from vivit_jax.planning.advice import Change
from vivit_jax.planning.estimate import Plan

SHOWN = 12  # groups of parameters in the table


def as_object(plan: Plan) -> dict[str, Any]:
    """Returns a plan as what JSON can hold; bytes, seconds and multiply-accumulates."""
    known = math.isfinite(plan.used.total)
    return {
        "kind": plan.kind,
        "devices": plan.devices,
        "compiler": plan.compiler,
        "mesh": dict(plan.mesh),
        "parameters": {"learnt": plan.parameters, "frozen": plan.frozen},
        "multiply_accumulates": {
            "forward_of_a_clip": plan.costs.forward,
            "step_of_a_clip": plan.costs.step,
            "again_of_a_clip": plan.again,
            "step": plan.costs.step * plan.clips,
        },
        "clips_of_a_step": plan.clips,
        "bytes_of_a_device": {
            **plan.held._asdict(),
            "xla": {**plan.used._asdict(), "total": plan.used.total} if known else None,
            "memory": plan.room,
        },
        "fits": plan.fits,
        "groups": [group._asdict() for group in plan.groups],
        "collectives": [row._asdict() for row in plan.traffic],
        "largest_collectives": [
            {"bytes": size, "kind": kind, "axes": axes, "of": source}
            for size, kind, axes, source in plan.largest
        ],
        "mfu": plan.mfu,
        "seconds_of_a_step": {
            **{name: getattr(plan, name) for name in ("compute", "links", "network")},
            "fastest": plan.fastest,
            "slowest": plan.slowest,
        },
        "steps": plan.steps,
        "hours": {"fastest": _hours(plan, plan.fastest), "slowest": _hours(plan, plan.slowest)},
    }


def in_words(plan: Plan, videos: str) -> str:
    """Returns a plan as a page of text.

    Args:
      plan: which.
      videos: how many they are, and who says so.
    """
    return "\n\n".join(
        "\n".join(part)
        for part in (_what(plan, videos), _memory(plan), _groups(plan), _sent(plan), _time(plan))
        if part
    )


def in_words_of_a_change(change: Change, plan: Plan) -> str:
    """Returns what a change makes of a plan."""
    return (
        f"It fits with {' '.join(change.options)}:\n"
        f"  {in_units(plan.used.total)} of {in_units(plan.room)} a device, "
        f"{_range(plan.fastest, plan.slowest)} a step, "
        f"{_range(_hours(plan, plan.fastest) * 3600, _hours(plan, plan.slowest) * 3600)} in all."
    )


def table(rows: Iterable[Sequence[str]], numbers: Sequence[int]) -> list[str]:
    """Returns the lines of a table, with two spaces in front; some columns are numbers."""
    rows = [list(map(str, row)) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  "
        + "  ".join(
            cell.rjust(width) if i in numbers else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _what(plan: Plan, videos: str) -> list[str]:
    axes = ", ".join(f"{axis} {n}" for axis, n in plan.mesh.items() if n > 1) or "one device"
    costs, clips = plan.costs, plan.clips
    again = f", and {plan.again / 1e9:,.4g} G again (model.remat)" if plan.again else ""
    return [
        f"{plan.devices} x {plan.kind}: {axes}. Compiled by {plan.compiler}.",
        f"Parameters: {plan.parameters:,} learnt, {plan.frozen:,} frozen.",
        f"Multiply-accumulates of a clip: {costs.forward / 1e9:,.4g} G forward, "
        f"{costs.step / 1e9:,.4g} G in a step{again}; of a step of {clips} clips "
        f"{costs.step * clips / 1e12:,.4g} T.",
        f"{plan.steps:,} steps; videos: {videos}.",
    ]


def _memory(plan: Plan) -> list[str]:
    held, used = plan.held, plan.used
    rows = [(name, in_units(size)) for name, size in held._asdict().items()]
    rows[-1] = ("gradients, at once", rows[-1][1])
    lines = ["Bytes of a device, by shapes:", *table(rows, [1])]
    if not math.isfinite(used.total):
        return [*lines, "The compiler says that a step does not fit, and not by how much."]
    rows = [
        ("state and batch", in_units(used.arguments)),
        ("gradients, activations, other temporaries", in_units(used.temporaries)),
        ("outputs and program", in_units(used.outputs + used.program)),
        ("in all", in_units(used.total)),
    ]
    verdict = "fits" if plan.fits else "does NOT fit"
    lines += ["Bytes of a device in a step, by the compiler:", *table(rows, [1])]
    return [*lines, f"It {verdict} into {in_units(plan.room)}."]


def _groups(plan: Plan) -> list[str]:
    if plan.devices == 1:
        return []
    rows = [("parameters", "arrays", "shape", "split by", "a device")] + [
        (group.path, str(group.arrays), "x".join(map(str, group.shape)), group.spec)
        + (in_units(group.device_bytes) + (" whole" if group.whole else ""),)
        for group in plan.groups[:SHOWN]
    ]
    lines = ["What is split, the largest first:", *table(rows, [1])]
    if hidden := plan.groups[SHOWN:]:
        size = sum(group.device_bytes for group in hidden)
        lines.append(f"  and {len(hidden)} groups more, of {in_units(size)} a device.")
    if whole := [group.path for group in plan.groups if group.whole]:
        lines.append(f"Large, and whole on every device: {', '.join(whole)}.")
    return lines


def _sent(plan: Plan) -> list[str]:
    if not plan.traffic:
        return []
    rows = [("collectives", "along", "a step", "over links", "over the network")] + [
        (row.kind, " ".join(row.axes), f"{row.times:,}", in_units(row.links), in_units(row.network))
        for row in plan.traffic
    ]
    lines = ["Bytes that a device sends in a step:", *table(rows, [2, 3, 4])]
    lines.append("The most is of:")
    rows = [
        (in_units(size), kind, " ".join(axes), source.split("/", 1)[-1][-70:])
        for size, kind, axes, source in plan.largest[:3]
    ]
    return lines + table(rows, [0])


def _time(plan: Plan) -> list[str]:
    if not plan.traffic and not plan.fits:
        return []
    seconds = [("products", plan.compute), ("links", plan.links), ("network", plan.network)]
    rows = [(name, f"{1e3 * value:,.4g} ms") for name, value in seconds]
    hours = _hours(plan, plan.fastest), _hours(plan, plan.slowest)
    rate = plan.clips / plan.slowest, plan.clips / plan.fastest
    return [
        f"Time of a step, products at {plan.mfu:.0%} of the peak and bytes at full rate:",
        *table(rows, [1]),
        f"A step takes {_range(plan.fastest, plan.slowest)}, by whether what is sent hides behind "
        f"products or not: {rate[0]:,.4g} to {rate[1]:,.4g} clips a second.",
        f"All {plan.steps:,} steps: {hours[0]:,.4g} to {hours[1]:,.4g} hours, "
        f"{hours[0] * plan.devices:,.4g} to {hours[1] * plan.devices:,.4g} hours of a device; "
        "without evaluation, saving, and waiting for videos.",
    ]


def _hours(plan: Plan, seconds: float) -> float:
    return seconds * plan.steps / 3600


def _range(low: float, high: float) -> str:
    if high < 10:
        return f"{1e3 * low:,.4g} to {1e3 * high:,.4g} ms"
    return f"{duration(low)} to {duration(high)}"
