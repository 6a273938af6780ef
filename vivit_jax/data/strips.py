"""A few frames of a video side by side, for the doctor's page; made in a worker process."""

import itertools
from fractions import Fraction

import av
import numpy as np
from av.codec import CodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter

from vivit_jax.data.container import open_movie
from vivit_jax.data.examine import Tally, demux
from vivit_jax.data.scale import quarter_turns

_FRAMES = 4  # frames of a strip
_HEIGHT = 72  # pixels


def strip(video: str | bytes, frames: int) -> bytes:
    """Returns a JPEG of a few frames of a video, from its first to its last; b"" if none comes.

    Args:
      video: of which only part may be readable.
      frames: that came out of it when it was examined.
    """
    wanted = set(np.linspace(0, max(0, frames - 1), _FRAMES).round().astype(int).tolist())
    with open_movie(video) as movie:
        tally, number, pictures, scaler = Tally(movie), 0, [], VideoReformatter()
        for packet in itertools.chain(demux(movie, tally, ()), [None]):
            for frame in tally.decode(packet):
                if number in wanted:
                    pictures.append(_small(frame, scaler, movie.pixel_width))
                number += 1
    if not pictures:
        return b""
    same = [picture for picture in pictures if picture.shape == pictures[0].shape]
    gap = np.full((len(same[0]), 2, 3), 255, np.uint8)
    return _jpeg(np.concatenate([part for picture in same for part in (picture, gap)][:-1], axis=1))


def _small(frame: VideoFrame, scaler: VideoReformatter, pixel_width: float) -> np.ndarray:
    """Returns a frame, upright and low: uint8 [_HEIGHT w 3]."""
    turns = quarter_turns(frame)
    wide = frame.width * pixel_width / frame.height
    shape = [_HEIGHT, round(_HEIGHT * min(max(wide, 0.25), 4.0))]
    if turns % 2:
        shape = [round(_HEIGHT * min(max(1 / wide, 0.25), 4.0)), _HEIGHT]
    small = scaler.reformat(frame, shape[1], shape[0], "rgb24", threads=1)
    return np.rot90(small.to_ndarray(), turns)


def _jpeg(picture: np.ndarray) -> bytes:
    """Returns a picture, uint8 [h w 3], as a JPEG file."""
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), "rgb24")
    encoder = CodecContext.create("mjpeg", "w")
    assert isinstance(encoder, VideoCodecContext)
    encoder.width, encoder.height, encoder.pix_fmt = frame.width, frame.height, "yuvj420p"
    encoder.time_base = Fraction(1)
    encoder.options = {"qmin": "4", "qmax": "4"}
    packets = encoder.encode(frame.reformat(format="yuvj420p")) + encoder.encode(None)
    return b"".join(bytes(packet) for packet in packets)
