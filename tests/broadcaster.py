"""Sends a video as a stream, in real time: `python tests/broadcaster.py URL VIDEO [STALL]`.

With STALL it sends no more after so many seconds, and keeps the connection.
"""

import sys
import time

import av
from av.video.stream import VideoStream


def main(url: str, video: str, stall: str = "inf") -> None:
    """Sends every packet of the video when its time has come."""
    with av.open(video) as source, av.open(url, "w", format="mpegts") as sink:
        stream = source.streams.video[0]
        made = sink.add_stream_from_template(stream)
        assert isinstance(made, VideoStream)
        begin = time.monotonic()
        for packet in source.demux(stream):
            if packet.dts is None:
                continue
            seconds = float(packet.dts * stream.time_base)  # type: ignore[operator]
            if seconds > float(stall):
                time.sleep(3600)
            time.sleep(max(0.0, begin + seconds - time.monotonic()))
            packet.stream = made
            sink.mux(packet)


if __name__ == "__main__":
    main(*sys.argv[1:])
