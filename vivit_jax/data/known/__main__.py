"""Tells of a known data set: where it is to be had, how it lies on disk, and what of it is there.

    python -m vivit_jax.data.known                          # which there are
    python -m vivit_jax.data.known NAME                     # where to get it, layout, counts
    python -m vivit_jax.data.known NAME --root DIR          # is it all there?

Nothing is downloaded, and no network is asked. Exit codes: 0 told, 2 what is in DIR cannot be used.
"""

import pathlib
import sys

from vivit_jax import config
from vivit_jax.data.known import KNOWN
from vivit_jax.data.known.kind import Known
from vivit_jax.data.known.opening import check
from vivit_jax.data.known.survey import PARTS, WORDS, locate, survey, survey_folders
from vivit_jax.data.published import DATA_SETS
from vivit_jax.errors import InputError
from vivit_jax.options import choose
from vivit_jax.terminal import command_parser, run, speak


def main() -> int:
    """Runs the command; returns its exit code."""
    parser = command_parser("vivit_jax.data.known", __doc__)
    parser.add_argument("name", nargs="?", default="", help=f"one of {', '.join(KNOWN)}")
    parser.add_argument("--root", metavar="DIR", help="where it should be: looks what is there")
    parser.add_argument("--follow-links", action="store_true", help="links may leave the folder")
    parser.add_argument("--split", type=int, default=1, help="of UCF101 and HMDB51: 1, 2 or 3")
    parser.add_argument("--train-list", default="", metavar="FILE", help="as data.train_list")
    parser.add_argument("--eval-list", default="", metavar="FILE", help="as data.eval_list")
    parser.add_argument(
        "--missing", metavar="FILE", help="writes the names of missing videos there"
    )
    given = parser.parse_args()
    if not given.name:
        print("\n".join(f"{known.name:24}{known.title}" for known in KNOWN.values()))
        return 0
    choose("The data set", given.name, KNOWN)
    known = KNOWN[given.name]
    if given.root is None:
        print(describe(known))
        return 0
    speak(first_process=True)
    data = config.Data(
        known.name,
        given.root,
        train_list=given.train_list,
        eval_list=given.eval_list,
        labels=known.labels,
        split=given.split,
        follow_links=given.follow_links,
    )
    return look(known, data, pathlib.Path(given.missing) if given.missing else None)


def describe(known: Known) -> str:
    """Returns what is to be known of a data set before it is there."""
    about = DATA_SETS[known.name]
    classes = " and ".join(f"{count:,}" for count in about.classes) or "none"
    versions = "split" if known.splits > 1 else "version of its files"
    lines = [
        f"{known.title}   --config.data.dataset={known.name} --config.data.root=DIR",
        f"from      {known.home}",
        f"terms     {known.terms}",
        f"labels    {known.labels}; classes: {classes}",
        f"judged    {known.judged}",
    ]
    for i, (train, held_out) in enumerate(about.parts, start=1):
        which = f" ({versions} {i})" if len(about.parts) > 1 else ""
        lines.append(f"videos    {train:,} for training, {held_out:,} held out{which}")
    if known.directional:
        lines.append("flips     off: a label can mean a direction")
    return "\n".join([*lines, known.layout])


def look(known: Known, data: config.Data, missing: pathlib.Path | None) -> int:
    """Prints what of a data set is there; returns the exit code.

    Args:
      known: which.
      data: where, and which split.
      missing: a file for the names of the videos that are not there, a line each.

    Raises:
      InputError: nothing that can be used is there.
    """
    check(known, data)
    if known.train is None:
        raise InputError(f"{known.title} has no annotations to look for videos by.")
    files = locate(known, data)
    found = survey(known, data, files) if files else survey_folders(known, data)
    if found is None:
        raise InputError(f"There are no annotation files below {data.root}:\n{describe(known)}")
    maps, parts = found
    print(f"{known.title}: {' and '.join(str(len(names)) for names in maps)} classes")
    lost = []
    for name, part in zip(PARTS, parts, strict=True):
        told = part.file or "folders of classes"
        print(f"  {WORDS[name]:9} {len(part.found):,} of {len(part.matches):,} videos ({told})")
        shared = sum(match.shared for match in part.missing)
        if shared:
            print(f"  {'':9} {shared:,} of the others have a file that could be another row's")
        lost += [match.clip.id or match.clip.stems[0] for match in part.missing]
    if lost:
        print(f"  missing   {len(lost):,}, such as {', '.join(lost[:5])}")
    if missing:
        text = "".join(f"{name}\n" for name in lost)
        try:
            missing.write_text(text, encoding="utf-8", errors="surrogateescape")
        except OSError as error:
            raise InputError(
                f"--missing={missing} cannot be written ({error.strerror})."
            ) from error
    return 0


if __name__ == "__main__":
    sys.exit(run(main))
