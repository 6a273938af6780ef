"""Two runs never write into one workdir; a lock that is left over is in nobody's way."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import pytest

from vivit_jax import workdir_lock
from vivit_jax.errors import InputError
from vivit_jax.workdir_lock import FILE, Lock, LostLock, locked

HOLD = """
import pathlib, sys
from vivit_jax.workdir_lock import Lock
Lock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Returns another process that holds the workdir, which is stopped at the end."""
    command = [sys.executable, "-c", HOLD, tmp_path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_the_second_is_refused_with_the_name_of_the_first(tmp_path, holder):
    with pytest.raises(InputError, match=rf"is held by another run: process {holder.pid} on "):
        Lock(tmp_path)


def test_a_disk_without_links_is_locked_too(tmp_path, monkeypatch):
    def link(*_):
        raise PermissionError(1, "Operation not permitted")  # as disks of buckets say

    monkeypatch.setattr(os, "link", link)
    with locked(tmp_path) as check:
        check()
        with pytest.raises(InputError, match="is held by another run"):
            Lock(tmp_path)
    assert not (tmp_path / FILE).exists()


def test_the_lock_of_a_killed_process_is_taken_over(tmp_path, holder, caplog):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    begun = time.monotonic()
    with locked(tmp_path) as check:
        check()
        assert time.monotonic() - begun < 5
        assert f"The lock of process {holder.pid} on " in caplog.text
        assert json.loads((tmp_path / FILE).read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []


def test_a_process_with_the_number_of_the_one_before_is_not_taken_for_it(tmp_path, holder):
    told = json.loads((tmp_path / FILE).read_text())
    (tmp_path / FILE).write_text(json.dumps({**told, "started": told["started"] - 1}))
    Lock(tmp_path).release()


def elsewhere(lock, **changes):
    """Makes a lock look as one of another machine does."""
    told = json.loads(lock.file.read_text())
    told |= {"host": "far", "boot": "other", "token": "theirs", **changes}
    lock.file.write_text(json.dumps(told))


def test_a_lock_from_elsewhere_is_taken_over_when_it_is_still(tmp_path, caplog):
    elsewhere(Lock(tmp_path))
    begun = time.monotonic()
    Lock(tmp_path, stale=2.0).release()
    assert 1.5 < time.monotonic() - begun < 10
    assert "on far, since" in caplog.text
    assert "is taken over: it was still for 2 s" in caplog.text


def test_a_lock_from_elsewhere_that_changes_is_respected(tmp_path, monkeypatch):
    monkeypatch.setattr(workdir_lock, "BEAT", 0.5)
    first = Lock(tmp_path)
    for name in ("_SYSTEM",):  # so that this process seems to be on another machine
        monkeypatch.setattr(workdir_lock, name, ("token",))
    with pytest.raises(InputError, match=f"process {os.getpid()} on "):
        Lock(tmp_path, stale=20.0)
    first.release()


def test_a_lock_that_another_took_is_lost_and_one_that_vanished_is_made_again(tmp_path):
    lock = Lock(tmp_path)
    lock.file.unlink()
    lock.check()
    assert lock.file.exists()
    elsewhere(lock)
    with pytest.raises(LostLock, match="on far, since .* took it"):
        lock.check()
    lock.release()
    assert lock.file.exists()


def test_a_torn_lock_is_taken_over(tmp_path):
    (tmp_path / FILE).write_text('{"pid": 1')
    Lock(tmp_path, stale=0.5).release()


def test_a_workdir_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(
        InputError, match=r"--workdir=.*/file/run cannot be written into: .*Not a dir"
    ):
        Lock(tmp_path / "file/run")
    with pytest.raises(InputError, match=r"/proc/nowhere cannot be written into"):
        Lock(pathlib.Path("/proc/nowhere"))
