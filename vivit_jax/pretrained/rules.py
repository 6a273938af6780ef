"""Tables of names: the parameters of a published file as ours, and ours as theirs.

A rule names one parameter of theirs and what it becomes here; `{i}` stands for the number of a
block on both sides. How the one lies in the other is a pattern of einops, read from left to right
on import and from right to left on export, so that nothing is said twice and both are exact:

    Rule("layer.{i}.query.weight", "blocks/block_{i}/attention_0/query/kernel", "(h k) d -> d h k")

Where one of theirs is several of ours (a fused projection; all blocks of a scan), these lie along
the first axis of the pattern's right side. Nothing passes in silence: whatever is left over on
either side, comes twice or has another shape is an error that lists it.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from einops import rearrange

from vivit_jax.errors import InputError
from vivit_jax.fitting import grouped

Arrays = Mapping[str, np.ndarray]
Shapes = Mapping[str, tuple[int, ...]]


class Rule(NamedTuple):
    """Where a parameter goes.

    Attributes:
      theirs: its name in the file.
      ours: its path here, or several.
      layout: pattern of einops from theirs to ours; "" for what lies alike.
    """

    theirs: str
    ours: str | tuple[str, ...]
    layout: str = ""

    @property
    def targets(self) -> tuple[str, ...]:
        """Our paths, of which there may be one."""
        return (self.ours,) if isinstance(self.ours, str) else self.ours

    @property
    def stacks(self) -> bool:
        """Whether one of theirs holds all blocks, and ours are apart."""
        return "{i}" in self.targets[0] and "{i}" not in self.theirs


class Left(NamedTuple):
    """Parameters of a file that have no place here, by the pattern of their whole name."""

    pattern: str
    why: str


def norm(theirs: str, ours: str) -> list[Rule]:
    """Returns the rules of a layer norm of PyTorch's."""
    return [Rule(f"{theirs}.weight", f"{ours}/scale"), Rule(f"{theirs}.bias", f"{ours}/bias")]


def dense(theirs: str, ours: str, bias: bool = True) -> list[Rule]:
    """Returns the rules of a linear layer of PyTorch's."""
    rules = [Rule(f"{theirs}.weight", f"{ours}/kernel", "o i -> i o")]
    return [*rules, Rule(f"{theirs}.bias", f"{ours}/bias")] if bias else rules


def tubelets(theirs: str, frames: bool = True) -> list[Rule]:
    """Returns the rules of PyTorch's convolution over clips, or over one frame at a time."""
    layout = "d c f r w -> f r w c d" if frames else "d c r w -> 1 r w c d"
    return [
        Rule(f"{theirs}.weight", "encoder/tubelets/kernel", layout),
        Rule(f"{theirs}.bias", "encoder/tubelets/bias"),
    ]


def to_heads(theirs: str, ours: str, bias: bool = True, heads: str = "h") -> list[Rule]:
    """Returns the rules of a linear layer whose outputs are `heads` heads."""
    rules = [Rule(f"{theirs}.weight", f"{ours}/kernel", f"({heads} k) d -> d {heads} k")]
    layout = f"({heads} k) -> {heads} k"
    return [*rules, Rule(f"{theirs}.bias", f"{ours}/bias", layout)] if bias else rules


def from_heads(theirs: str, ours: str, heads: str = "h") -> list[Rule]:
    """Returns the rules of a linear layer whose inputs are `heads` heads."""
    layout = f"d ({heads} k) -> {heads} k d"
    return [
        Rule(f"{theirs}.weight", f"{ours}/kernel", layout),
        Rule(f"{theirs}.bias", f"{ours}/bias"),
    ]


def fused(theirs: str, ours: str, bias: bool = True, heads: str = "h") -> list[Rule]:
    """Returns the rules of one linear layer that gives queries, keys and values."""
    kernels, biases = (
        tuple(f"{ours}/{part}/{name}" for part in ("query", "key", "value"))
        for name in ("kernel", "bias")
    )
    rules = [Rule(f"{theirs}.weight", kernels, f"(n {heads} k) d -> n d {heads} k")]
    layout = f"(n {heads} k) -> n {heads} k"
    return [*rules, Rule(f"{theirs}.bias", biases, layout)] if bias else rules


def renamed(name: str, patterns: Sequence[tuple[str, str]]) -> str:
    """Returns a name as the tables have it, by patterns of other versions' names."""
    for pattern, ours in patterns:
        name = re.sub(pattern, ours, name)
    return name


def to_ours(
    rules: Sequence[Rule],
    arrays: Arrays,
    shapes: Shapes,
    sizes: Mapping[str, int],
    left: Sequence[Left] = (),
    where: str = "the file",
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Returns parameters by our paths, and an account of what has no place here.

    Args:
      rules: the table.
      arrays: of the file, by their names.
      shapes: of all parameters that are wanted, by our paths.
      sizes: lengths of axes in the layouts that the arrays do not tell, such as "h" for heads.
      left: what may be left over.
      where: the arrays are from, for messages.

    Raises:
      InputError: lists whatever is left over on either side, comes twice or has another shape.
    """
    sizes = {"n": 3, **sizes}  # queries, keys and values
    params: dict[str, np.ndarray] = {}
    left_over: dict[str, list[str]] = {}
    faults = []
    for name, array in arrays.items():
        found = [(rule, i) for rule in rules for i in _number(rule.theirs, name)]
        if not found:
            why = next((row.why for row in left if re.fullmatch(row.pattern, name)), "")
            if why:
                left_over.setdefault(why, []).append(name)
            else:
                faults.append(("unknown", name, str(array.shape)))
        for rule, i in found:
            for path, value in _laid(rule, i, array, sizes):
                if path not in shapes:
                    faults.append(("unknown", name, f"would be {path}, which this model lacks"))
                elif path in params:
                    faults.append(("twice", name, f"is {path}, which another name gave"))
                elif value.shape != shapes[path]:
                    what = f"{array.shape} becomes {value.shape}; {path} is {shapes[path]}"
                    faults.append(("shape", name, what))
                params[path] = value
    faults += [("missing", p, f"{shapes[p]}") for p in shapes if p not in params]
    if faults:
        lines = "\n".join(grouped(faults))
        raise InputError(f"{where} is not what was expected of it:\n{lines}")
    rows = [
        ("left", f"{name} and {len(others)} more" if others else name, why)
        for why, (name, *others) in left_over.items()
    ]
    return params, grouped(rows)


def to_theirs(rules: Sequence[Rule], params: Arrays, where: str) -> dict[str, np.ndarray]:
    """Returns parameters by their names: `to_ours` undone.

    Args:
      rules: the table.
      params: by our paths.
      where: they go, for messages.

    Raises:
      InputError: lists the parameters that the format has no name for, and names without any.
    """
    arrays, used = {}, set()
    for rule in rules:
        numbers = sorted(i for path in params for i in _number(rule.targets[0], path))
        if rule.stacks:
            paths = [target.format(i=i) for i in numbers for target in rule.targets]
            jobs = [(rule.theirs, paths)] if paths else []
        else:
            jobs = [
                (rule.theirs.format(i=i), [target.format(i=i) for target in rule.targets])
                for i in numbers
            ]
        for name, paths in jobs:
            missing = [path for path in paths if path not in params]
            if missing:
                raise InputError(f"{where} wants {', '.join(missing)} for {name}; there is none.")
            parts = [params[path] for path in paths]
            value = np.stack(parts) if len(rule.targets) > 1 or rule.stacks else parts[0]
            if rule.layout:
                ours, theirs = reversed(rule.layout.split("->"))
                value = rearrange(value, f"{ours}->{theirs}")
            arrays[name] = np.ascontiguousarray(value)
            used.update(paths)
    if over := [path for path in params if path not in used]:
        raise InputError(f"{where} has no name for {', '.join(over)}.")
    return arrays


def _number(pattern: str, name: str) -> list[int]:
    """Returns the number that a name has by a pattern (0 where that has none), or nothing."""
    expression = re.escape(pattern).replace(r"\{i\}", "([0-9]+)", 1).replace(r"\{i\}", r"\1")
    match = re.fullmatch(expression, name)
    return [] if match is None else [int(match[1]) if match.groups() else 0]


def _laid(
    rule: Rule, i: int, array: np.ndarray, sizes: Mapping[str, int]
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields what an array becomes: our paths and values."""
    value, targets = array.astype(np.float32, copy=False), rule.targets
    if rule.layout:
        known = {k: size for k, size in sizes.items() if re.search(rf"\b{k}\b", rule.layout)}
        try:
            value = rearrange(value, rule.layout, **known)
        except Exception:  # einops has no class of its own for shapes that do not fit
            # As it lies, so that the message tells both shapes.
            value, targets = array, targets[:1]
    if rule.stacks:
        yield from ((targets[0].format(i=number), part) for number, part in enumerate(value))
    elif len(targets) > 1:
        yield from ((path.format(i=i), part) for path, part in zip(targets, value, strict=True))
    else:
        yield from ((path.format(i=i), value) for path in targets)
