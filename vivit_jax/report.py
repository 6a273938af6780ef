"""Makes a page to look at of one run or of several: curves, results, classes, videos that play.

    python -m vivit_jax.report RUN... --out report.html

The page is one file: it needs no network, and its own policy forbids it any. RUN is a workdir,
of a run that still goes on, too; what it has not got yet is said in the page. Exit codes: 0 the
page is written, 2 something that was given cannot be used.
"""

import datetime
import pathlib
import sys
import time

from vivit_jax.errors import InputError
from vivit_jax.files import replacing
from vivit_jax.terminal import command_parser, run, speak

VIDEOS = 8  # of the best, and of the worst
LIMIT = 10_000_000  # bytes of a page, about
_FILMS = 0.6  # share of them for films, whose text form takes a third more


def main() -> int:
    """Runs the command; returns its exit code."""
    parser = command_parser("vivit_jax.report", __doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="the workdir of a run")
    parser.add_argument("--out", default="report.html", help="the page; report.html")
    parser.add_argument(
        "--videos", type=int, default=VIDEOS, help=f"best and worst videos of a run; {VIDEOS} each"
    )
    parser.add_argument(
        "--no-attention", action="store_true", help="do not run the models to see where they looked"
    )
    given = parser.parse_args()
    if given.videos < 0:
        parser.error(f"--videos is {given.videos}; expected at least 0")
    speak(True)
    started, out = time.perf_counter(), pathlib.Path(given.out)
    if out.is_dir():
        raise InputError(f"--out={out} is a folder; expected the name of a page, as report.html.")
    page = make(
        list(map(pathlib.Path, given.runs)), given.videos, attention=not given.no_attention
    ).encode()
    try:
        with replacing(out) as new:
            new.write_bytes(page)
    except OSError as error:
        raise InputError(f"--out={out} cannot be written: {error}.") from error
    seconds = time.perf_counter() - started
    print(f"{out}: {len(page) / 1e6:.2f} MB, made in {seconds:.1f} s")
    return 0


def make(workdirs: list[pathlib.Path], videos: int = VIDEOS, attention: bool = True) -> str:
    """Returns the page of some runs.

    Args:
      workdirs: of the runs.
      videos: of the best, and of the worst, of each run.
      attention: whether where the model looked stands beside them; the model is run for it.

    Raises:
      InputError: one is no workdir of a run.
    """
    from vivit_jax.page.document import Told, render
    from vivit_jax.page.health import read_doctor
    from vivit_jax.page.judged import intervals, read_judged
    from vivit_jax.page.runs import read_runs
    from vivit_jax.page.videos import pictures, reconstructions

    attend = None
    if attention:
        from vivit_jax.page.attention import attend

    told, runs = [], read_runs(workdirs)
    for one in runs:
        judged, most = read_judged(one), int(_FILMS * LIMIT / len(runs))
        filled = reconstructions(one.evaluation, most // 2)
        most -= sum(len(data) for _, data in filled)
        films = pictures(one, judged, videos, most, attend) if judged and videos else None
        found = intervals(judged) if judged else {}
        told.append(Told(one, judged, found, films, filled, read_doctor(one)))
    now = datetime.datetime.now().astimezone()
    return render(told, f"{now:%d %B %Y, %H:%M %Z}")


if __name__ == "__main__":
    sys.exit(run(main))
