"""What the limits of memory tell is what Linux says of them."""

import subprocess
import sys

from vivit_jax import host_memory

CHILD = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (8_000_000_000, 8_000_000_000))
from vivit_jax import host_memory
found = {one.whose: one for one in host_memory.rooms()}
limit = found["that this process is allowed (ulimit -v)"]
assert limit.total == 8_000_000_000 and 0 < limit.left < limit.total, limit
held = bytearray(1_000_000_000)
again = host_memory.rooms()[-1]
assert 900_000_000 < limit.left - again.left < 1_100_000_000, (limit, again)
"""


def test_a_limit_of_the_process_is_told_with_what_is_left():
    subprocess.run([sys.executable, "-c", CHILD], check=True)


def test_the_host_has_more_than_is_left():
    host = host_memory.rooms()[0]
    assert host.whose == "of this host"
    assert host.left > 0
    assert host.total > 1e9


def test_the_limits_of_a_container_and_of_those_around_it_are_told(tmp_path, monkeypatch):
    (tmp_path / "self").mkdir()
    (tmp_path / "self/cgroup").write_text("1:cpu:/\n0::/pods/one\n")
    for group, limit, used in (("pods", 900, 600), ("pods/one", 500, 400)):
        folder = tmp_path / group
        folder.mkdir()
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
        (folder / "memory.stat").write_text("anon 7\ninactive_file 50\nactive_file 9\n")
    monkeypatch.setattr(host_memory, "PROC", tmp_path)
    monkeypatch.setattr(host_memory, "CONTROL_GROUPS", tmp_path)
    found = [(one.total, one.left) for one in host_memory.rooms() if "container" in one.whose]
    assert found == [(500, 159), (900, 359)]
