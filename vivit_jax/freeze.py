"""Which parameters stay as they are, by patterns of their paths.

A pattern is a regular expression of a whole path, as in fitting_rules.py: "encoder/space/.*". One
after "!" takes back what those before it froze, so the last that matches a path decides:

    ("encoder/.*", "!encoder/time/.*")     all of the encoder but its stack over time
    ("space",)                             a row of NAMED

What is frozen has no gradient and no place in the optimiser's state; see train_step.py. So it is
with the statistics of a frozen batch norm, whatever the patterns are.
"""

import difflib
import re
from collections.abc import Collection, Sequence

from vivit_jax.errors import InputError

NAMED = {
    # With the tubelets, as nothing below the stack over time is then differentiated at all.
    "space": ("encoder/(tubelets|space)/.*",),
    # The model that sees each frame alone (models/frame_models.py).
    "frames": ("encoder/frames/.*",),
    # What fine-tuning brings along is learnt as well: an adapter, the summary's norm, the head.
    "all_but_lora": (r"encoder/(?!adapter/|\w+/summary_norm/).*", r"!.*/lora_[ab]"),
}
NEVER_LEARNT = re.compile(r".*/running_(mean|var)")
NEAR = 4  # paths that a message shows


def frozen_of(patterns: Sequence[str], paths: Collection[str]) -> frozenset[str]:
    """Returns the paths of the parameters that are frozen.

    Args:
      patterns: config.optim.freeze.
      paths: of all parameters.

    Raises:
      InputError: a pattern is none, or matches no path, or nothing is left to learn.
    """
    found: set[str] = set()
    for given in patterns:
        for pattern in NAMED.get(given, (given,)):
            matched = matching(pattern.removeprefix("!"), paths, given)
            if pattern.startswith("!"):
                found -= matched
            else:
                found |= matched
    found |= {path for path in paths if NEVER_LEARNT.fullmatch(path)}
    if patterns and len(found) == len(paths):
        raise InputError(
            f"config.optim.freeze = {tuple(patterns)} freezes all {len(paths)} parameters; "
            f"expected some to be left, such as {', '.join(sorted(paths)[-NEAR:])}."
        )
    return frozenset(found)


def matching(pattern: str, paths: Collection[str], given: str) -> set[str]:
    """Returns the paths that a pattern matches.

    Args:
      pattern: without "!".
      paths: to choose from.
      given: what it was written as, for messages.

    Raises:
      InputError: it is no pattern, or matches none.
    """
    named = f", for {given!r}," if given in NAMED else ""
    try:
        matched = {path for path in paths if re.fullmatch(pattern, path)}
    except re.error as error:
        raise InputError(
            f"config.optim.freeze: {pattern!r} is no regular expression ({error}); expected one of "
            f"a whole path, or a name: {', '.join(NAMED)}."
        ) from error
    if not matched:
        kinds = sorted({re.sub(r"block_\d+", "block_0", path) for path in paths} & set(paths))
        near = difflib.get_close_matches(pattern, kinds, n=NEAR, cutoff=0)
        hint = " LoRA is switched on by config.model.lora_rank." if "lora" in pattern else ""
        raise InputError(
            f"config.optim.freeze: {pattern!r}{named} matches no parameter; expected a regular "
            f"expression of whole paths, such as {', '.join(near)}; or a name: "
            f"{', '.join(NAMED)}.{hint}"
        )
    return matched
