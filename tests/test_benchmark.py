"""The benchmark as a user runs it: which rows there are, what is written, and what is refused."""

import dataclasses
import importlib.util
import json
import pathlib
import re
import subprocess
import sys

import jax
import jax.numpy as jnp
import pytest
from recipes import ROOT
from tiny import experiment, noise_video

from vivit_jax import benchmark
from vivit_jax.benchmarks import attending, parts, steps
from vivit_jax.benchmarks.stored import FORMS
from vivit_jax.errors import InputError

SMALL = (
    *("--config.data.image_size=32", "--config.data.frames=4", "--config.model.depth=1"),
    *("--config.data.batch_size=8", "--classes=3", "--rounds=1"),
)
JOINT = ("--config=configs/vivit.py:k400_B_joint,smoke", *SMALL)
MASKED = (
    *("--config=configs/videomae_pretrain.py:k400_B,smoke", *SMALL),
    *("--config.objective.mask_ratio=0.5", "--config.model.dtype=float32"),
)
RATIO = ("--config.data.frames=16", "--config.model.mlp_dim=192")  # what VideoMAE's own has
# A peer's file, as a user writes one.
PEER = """
import jax
import jax.numpy as jnp
from vivit_jax.benchmarks.rounds import Row, done


def rows(run):
    product, square = jax.jit(lambda x: x @ x), jnp.ones((len(run.sources.label_maps[0]),) * 2)
    return [Row("mine: step", lambda: done(product(square)), run.experiment.data.batch_size)]
"""


@pytest.fixture
def measured(monkeypatch, tmp_path, capsys):
    """Runs a command in this process; returns the tables of its JSON file, and what it printed."""

    def call(*arguments):
        file = tmp_path / "out.json"
        monkeypatch.chdir(ROOT)
        monkeypatch.setattr(sys, "argv", ["benchmark", *arguments, f"--out={file}"])
        monkeypatch.setattr(benchmark, "speak", lambda _: None)  # logging is of the whole process
        assert benchmark.main() == 0
        found = json.loads(file.read_text())
        assert found["command"] == sys.argv[1:]
        assert found["cores"] >= 1
        assert "jax" in found["versions"]
        return found["tables"], capsys.readouterr().out

    return call


def names(table):
    return [row["name"] for row in table["rows"]]


@pytest.mark.slow
def test_a_step_is_measured_part_by_part_beside_peers_that_learn_the_same(measured, tmp_path):
    pytest.importorskip("transformers", reason="a peer")
    pytest.importorskip("torch", reason="a peer")
    (tmp_path / "peer.py").write_text(PEER)
    (table,), printed = measured("step", *JOINT, f"--peer=huggingface,{tmp_path / 'peer.py'}")
    ours = ["a large matrix product", "augmentation", "forward", "gradient", "step"]
    theirs = [f"huggingface: {part}" for part in ("forward", "gradient", "step")]
    assert names(table) == [*ours, *theirs, "mine: step"]
    rows = {row["name"]: row for row in table["rows"]}
    assert all(len(row["seconds"]) == 1 and row["median_seconds"] > 0 for row in rows.values())
    assert {row["work"] for row in table["rows"][1:]} == {8}
    assert 0 < rows["forward"]["needs"] < rows["gradient"]["needs"] == rows["step"]["needs"]
    assert rows["step"]["temporary_bytes"] > 0
    assert "8 clips of 4x32x32, float32" in printed
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + len(rows)
    assert len({line.count("|") for line in lines}) == 1
    assert re.search(r"\| step \|.*\| 1\.00 \| \d+ % \|", printed)


@pytest.mark.slow
def test_attention_is_measured_at_each_shape_beside_kernels_of_jax_and_torch(measured):
    pytest.importorskip("torch", reason="a peer")
    tables, printed = measured(
        *("attention", "--config=configs/quickstart.py", "--rounds=1", "--batch=8"),
        *("--peer=jax,torch", "--config.data.image_size=16"),
    )
    for table in tables:
        assert {"vivit_jax, auto", "vivit_jax, plain", "jax", "torch"} < {*names(table)}
    assert "a slot: 32 rows, 4 heads, 4 tokens" in printed
    assert "slots: 8 rows, 4 heads, 4 tokens" in printed


def prepared(*arguments):
    given = benchmark.parse(["step", *arguments])
    return steps.prepare(given.experiment, given.classes, given.batch)


def test_attention_of_masked_pretraining_is_that_of_the_tokens_that_are_seen(monkeypatch):
    monkeypatch.chdir(ROOT)
    assert attending.shapes(prepared(*MASKED)) == {"a clip": (8, 2, 2 * 2, 24)}


@pytest.mark.slow
def test_clips_are_read_from_a_user_s_videos_by_ours_and_by_a_peer(measured, tmp_path):
    for seed in range(2):
        noise_video(tmp_path / f"videos/{seed}.mp4", seed)
    (tmp_path / "videos/broken.mp4").write_bytes(b"no video")
    (table,), printed = measured(
        *("input", f"--videos={tmp_path}/videos", "--peer=pyav", "--clips=8", "--workers=2"),
        *("--rounds=1", "--config.data.frames=4", "--config.data.image_size=16"),
        "--config.data.stride=1",
    )
    assert names(table) == [
        *("decoding alone, one thread", "read_views, one thread", "vivit_jax, 2 workers"),
        *(f"{form}, 2 workers" for form in FORMS),
        "pyav, one thread",
    ]
    assert {row["work"] for row in table["rows"]} == {8}
    assert "time of vivit_jax, 2 workers" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["step", *JOINT, "--peer=scenic"], r"--peer=scenic; expected huggingface, or a Python"),
        (["attention", *JOINT, "--peer=tf"], "--peer=tf; expected some of jax, torch"),
        (["input", "--peer=ffmpeg"], "--peer=ffmpeg; expected some of pyav, decord"),
        (["input", "--videos=nowhere"], "--videos=nowhere; expected a folder"),
        (["step", "--rounds=0"], "--rounds=0; expected at least 1"),
        (["step", "--batch=-1"], "--batch=-1; expected at least 0"),
        (["step", "--classes=many"], "--classes=many; expected numbers with commas"),
        (["input", "--workers=1,0"], "--workers=1,0; expected at least 1"),
        (["input", "--clips=7"], "--clips=7; expected at least 8"),
        (["step", "--config=configs/quickstart.py", "--config.model.depht=1"], "depht"),
    ],
)
def test_what_cannot_be_measured_is_refused_with_what_could_be(arguments, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "argv", ["benchmark", *arguments])
    monkeypatch.setattr(benchmark, "speak", lambda _: None)
    with pytest.raises(InputError, match=re.escape(message) if "--" in message else message):
        benchmark.main()


@pytest.mark.slow
def test_a_model_that_hugging_face_has_not_is_refused_before_ours_is_compiled(monkeypatch):
    pytest.importorskip("transformers", reason="a peer")
    monkeypatch.chdir(ROOT)
    given = benchmark.parse(["step", "--config=configs/quickstart.py", "--peer=huggingface"])
    monkeypatch.setattr(steps, "rows", None)
    with pytest.raises(InputError, match="Hugging Face has no model like this config"):
        list(benchmark.step(given))


def test_a_peer_s_file_that_misses_a_package_says_which(monkeypatch, tmp_path):
    (tmp_path / "peer.py").write_text("import no_such_package\n")
    monkeypatch.chdir(ROOT)
    given = benchmark.parse(["step", *JOINT, f"--peer={tmp_path / 'peer.py'}"])
    with pytest.raises(InputError, match="no_such_package.*Its docstring tells what it needs"):
        list(benchmark.step(given))


def alone():
    """Returns a tiny run on one device."""
    run = steps.prepare(experiment(), (3,), 8)
    return dataclasses.replace(run, mesh=jax.make_mesh((1,), ("data",), devices=jax.devices()[:1]))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_program_of_jax_s_takes_steps_that_lower_its_loss(optimizer):
    run, seen = alone(), []
    optim = dataclasses.replace(run.experiment.optim, optimizer=optimizer, clip=1.0)
    run = dataclasses.replace(run, experiment=dataclasses.replace(run.experiment, optim=optim))

    def loss(params, batch, key):
        value = jnp.square(batch["x"] @ params["w"]).mean()
        jax.debug.callback(seen.append, value)
        return value

    batch, params = {"x": jnp.ones((8, 4))}, {"w": jnp.ones((4, 2))}
    forward, gradient, step = parts.in_jax("mine", loss, params, batch, run)
    for row in (forward, gradient, step, step, forward, gradient):
        row.run()
    jax.effects_barrier()
    first, same, stepped, second, third, last = map(float, seen)
    assert first == same == stepped > second > third == last
    assert [row.name for row in (forward, step)] == ["mine: forward", "mine: step"]
    assert step.about["temporary_bytes"] is not None


def test_a_program_of_jax_s_is_refused_on_many_devices_and_where_it_computes_nothing():
    def loss(params, batch, key):
        return jnp.log(params["w"]).sum()

    with pytest.raises(InputError, match="mine runs on one device, and the config's mesh has 8"):
        parts.in_jax("mine", loss, {}, {}, steps.prepare(experiment(), (3,), 8))
    forward, *_ = parts.in_jax("mine", loss, {"w": -jnp.ones(1)}, {}, alone())
    with pytest.raises(FloatingPointError, match="mine: the loss is nan"):
        forward.run()


def test_a_program_that_learns_other_numbers_is_refused():
    run = alone()
    ours = sum(x.size for x in jax.tree.leaves(run.state.params))
    parts.check_values("mine", ours + 5, run, more=5)
    with pytest.raises(InputError, match="they are not the same model"):
        parts.check_values("mine", ours + 5, run)


def command(*arguments):
    """Returns a command's exit code and output, run as a user does."""
    line = [sys.executable, "-m", "vivit_jax.benchmark", *arguments]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True)
    return done.returncode, done.stdout, done.stderr


def test_the_command_ends_with_2_where_something_given_cannot_be_used():
    code, _, told = command("step", "--rounds=none")
    assert (code, "invalid int value" in told) == (2, True)
    code, _, told = command("input", "--workers=none")
    assert (code, told) == (2, "error: --workers=none; expected numbers with commas.\n")


@pytest.mark.slow
def test_starts_are_measured_cold_and_warm_beside_jax_alone(tmp_path):
    config = ("--config=configs/quickstart.py", *SMALL, "--config.data.dataset=motions")
    code, printed, told = command("startup", *config, f"--out={tmp_path / 'out.json'}")
    assert code == 0, told
    (table,) = json.loads((tmp_path / "out.json").read_text())["tables"]
    kinds = ("cold", "warm")
    assert names(table) == [f"{of}, {kind}" for of in ("JAX alone", "vivit_jax") for kind in kinds]
    assert "to the first step" in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("peer", "package", "config"),
    [
        ("scenic_vivit", "scenic", JOINT),
        ("scenic_av_mae", "scenic", MASKED),
        ("videomae_original", "modeling_pretrain", (*MASKED, *RATIO)),
    ],
)
def test_the_originals_take_steps_of_the_same_model(peer, package, config, tmp_path):
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"tests/benchmarks/peers/{peer}.py tells how to get {package}")
    file = pathlib.Path("tests/benchmarks/peers", f"{peer}.py")
    code, _, told = command("step", *config, f"--peer={file}", f"--out={tmp_path / 'out.json'}")
    assert code == 0, told
    (table,) = json.loads((tmp_path / "out.json").read_text())["tables"]
    assert [name.rpartition(": ")[2] for name in names(table)[-3:]] == [
        "forward",
        "gradient",
        "step",
    ]
