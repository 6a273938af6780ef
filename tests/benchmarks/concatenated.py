"""Writes one long video: those of a folder, one after another, again and again.

    python tests/benchmarks/concatenated.py ../shared/clips long.mp4 --minutes 60

Pictures are made 320x240, at 25 frames a second of each video's own time; what cannot be read is
left out. LONG.json beside it tells which video lies where: [{"video", "begin", "end"}, ...]. They
are encoded once: further rounds are the same packets, later.
"""

import argparse
import fractions
import itertools
import json
import pathlib
import tempfile

import av
import av.error
from av.video.stream import VideoStream

from vivit_jax.data.lists import VIDEO_EXTENSIONS

FPS, WIDTH, HEIGHT = 25, 320, 240
GAP = 1.0  # seconds between two frames, above which time stamps are not believed


def frames_of(path: pathlib.Path):
    """Yields a video's frames at FPS by its own time; ends where it cannot be read on."""
    shown, before, skipped = 0, 0.0, 0.0
    try:
        with av.open(str(path)) as video:
            for frame in video.decode(video=0):
                time = frame.time  # which whoever is given the frame may change
                if time is None:
                    continue
                if not 0 <= time - before <= GAP:
                    skipped += time - before
                before = time
                while shown <= (time - skipped) * FPS:
                    yield frame
                    shown += 1
    except (av.error.FFmpegError, IndexError):
        return


def encode(paths: list[pathlib.Path], file: pathlib.Path) -> list[tuple[str, int, int]]:
    """Writes one round; returns the first frame and the one after the last of each video."""
    count, told = 0, []
    with av.open(str(file), "w") as made:
        options = {"preset": "ultrafast", "crf": "28", "bf": "0"}
        stream = made.add_stream("libx264", rate=FPS, options=options)
        assert isinstance(stream, VideoStream)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for path in paths:
            first = count
            for frame in frames_of(path):
                picture = frame.reformat(WIDTH, HEIGHT, "yuv420p")
                picture.pts, picture.time_base = count, fractions.Fraction(1, FPS)
                made.mux(stream.encode(picture))
                count += 1
            if count > first:
                told.append((path.name, first, count))
        made.mux(stream.encode(None))
    return told


def repeat(file: pathlib.Path, out: pathlib.Path, frames: int, most: int) -> None:
    """Writes a video of so many frames again and again, up to `most` frames."""
    with av.open(str(out), "w") as made:
        added = None
        for turn in itertools.count():
            with av.open(str(file)) as video:
                stream = video.streams.video[0]
                added = added or made.add_stream_from_template(stream)
                ticks = round(1 / (FPS * stream.time_base))
                for number, packet in enumerate(p for p in video.demux(stream) if p.size):
                    if turn * frames + number >= most:
                        return
                    packet.pts = packet.dts = (turn * frames + number) * ticks
                    packet.stream = added
                    made.mux(packet)


def main() -> None:
    """Runs the command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--minutes", type=float, default=60)
    given = parser.parse_args()
    paths = [p for p in sorted(given.folder.iterdir()) if p.suffix.lower() in VIDEO_EXTENSIONS]
    most = round(given.minutes * 60 * FPS)
    with tempfile.TemporaryDirectory() as folder:
        once = pathlib.Path(folder) / "once.mp4"
        told = encode(paths, once)
        frames = told[-1][2]
        repeat(once, given.out, frames, most)
    rows = [
        {"video": name, "begin": (turn + first) / FPS, "end": min(turn + end, most) / FPS}
        for turn in range(0, most, frames)
        for name, first, end in told
        if turn + first < most
    ]
    given.out.with_suffix(".json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
