"""A file that lacks bytes that it promises is known by its first ones, or its index."""

import io
from typing import NamedTuple

import pytest

from vivit_jax.data.container import DecodeError, open_movie
from vivit_jax.data.promised import lost_bytes


class Entry(NamedTuple):
    pos: int
    size: int


def lost(content: bytes, *index: Entry) -> int:
    file = io.BytesIO(content)
    file.seek(3)
    found, _ = lost_bytes(file, index)
    assert file.tell() == 3
    return found


def segment(size: bytes, content: bytes) -> bytes:
    return b"\x1a\x45\xdf\xa3\x84webm\x18\x53\x80\x67" + size + content


@pytest.mark.parametrize(
    ("content", "missing"),
    [
        (b"RIFF" + (1000).to_bytes(4, "little") + b"AVI " + bytes(996), 0),
        (b"RIFF" + (1000).to_bytes(4, "little") + b"AVI " + bytes(496), 500),
        (b"RIFF" + bytes(4) + b"AVI " + bytes(10), 0),  # the writer was stopped, and never said
        (b"RIFF" + (1000).to_bytes(4, "little") + b"WAVE", 0),
        (segment(b"\x43\xe8", bytes(1000)), 0),
        (segment(b"\x43\xe8", bytes(600)), 400),
        (segment(b"\x01" + (1000).to_bytes(7), bytes(600)), 400),
        (segment(b"\x01" + b"\xff" * 7, bytes(600)), 0),  # unknown, as a live stream's
        (segment(b"\x43\xe8", bytes(995)), 0),  # less than 1 %: some writers miscount
        (segment(b"", b""), 0),
        (b"\x1a\x45\xdf\xa3", 0),
        (b"no video at all", 0),
        (b"", 0),
    ],
)
def test_what_is_missing_by_the_first_bytes(content, missing):
    assert lost(content) == missing


def test_what_is_missing_by_the_index():
    assert lost(bytes(900), Entry(0, 500), Entry(500, 500)) == 100
    assert lost(bytes(1000), Entry(0, 500), Entry(500, 500)) == 0


@pytest.mark.parametrize("name", ["plain", "long_gop", "mpeg4_avi", "vp9", "uneven", "late"])
def test_a_whole_file_lacks_nothing_and_a_cut_one_is_refused(name, videos):
    content = videos[name].read_bytes()
    with open_movie(content) as movie:
        movie.refuse_cut()
    if name not in ("plain", "uneven", "late"):  # an MP4 with its index at the end is no video then
        with open_movie(content[: len(content) * 3 // 4]) as movie, pytest.raises(DecodeError) as e:
            movie.refuse_cut()
        assert e.value.cause == "truncated"


def test_no_real_clip_lacks_bytes(real_clips):
    for path in real_clips:
        if path.parent.name != "odd":
            with open_movie(path) as movie:
                movie.refuse_cut()
