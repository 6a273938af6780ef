"""Videos that must be what they were."""

import hashlib
import os
import subprocess

import pytest

from vivit_jax import config
from vivit_jax.data.container import DecodeError
from vivit_jax.data.digests import verified
from vivit_jax.data.encoding import encode
from vivit_jax.data.record_format import Form
from vivit_jax.data.sources import open_sources
from vivit_jax.errors import InputError


def test_digests_are_those_of_the_files_whatever_their_names(tmp_path):
    root = tmp_path / "root"
    (root / "c").mkdir(parents=True)
    for name in ("a.mp4", "two words.mp4", "two\nlines.mp4", "caf\udce9.mp4"):
        (root / "c" / name).touch()
    paths = sorted((root / "c").iterdir())
    for i, path in enumerate(paths):
        path.write_bytes(bytes([i]))
    command = "cd root && find . -type f -exec sha256sum {} + > ../SHA256SUMS"
    subprocess.run(command, shell=True, cwd=tmp_path, check=True)
    given = {"root": str(root), "holdout": 0.0, "digests": str(tmp_path / "SHA256SUMS")}
    found = open_sources(config.Data(**given)).train
    digests = {found.example(i).video: found.example(i).digest for i in range(len(found))}
    assert digests == {
        os.fspath(path): hashlib.sha256(bytes([i])).hexdigest() for i, path in enumerate(paths)
    }
    (root / "c/new.mp4").touch()
    with pytest.raises(InputError, match=r"c/new.mp4: no line in .*SHA256SUMS"):
        open_sources(config.Data(**given))
    (tmp_path / "SHA256SUMS").write_text("0123  c/a.mp4\n")
    with pytest.raises(InputError, match=r"SHA256SUMS, line 1: .*\nExpected a SHA-256"):
        open_sources(config.Data(**given))


def test_a_file_that_changed_is_refused_and_one_without_a_digest_is_left_alone(videos):
    content = videos["vp9"].read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert verified(str(videos["vp9"]), digest) == content
    assert verified(str(videos["plain"]), "") == str(videos["plain"])
    with pytest.raises(DecodeError, match="SHA-256") as caught:
        verified(str(videos["plain"]), digest)
    assert caught.value.cause == "corrupt"
    with pytest.raises(DecodeError, match="SHA-256"):
        encode(str(videos["plain"]), None, Form(), digest)
