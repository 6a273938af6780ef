"""A stream is judged while it runs; who is too slow misses windows, and is told how many."""

import contextlib
import functools
import http.server
import json
import multiprocessing
import os
import pathlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time

import av
import numpy as np
import pytest
from data.conftest import write_video

from vivit_jax import predict
from vivit_jax.data import live_source, windows
from vivit_jax.data.clips import Moments
from vivit_jax.data.decode import read_views
from vivit_jax.data.geometry import Geometry
from vivit_jax.data.live import Stream, check
from vivit_jax.data.live_source import HEAD, Head, Kind, Settings, opened
from vivit_jax.data.pacing import Pace, Picker
from vivit_jax.errors import InputError
from vivit_jax.watching import Watcher

ROOT = pathlib.Path(__file__).parents[1]
SMALL = Geometry(16, test_crops=1)
EACH = windows.Rate(stride=1)


def seen(stream, pause=0.0):
    """Returns all windows of a stream."""
    found = []
    with stream:
        while not stream.over:
            window = stream.newest(5.0)
            if window:
                found.append(window)
                time.sleep(pause)
    return found


@pytest.fixture(scope="module")
def video(tmp_path_factory):
    frames = np.random.default_rng(0).integers(0, 256, (24, 48, 64, 3), np.uint8)
    path = tmp_path_factory.mktemp("live") / "noise.mp4"
    options = {"g": "6", "qp": "4", "bf": "0"}  # frames that come late come together
    return write_video(path, 24, texture=frames.__getitem__, options=options)


@pytest.fixture(scope="module")
def video_30(tmp_path_factory):
    frames = np.random.default_rng(1).integers(0, 256, (90, 48, 64, 3), np.uint8)
    path = tmp_path_factory.mktemp("live") / "noise.mp4"
    return write_video(path, 90, fps=30, texture=frames.__getitem__)


@pytest.fixture
def address():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"tcp://127.0.0.1:{probe.getsockname()[1]}"


@contextlib.contextmanager
def broadcast(address, video, *stall):
    """Runs a process that sends a video to who connects; returns when it listens."""
    given = [f"{address}?listen=1", str(video), *map(str, stall)]
    process = subprocess.Popen([sys.executable, str(ROOT / "tests/broadcaster.py"), *given])
    try:
        time.sleep(3.0)  # it takes one connection alone, so that none can be made to see
        yield
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def command(command_of):
    return command_of(predict)


def test_windows_of_a_file_that_is_played_are_those_of_the_file_in_its_own_time(video):
    begin = time.monotonic()
    stream = Stream(str(video), [], 4, EACH, SMALL, hop=0.2)
    found = seen(stream)
    assert time.monotonic() - begin > 2.0  # the last of 24 frames is shown at 2.3 s
    with Watcher(4, EACH, SMALL, hop=0.2, workers=1) as watcher:
        watched = watcher.watch(str(video), lambda clips: clips[:, 0])
    for one in found:  # on a machine that has much to do, not all
        number = round(one.begin / 0.2)
        assert one.begin == pytest.approx(watched.spans[number, 0])
        np.testing.assert_array_equal(one.pixels[0], watched.rows[number])
    counts = stream.counts
    assert counts.windows == len(found) > 5
    assert (counts.windows + counts.windows_dropped, counts.frames) == (11, 24)
    assert stream.failure is None


def test_who_is_too_slow_sees_the_newest_and_knows_what_was_missed(video):
    stream = Stream(str(video), [], 4, EACH, SMALL, hop=0.2)
    found = seen(stream, pause=0.9)
    counts = stream.counts
    assert counts.windows == len(found) < 6
    assert counts.windows + counts.windows_dropped == 11
    assert 0 < counts.frames_dropped < 24
    assert found[-1].end == pytest.approx(2.4)


def test_a_stream_over_tcp_is_judged_window_by_window_to_its_end(command, video, address):
    with broadcast(address, video):
        code, (out, _) = command("--live", address, "--allow", "tcp", "--json", "--top", 1)
    assert code == 0
    *lines, last = map(json.loads, out.splitlines())
    assert {round(one["begin"] / 0.4, 2) for one in lines} <= set(range(6))
    assert len(lines) + last["summary"]["windows_dropped"] == 6
    assert all(one["top"][0]["label"] in ("a", "b") for one in lines)
    assert all(0 < one["latency_ms"] < 60_000 for one in lines)
    assert last["summary"]["latency_ms_median"] <= last["summary"]["latency_ms_p95"]


@pytest.mark.slow
def test_a_stream_that_falls_silent_breaks_off(command, video, address):
    with broadcast(address, video, 1.0):
        code, (out, _) = command(
            *("--live", address, "--allow", "tcp", "--json", "--patience", "1.5")
        )
    assert code == 1
    error = json.loads(out.splitlines()[-1])["summary"]["error"]
    assert error == {
        "cause": "broken_off",
        "message": "the stream breaks off: nothing came for 1.5 s",
    }


@pytest.mark.slow
@pytest.mark.parametrize("written", [None, b"no video"])
def test_a_named_pipe_that_nobody_writes_into_breaks_off(tmp_path, written):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = None if written is None else os.open(pipe, os.O_RDWR)  # who waits for no reader
    if writer is not None:
        os.write(writer, written or b"")
    stream = Stream(str(pipe), [], 4, EACH, SMALL, patience=0.5)
    try:
        with stream:
            command = pathlib.Path(f"/proc/{stream._process.pid}/cmdline").read_bytes()
            assert str(pipe).encode() not in command  # as it may hold a password
            begin = time.monotonic()
            while not stream.over and time.monotonic() < begin + 60:
                assert stream.newest(0.1) is None
    finally:
        if writer is not None:
            os.close(writer)
    assert stream.failure
    assert stream.failure.cause == "broken_off"
    seconds = re.fullmatch(
        r"the stream breaks off: nothing came for ([\d.]+) s", stream.failure.message
    )
    assert seconds
    assert 0.5 <= float(seconds[1]) < 10


@pytest.fixture(scope="module")
def streamed(video):
    """Returns the same video in a form that is read from its first byte to its last."""
    path = video.with_suffix(".mkv")
    with av.open(str(video)) as source, av.open(str(path), "w") as sink:
        made = sink.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.dts is not None:
                packet.stream = made
                sink.mux(packet)
    return path


def test_what_is_written_into_a_named_pipe_is_seen_to_its_end(streamed, tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    content = streamed.read_bytes()
    threading.Thread(target=pipe.write_bytes, args=(content,), daemon=True).start()
    stream = Stream(str(pipe), [], 4, EACH, SMALL)
    found = seen(stream)
    assert stream.failure is None
    assert found[-1].end == pytest.approx(2.4, abs=0.01)
    assert stream.counts.frames == 24


@pytest.mark.slow
def test_a_file_whose_frames_lie_far_apart_is_not_given_up(tmp_path):
    times = [0.0, 0.1, 0.2, 0.3, 3.5, 3.6, 3.7, 3.8]
    video = str(write_video(tmp_path / "a.mp4", 8, times=times))
    stream = Stream(video, [], 4, windows.Rate(fps=10), SMALL, patience=0.5)
    seen(stream)
    assert stream.failure is None
    assert stream.counts.frames == 8


@pytest.fixture
def secure(streamed, tmp_path):
    """Returns the URL of the video at a server, and the server's own certificate."""
    if not shutil.which("openssl"):
        pytest.skip("no openssl to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    made = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    made += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key)]
    subprocess.run([*made, "-out", str(certificate)], check=True, capture_output=True)

    class Handler(http.server.SimpleHTTPRequestHandler):
        """Says nothing of what is asked."""

        def log_message(self, format, *arguments):
            del format, arguments

    served = functools.partial(Handler, directory=str(streamed.parent))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), served) as server:
        server.socket = context.wrap_socket(
            server.socket, server_side=True, do_handshake_on_connect=False
        )
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"https://me:secret@localhost:{server.server_port}/{streamed.name}", certificate
        server.shutdown()


def test_a_server_that_nobody_vouches_for_is_refused_unless_its_certificate_is_given(
    secure, monkeypatch
):
    url, certificate = secure
    allow = ["https", "tls", "tcp"]
    stream = Stream(url, allow, 4, EACH, SMALL)
    assert seen(stream) == []
    assert stream.failure
    assert "certificates are checked by" in stream.failure.message
    assert "secret" not in stream.failure.message
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    stream = Stream(url, allow, 4, EACH, SMALL)
    seen(stream)
    assert stream.failure is None
    assert stream.counts.frames == 24


@pytest.mark.slow
def test_seconds_end_it_well_and_ctrl_c_too(command, tiny_run, video, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (16, 48, 64, 3), np.uint8)
    long = write_video(tmp_path / "l.mp4", 600, texture=lambda i: frames[i % 16])
    code, (out, _) = command("--live", long, "--seconds", "1", "--json")
    assert code == 0
    assert json.loads(out.splitlines()[-1])["summary"]["windows"] <= 3
    given = [sys.executable, "-m", "vivit_jax.predict", "--checkpoint", str(tiny_run)]
    environment = {**os.environ, "JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(
        [*given, "--live", str(long)],
        cwd=ROOT,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout
        assert process.stderr
        assert " ms  " in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.stderr.read() == ""
    assert process.returncode == 0
    assert "latency: median" in rest


def test_what_is_cut_or_no_video_breaks_off(command, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (20, 48, 64, 3), np.uint8)
    cut = write_video(tmp_path / "a.mkv", 20, texture=noise.__getitem__)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size * 3 // 5])
    code, (out, _) = command("--live", cut, "--json")
    assert code == 1
    assert json.loads(out.splitlines()[-1])["summary"]["error"]["cause"] == "truncated"
    sound = tmp_path / "sound.mp4"
    with av.open(str(sound), "w") as made:
        stream = made.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 8000), np.float32), "fltp", "mono")
        frame.rate = 8000
        made.mux(stream.encode(frame))  # type: ignore[arg-type]
        made.mux(stream.encode(None))
    code, (out, _) = command("--live", sound)
    assert code == 1
    assert "error: no_video: no stream of moving pictures" in out


def test_an_avi_whose_stamps_tell_nothing_is_seen_at_its_rate(tmp_path, command):
    video = write_video(tmp_path / "a.avi", 20, options={"bf": "2"})
    stream = Stream(str(video), [], 4, EACH, SMALL)
    assert [one.begin for one in seen(stream)] == pytest.approx([0, 0.4, 0.8, 1.2, 1.6])
    short = write_video(tmp_path / "short.mp4", 3)
    code, (out, _) = command("--live", short)
    assert code == 0
    assert "it ended with 3 frames, before a window was whole" in out


@pytest.mark.parametrize(
    ("source", "allow", "message"),
    [
        ("http://127.0.0.1/a", [], "'http' is not allowed; .* unless you say --allow=http,tcp"),
        ("http://127.0.0.1/a", ["http"], "'tcp' is not allowed; .* --allow=http,tcp"),
        ("concat:a|b", ["tcp"], "the protocol 'concat' is not read"),
        ("udp://127.0.0.1:1", ["upd"], "--allow=upd: expected of tcp, udp"),
        ("data:video/mp4;base64,AAAA", [], "the protocol 'data' is not read"),
    ],
)
def test_nothing_but_files_and_devices_is_opened_unless_allowed(source, allow, message):
    with pytest.raises(InputError, match=message):
        check(source, allow)


@pytest.mark.parametrize("url", ["rtsp://me:se@cret@host:554/a", "nothing://me:se@cret@host/a"])
def test_a_password_is_in_no_message(url):
    with pytest.raises(InputError, match=r"--live=\w+://me:\*\*\*@host") as error:
        check(url, [])
    assert "cret" not in str(error.value)


def test_a_wrong_protocol_is_told_before_anything_is_opened(command):
    code, (out, error) = command("--live", "tcp://127.0.0.1:9")
    assert (code, out) == (2, "")
    assert "--allow=tcp" in error


@pytest.mark.parametrize("a_second", [3.0, 10.0, 25.0])
def test_the_frame_that_is_nearest_to_each_moment_is_chosen(a_second):
    rng = np.random.default_rng(0)
    shown = 5 + np.cumsum(rng.uniform(0.02, 0.2, 60))
    pick = Picker(a_second, fps=9.0)
    chosen = [one for i, seconds in enumerate(shown) for one in pick(seconds, i)]
    for moment, number, anew in chosen:
        distance = np.abs(shown - shown[0] - moment)
        assert distance[number] <= distance.min() + 0.1 / a_second
        assert anew == (moment == 0)
    moments = [moment for moment, _, _ in chosen]
    np.testing.assert_allclose(moments, np.arange(len(moments)) / a_second, atol=1e-9)


def test_a_stream_that_jumps_begins_anew():
    pick = Picker(10.0, fps=10.0)
    times = [0, 0.1, 0.2, 5.0, 5.1, 1.0, 1.1]
    chosen = [one for i, seconds in enumerate(times) for one in pick(seconds, i)]
    assert [number for _, number, _ in chosen] == [0, 1, 2, 3, 4, 5, 6]
    assert [anew for _, _, anew in chosen] == [1, 0, 0, 1, 0, 1, 0]


def frames_of(path, rate, monkeypatch):
    """Returns the messages of all frames of a file, which is not held back to its own rate."""
    monkeypatch.setattr(Pace, "hold", lambda *_: 0.0)
    told = Settings(str(path), [], 4, [*rate], SMALL.size, SMALL.resize, 1, 10.0, 0, "")
    messages = (one for one in live_source.messages(told) if one[0] == Kind.FRAME)
    for message in messages:
        head = Head(*HEAD.unpack(message[1 : 1 + HEAD.size]))
        yield head, np.frombuffer(message[1 + HEAD.size :], np.uint8).reshape(16, 16, 3)


@pytest.mark.parametrize("a_second", [1.0, 7.0, 12.5, 20.0, 30.0, 40.0])
def test_a_stream_shows_at_each_moment_exactly_what_evaluation_shows(
    a_second, video_30, monkeypatch
):
    rate = windows.Rate(fps=a_second)
    heads, pixels = zip(*frames_of(video_30, rate, monkeypatch), strict=True)
    moments = np.arange(int(3 * a_second)) / a_second
    shown = min(len(moments), len(heads))
    assert shown >= 2.9 * a_second
    np.testing.assert_allclose([head.seconds for head in heads[:shown]], moments[:shown])
    (expected,) = read_views(str(video_30), Moments(tuple(moments[:shown])), SMALL, (0,))
    np.testing.assert_array_equal(pixels[:shown], expected)


def test_a_stream_of_less_than_a_frame_a_second_does_not_begin_anew_at_each(tmp_path, monkeypatch):
    slow = write_video(tmp_path / "a.mp4", 5, times=[2.5 * i for i in range(5)])
    heads = [head for head, _ in frames_of(slow, EACH, monkeypatch)]
    assert [head.seconds for head in heads] == pytest.approx([0, 2.5, 5, 7.5, 10])
    assert [head.anew for head in heads] == [1, 0, 0, 0, 0]


def test_what_a_stream_holds_may_take_longer_to_learn_than_it_may_be_silent(video, tmp_path):
    stream, pipe = tmp_path / "a.ts", tmp_path / "pipe"
    with av.open(str(video)) as source, av.open(str(stream), "w") as made:
        into = made.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = into
                made.mux(packet)
    os.mkfifo(pipe)

    def feed():
        content = stream.read_bytes()
        with pipe.open("wb") as out:
            for part in np.array_split(np.frombuffer(content, np.uint8), 25):
                out.write(part.tobytes())
                out.flush()
                time.sleep(0.04)

    thread = threading.Thread(target=feed)
    thread.start()
    told = Settings(str(pipe), [], 4, [*EACH], SMALL.size, SMALL.resize, 1, 0.3, 0, "")
    with opened(told) as (movie, played):
        assert (movie.codec.name, played) == ("h264", False)
        assert sum(packet.size > 0 for packet in movie.container.demux(movie.stream)) == 24
    thread.join()


def test_a_message_that_nobody_understands_ends_the_stream(video):
    stream = Stream(str(video), [], 4, EACH, SMALL)
    near, far = multiprocessing.Pipe(duplex=False)
    far.send_bytes(bytes([Kind.FRAME, 0]))
    stream._take(near)
    assert stream.over
    assert stream.failure
    assert stream.failure.cause == "crashed"
    assert "unpack requires" in stream.failure.message


def test_decoding_is_late_where_packets_pile_up_and_not_where_the_stream_stalled():
    pace = Pace(False)
    assert not pace.late(0.0, 0.1, 100.0)
    assert not pace.late(0.5, 0.0, 101.0)  # half a second behind
    assert pace.late(0.6, 0.0, 102.0)
    assert not pace.late(0.7, 0.5, 102.5)  # it had to wait for this one
    assert not pace.late(1.7, 0.0, 103.6)
    assert Pace(False).hold(9.0, 0.0) == 0
    played = Pace(True)
    assert played.hold(3.0, 50.0) == 0
    assert played.hold(4.0, 50.2) == pytest.approx(0.8)
