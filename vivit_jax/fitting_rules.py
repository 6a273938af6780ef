"""Tables of what has another name in another encoder, or no counterpart there, and why.

An image model's class token goes with its blocks to the space of a factorised encoder, for they
were trained to read it out. ViViT's published code leaves a zero there.
"""

import re
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

Paths = Collection[str]
OF_FRAMES = {"frames", "tubelets"}  # parts that see pixels


def has(paths: Paths, part: str) -> bool:
    """Returns whether a path has a part, such as "time"."""
    return any(part in path.split("/") for path in paths)


def gains_time(source: Paths, target: Paths) -> bool:
    """Returns whether blocks had one attention step, and now have time's before it."""
    return has(target, "attention_1") and not has(source, "attention_1")


class Rule(NamedTuple):
    """Explains a parameter.

    Attributes:
      pattern: of its whole path.
      why: in words; for RENAMED, what its path becomes.
      holds: given the paths of the source and of the target, whether the rule is for them.
    """

    pattern: str
    why: str
    holds: Callable[[Paths, Paths], bool] = lambda source, target: True


RENAMED = (  # of the source
    Rule(r"(encoder)/blocks/(.+)", r"\1/space/\2", lambda _, target: has(target, "space")),
    Rule(
        r"encoder/(tubelets|space)/(.+)",
        r"encoder/frames/\1/\2",
        lambda _, target: has(target, "frames"),
    ),
    Rule(r"(.+/attention_(?:norm_)?)0(/.+)", r"\g<1>1\2", gains_time),
    Rule(
        r"(encoder/\w+)/position",
        r"\1/position_space",
        lambda _, target: has(target, "position_space"),
    ),
)
FRESH = (  # of the target
    Rule(r"(?!encoder/).+", "this objective's own"),
    Rule(r"encoder/\w+/summary_norm/\w+", "the norm of the summary is fine-tuning's own"),
    Rule(
        r"encoder/time/.+",
        "the source has no stack over time",
        lambda source, _: not has(source, "time"),
    ),
    Rule(
        r"encoder/frames/.+",
        "the source has nothing that sees frames",
        lambda source, _: not {part for path in source for part in path.split("/")} & OF_FRAMES,
    ),
    Rule(
        r"encoder/embed/.+",
        "frames and time have widths of their own",
        lambda source, _: not has(source, "embed"),
    ),
    Rule(r"encoder/(\w+/)?\w+/class_token", "the source has no class token"),
    Rule(
        r"encoder/\w+/position_time",
        "the source has no positions of slots alone",
        lambda source, _: not has(source, "position_time"),
    ),
    Rule(
        r"encoder/.+/lora_[ab]",
        "LoRA starts as no change",
        lambda source, _: not has(source, "lora_a"),
    ),
    Rule(
        r"encoder/adapter/.+",
        "the adapter starts as the identity",
        lambda source, _: not has(source, "adapter"),
    ),
    Rule(
        r".+/(attention_0|attention_norm_0|zero_dense)/.+",
        "the source has no attention over time alone",
        gains_time,
    ),
)
DROPPED = (  # of the source
    Rule(r"(?!encoder/).+", "its objective's own"),
    Rule(
        r"encoder/\w+/norm/\w+",
        "the norm of the summary stands in its place",
        lambda _, target: has(target, "summary_norm"),
    ),
    Rule(r"encoder/(\w+/)?\w+/class_token", "this encoder has no class token"),
)


def held(rules: Sequence[Rule], source: Paths, target: Paths) -> list[Rule]:
    """Returns the rules that are for this source and this target."""
    return [rule for rule in rules if rule.holds(source, target)]


def renamed(path: str, rules: Sequence[Rule]) -> str:
    """Returns what a path of the source is called in the target."""
    for rule in rules:
        path = re.sub(f"^{rule.pattern}$", rule.why, path)
    return path


def explanation(path: str, rules: Sequence[Rule]) -> str:
    """Returns why a path has no counterpart, by the first rule that tells; "" for none."""
    return next((rule.why for rule in rules if re.fullmatch(rule.pattern, path)), "")
