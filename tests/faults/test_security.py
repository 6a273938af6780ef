"""Hostile files run nothing and write nothing, and nothing secret is written down."""

import ast
import importlib.util
import itertools
import os
import pathlib
import pickle
import py_compile
import subprocess
import sys
import time
import zipfile

import numpy as np
import pytest
from faults import runs
from faults.canary import SECRET, SECRETS, told
from tiny import noise_video

from vivit_jax import config, main
from vivit_jax.data.limits import environment
from vivit_jax.data.pool import DecodePool
from vivit_jax.errors import InputError

pytestmark = pytest.mark.fault


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, canary: pathlib.Path):
        self.canary = canary

    def __reduce__(self):
        return os.system, (f"touch {self.canary}",)


def hostile(folder: pathlib.Path, canary: pathlib.Path) -> dict[str, list[str]]:
    """Returns commands that read hostile files, by what these are."""
    evil = pickle.dumps({"model": Evil(canary)})
    (folder / "old.pth").write_bytes(evil)
    with zipfile.ZipFile(folder / "new.pth", "w") as archive:
        archive.writestr("archive/data.pkl", evil)
        archive.writestr("archive/version", "3")
        archive.writestr("../../../canary", "x")
    np.savez(folder / "weights.npz", kernel=np.array([Evil(canary)], object))
    (folder / "open").mkdir()
    for name in ("config.py", "open/config.py"):
        (folder / name).write_text(f"import pathlib\npathlib.Path({str(canary)!r}).touch()\n")
    (folder / "config.py").chmod(0o666)
    (folder / "open").chmod(0o777)
    inspect = ["-m", "vivit_jax.pretrained", "inspect"]
    train = ["-m", "vivit_jax.main", f"--workdir={folder}/run"]
    return {
        "a pickle": [*inspect, f"videomae:{folder}/old.pth"],
        "a pickle in an archive, beside a path that leaves it": [
            *inspect,
            f"videomae:{folder}/new.pth",
        ],
        "an .npz with a pickle": [*inspect, f"augreg:{folder}/weights.npz"],
        "a config that all may write": [*train, f"--config={folder}/config.py"],
        "a config in a folder that all may write": [*train, f"--config={folder}/open/config.py"],
    }


def test_hostile_files_run_nothing_and_write_nothing(tmp_path, trial):
    canary = tmp_path / "canary"
    (tmp_path / "files").mkdir()
    commands = hostile(tmp_path / "files", canary)
    before = sorted(tmp_path.rglob("*"))
    processes = {
        about: subprocess.Popen(
            [sys.executable, *command], cwd=runs.ROOT, stderr=subprocess.PIPE, text=True
        )
        for about, command in commands.items()
    }
    for about, process in processes.items():
        said = process.communicate(timeout=runs.PATIENCE)[1]
        with trial(38, about) as one:
            one.silent, one.wrong_code = int(canary.exists()), process.returncode != 2
            assert process.returncode == 2, said
            assert "Traceback" not in said
            if "config" in about:
                assert "chmod o-w " in said
    assert sorted(tmp_path.rglob("*")) == before


def test_a_config_in_a_folder_like_tmp_is_read(tmp_path):
    """Where everybody can make files, but none change another's."""
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o1777)
    file = tmp_path / "shared/config.py"
    file.write_text(runs.CONFIG.read_text())
    assert main.load(str(file)).data.batch_size == 8


def test_what_lies_compiled_beside_a_config_is_not_run(tmp_path, trial):
    file, canary = tmp_path / "config.py", tmp_path / "canary"
    file.write_text(runs.CONFIG.read_text())
    cached = pathlib.Path(importlib.util.cache_from_source(str(file)))
    cached.parent.mkdir()
    evil = f"import pathlib\npathlib.Path({str(canary)!r}).touch()\n#"
    (tmp_path / "evil.py").write_text(evil.ljust(file.stat().st_size, "#"))
    os.utime(tmp_path / "evil.py", ns=(0, file.stat().st_mtime_ns))  # as if of this source
    py_compile.compile(str(tmp_path / "evil.py"), str(cached), doraise=True)
    with trial(38, "a compiled config"):
        assert main.load(str(file)).data.batch_size == 8
        assert not canary.exists()


def test_going_on_executes_nothing_of_a_workdir(tmp_path, trial):
    canary = tmp_path / "canary"
    experiment, _ = main.parse([f"--config={runs.CONFIG}", f"--workdir={tmp_path}"])
    (tmp_path / "config.json").write_text(config.to_json(experiment))
    for name in ("config.py", "sitecustomize.py", "vivit_jax.py", "label_map.txt.py"):
        (tmp_path / name).write_text(f"import pathlib\npathlib.Path({str(canary)!r}).touch()\n")
    with trial(38, "code in a workdir"):
        assert main.parse([f"--workdir={tmp_path}"])[0] == experiment
        broken = config.to_json(experiment).replace('"seed": 0', '"seed": "__import__(\'os\')"')
        (tmp_path / "config.json").write_text(broken)
        with pytest.raises(InputError, match="seed = .*expected a whole number"):
            main.parse([f"--workdir={tmp_path}"])
        assert not canary.exists()


def test_a_decoding_process_is_given_no_secret(monkeypatch, trial):
    for name, value in SECRETS.items():
        monkeypatch.setenv(name, value)
    assert not set(SECRETS) & set(environment(os.environ, "/x"))
    with trial(40, "a decoding process"), DecodePool(1, 100) as pool:
        (pid,) = pool.processes()
        while b"vivit_jax" not in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
            time.sleep(0.01)  # it is not yet the new program
        assert SECRET.encode() not in pathlib.Path(f"/proc/{pid}/environ").read_bytes()


@pytest.mark.slow
def test_nothing_of_the_environment_is_written_down(tmp_path, trial):
    """By a run that ends well, one that cannot start, and one that crashes."""
    videos, run = tmp_path / "videos", tmp_path / "run"
    for i in range(12):
        noise_video(videos / ("train", "val")[i % 3 == 0] / "ab"[i % 2] / f"{i}.mp4", i)
    (videos / "train/a/bad.mp4").write_bytes(b"no video")
    options = ["--config.train.steps=2", "--config.data.max_bad=1.0"]
    good = runs.start(run, videos, *options, environment=SECRETS)
    flag = runs.start(tmp_path / "other", videos, "--config.data.frmes=3", environment=SECRETS)
    logs = [flag.communicate(timeout=runs.PATIENCE), good.communicate(timeout=runs.PATIENCE)]
    assert (good.returncode, flag.returncode) == (0, 2), logs
    (run / "results.jsonl").unlink()
    (run / "results.jsonl").mkdir()
    crash = runs.start(run, videos, "--config.train.steps=3", environment=SECRETS)
    logs.append(crash.communicate(timeout=runs.PATIENCE))
    with trial(40, "a run, a bad flag, a crash") as one:
        assert crash.returncode == 1
        assert "Traceback" in logs[-1][1]
        found = told(tmp_path, *itertools.chain(*logs))
        one.silent = len(found)
        assert not one.silent, found


FORBIDDEN = {"extractall", "extract", "unpack_archive", "allow_pickle=True"}
READERS = ("pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "tarfile")


def test_the_package_reads_no_pickle_and_unpacks_no_archive(trial):
    with trial(38, "in the source"):
        for path in sorted((runs.ROOT / "vivit_jax").rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    assert not {alias.name for alias in node.names} & {*READERS}, path
                if isinstance(node, ast.ImportFrom):
                    assert node.module not in READERS, path
                if isinstance(node, ast.Attribute):
                    assert node.attr not in FORBIDDEN, (path, node.lineno)
                if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.load":
                    assert "allow_pickle=False" in ast.unparse(node), (path, node.lineno)
                if isinstance(node, ast.Call) and ast.unparse(node.func) in ("eval", "exec"):
                    assert path.name == "main.py", (path, node.lineno)  # the config, by its name
