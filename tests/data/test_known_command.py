"""`python -m vivit_jax.data.known`: what it tells of a data set, and of what is there."""

import functools
import subprocess
import sys

import known_trees as trees
import pytest

from vivit_jax.data.known import KNOWN, __main__
from vivit_jax.errors import InputError


def told(capsys, monkeypatch, *arguments):
    """The exit code, and what is printed."""
    monkeypatch.setattr(sys, "argv", ["known", *arguments])
    return __main__.main(), capsys.readouterr().out


def test_it_lists_them_and_tells_of_each_where_it_is_to_be_had(capsys, monkeypatch):
    code, text = told(capsys, monkeypatch)
    assert code == 0
    assert [line.split()[0] for line in text.splitlines()] == list(KNOWN)
    for name, known in KNOWN.items():
        code, text = told(capsys, monkeypatch, name)
        assert code == 0
        assert known.layout in text
        assert "https://" in text or "http://" in text
    text = __main__.describe(KNOWN["ucf101"])
    assert "9,586 for training, 3,734 held out (split 2)" in text
    assert "flips     off" in __main__.describe(KNOWN["something_something_v2"])
    with pytest.raises(InputError, match="Did you mean 'kinetics400'"):
        told(capsys, monkeypatch, "kinetics-400")


def test_it_tells_what_is_there_and_writes_down_what_is_not(tmp_path, capsys, monkeypatch):
    given = trees.charades(tmp_path, trees.touch)
    for number in (1, 9):
        (tmp_path / f"Charades_v1_480/V{number:04d}.mp4").unlink()
    arguments = ["--root", str(tmp_path), "--missing", str(tmp_path / "missing.txt")]
    arguments += ["--train-list", given["train_list"], "--eval-list", given["eval_list"]]
    code, text = told(capsys, monkeypatch, "charades", *arguments)
    assert code == 0
    assert "training  7 of 8 videos" in text
    assert "held-out  3 of 4 videos" in text
    assert (tmp_path / "missing.txt").read_text() == "V0001\nV0009\n"
    with pytest.raises(InputError, match=r"--missing=.*none/missing.txt cannot be written"):
        told(capsys, monkeypatch, "charades", *arguments, f"--missing={tmp_path}/none/missing.txt")


def test_it_ends_with_2_where_nothing_can_be_used_and_loads_no_large_library(tmp_path):
    program = (
        "import sys; from vivit_jax.data.known.__main__ import main\n"
        "from vivit_jax.terminal import run\n"
        "code = run(main); print([m for m in ('jax', 'tensorflow') if m in sys.modules])\n"
        "sys.exit(code)"
    )
    call = functools.partial(subprocess.run, capture_output=True, text=True, check=False)
    done = call([sys.executable, "-c", program, "hmdb51", "--root", str(tmp_path)])
    assert done.returncode == 2, done.stderr
    assert done.stdout == "[]\n"
    assert "error: There are no annotation files" in done.stderr
