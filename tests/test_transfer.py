"""Runs that start from the weights of another run's checkpoint."""

import logging
import pathlib
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from tiny import experiment, noise_video

from vivit_jax import metrics, recipe, report, run, train, transfer
from vivit_jax.checkpoint import locate
from vivit_jax.errors import InputError
from vivit_jax.evals.base import Evaluator
from vivit_jax.trees import path_of

ENCODER = {"pool": "mean", "positions": "learned", "depth": 2}
PIXELS = {
    "name": "masked_pixels",
    "mask_ratio": 0.5,
    **{"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2},
}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    for i in range(24):
        noise_video(root / f"{'train' if i < 16 else 'val'}/{'ab'[i % 2]}/{i}.mp4", i)
    return root


@pytest.fixture(scope="module")
def pixels(videos, tmp_path_factory):
    """Returns the workdir of a run of VideoMAE that keeps an average of weights."""
    workdir = tmp_path_factory.mktemp("pixels")
    options = {"train": {"checkpoint_every": 1, "evaluate": False}, "optim": {"average": 0.5}}
    train.run(given(videos, objective=PIXELS, **options), workdir)
    return workdir


def given(videos, init_from="", **sections):
    labels = "none" if sections.get("objective") == PIXELS else "single"
    data = {"root": str(videos), "labels": labels}
    sections["data"] = {**data, **sections.get("data", {})}
    sections["model"] = {**ENCODER, **sections.get("model", {})}
    return experiment(init_from=str(init_from), **sections)


def saved(workdir, step, name="average"):
    with ocp.PyTreeCheckpointer() as checkpointer:
        state = checkpointer.restore(workdir / "checkpoints" / str(step) / "default")
    return by_path(state[name])


def by_path(tree):
    return {path_of(keys): np.asarray(x) for keys, x in jax.tree_util.tree_leaves_with_path(tree)}


def first_state(experiment, workdir):
    prepared = run.prepare(experiment, workdir)
    return prepared, prepared.init()


def test_a_classifier_starts_from_the_pretrained_encoder_bit_for_bit(
    videos, pixels, tmp_path, caplog
):
    caplog.set_level(logging.INFO, "vivit_jax")
    start = given(videos, pixels, model={"norm_summary": True}, optim={"average": 0.9})
    _, state = first_state(start, tmp_path)
    before, after = saved(pixels, 2), by_path(state.params)
    taken = {path for path in after if path.startswith("encoder/")} & before.keys()
    assert len(taken) == len([path for path in before if path.startswith("encoder/")]) - 2
    for path in taken:
        np.testing.assert_array_equal(after[path], before[path])
    assert not after["head/kernel"].any()
    jax.tree.map(np.testing.assert_array_equal, state.params, state.average)
    (text,) = [x.getMessage() for x in caplog.records if "Starts from" in x.getMessage()]
    assert (
        f"Starts from the average of weights of {pixels}, step 2:\n  reused   {len(taken)} para"
        in text
    )
    assert "  fresh    encoder/blocks/summary_norm/scale: the norm of the summary" in text
    assert "  fresh    head/kernel: this objective's own" in text
    assert "  dropped  decoder/mask_tokens: its objective's own" in text
    assert "  dropped  encoder/blocks/norm/bias: the norm of the summary" in text


def test_a_video_model_starts_from_a_published_image_model(videos, tmp_path, caplog):
    caplog.set_level(logging.INFO, "vivit_jax")
    golden = pathlib.Path(__file__).parent / "pretrained/golden/augreg_vit_deep.npz"
    model = {"width": 24, "heads": 4, "depth": 3, "mlp_dim": 36, "tubelet": (2, 4, 4)}
    model |= {"attention": "divided", "pool": "class_token", "tubelet_init": "central_frame"}
    start = given(videos, f"augreg:{golden}", model=model, init_time_from_space=True)
    after = by_path(first_state(start, tmp_path)[1].params)
    image = np.load(golden)
    kernel = after["encoder/tubelets/kernel"]
    np.testing.assert_array_equal(kernel[1], image["embedding/kernel"])
    assert not kernel[0].any()
    over_space = {p: x for p, x in after.items() if "/attention_1/" in p or "_norm_1/" in p}
    assert len(over_space) == 3 * (8 + 2)
    for path, value in over_space.items():
        over_time = re.sub(r"(attention_(?:norm_)?)1/", r"\g<1>0/", path)
        np.testing.assert_array_equal(after[over_time], value)
    assert (
        "  inflated encoder/tubelets/kernel: (1, 4, 4, 3, 24) to (2, 4, 4, 3, 24), c" in caplog.text
    )
    assert "  resized  encoder/blocks/position: (1, 10, 24) to (1, " in caplog.text


def test_the_average_is_taken_where_the_run_keeps_one_and_else_the_last_weights(
    videos, pixels, tmp_path
):
    text = (pixels / "config.json").read_text()
    without = tmp_path / "without"
    without.mkdir()
    (without / "config.json").write_text(text.replace('"average": 0.5', '"average": 0.0'))
    (without / "checkpoints").symlink_to(pixels / "checkpoints")
    path = "encoder/blocks/block_0/mlp_in/kernel"
    average, last = (
        by_path(first_state(given(videos, source), tmp_path / "run")[1].params)[path]
        for source in (pixels, without)
    )
    assert (last != average).any()
    np.testing.assert_array_equal(average, saved(pixels, 2, "average")[path])
    np.testing.assert_array_equal(last, saved(pixels, 2, "params")[path])


def test_a_steps_own_folder_gives_that_step(videos, pixels, tmp_path):
    _, state = first_state(given(videos, pixels / "checkpoints/1"), tmp_path)
    path = "encoder/tubelets/kernel"
    np.testing.assert_array_equal(by_path(state.params)[path], saved(pixels, 1)[path])
    assert (saved(pixels, 1)[path] != saved(pixels, 2)[path]).any()
    assert locate(pixels / "checkpoints/1") == (pixels, 1)


def test_weights_lie_where_the_mesh_wants_them(videos, pixels, tmp_path):
    prepared, state = first_state(given(videos, pixels, mesh={"fsdp": 8, "data": 1}), tmp_path)
    kernel = state.params["encoder"]["blocks"]["block_0"]["mlp_in"]["kernel"]
    assert not kernel.sharding.is_fully_replicated
    assert jax.tree.map(lambda x: x.sharding, state) == jax.tree.map(
        lambda x: x.sharding, prepared.state
    )
    before = saved(pixels, 2)["encoder/blocks/block_0/mlp_in/kernel"]
    np.testing.assert_array_equal(kernel, before)


@pytest.mark.slow
def test_fine_tuning_runs_on_a_larger_grid_with_few_labels_and_repeats(videos, pixels, tmp_path):
    start = given(
        videos,
        pixels,
        data={"image_size": 32, "train_share": 0.25, "repeats": 2, "batch_size": 4},
        model={"norm_summary": True, "drop_path": 0.1},
        objective={"name": "classify", "mixup": 0.8},
        optim={"layer_decay": 0.75, "average": 0.5},
    )
    results = train.run(start, tmp_path)
    assert np.isfinite(results["top1"])
    assert saved(tmp_path, 2)["encoder/blocks/position"].shape == (1, 2 * 4 * 4, 32)


@pytest.mark.slow
def test_a_run_that_goes_on_does_not_start_again(videos, pixels, tmp_path):
    source = shutil.copytree(pixels, tmp_path / "source")
    workdir, options = tmp_path / "run", {"evaluate": False}
    train.run(given(videos, source, train={"steps": 1, **options}), workdir)
    shutil.rmtree(source)
    train.run(given(videos, source, train={"steps": 2, **options}), workdir)
    assert [line["step"] for line in metrics.read_lines(workdir / metrics.METRICS)] == [1, 2]


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        (
            "nowhere",
            r"config\.init_from = '.*nowhere': .*config\.json does not exist; expected the",
        ),
        ("empty", r"config\.init_from = '.*empty': .*checkpoints holds no such checkpoint; .*none"),
        ("checkpoints/7", r"checkpoints/7 holds no such checkpoint; steps that it has: 1, 2"),
    ],
)
def test_a_source_that_is_not_there_is_named_before_compiling(
    folder, message, videos, pixels, tmp_path, monkeypatch
):
    monkeypatch.setattr(jax, "jit", lambda *_, **__: pytest.fail("compiles"))
    if folder == "empty":
        (tmp_path / folder).mkdir()
        shutil.copy(pixels / "config.json", tmp_path / folder)
    source = pixels / folder if "/" in folder else tmp_path / folder
    prepared = {"evaluate": False}
    with pytest.raises(InputError, match=message):
        train.run(given(videos, source, train=prepared), tmp_path / "run")


def test_a_source_of_another_size_is_refused_with_the_option(videos, pixels, tmp_path):
    wider = given(videos, pixels, model={"width": 64}, train={"evaluate": False})
    with pytest.raises(InputError, match=r"(?s)mlp_in/kernel \(2 times\): is \(32, 64\) in the so"):
        train.run(wider, tmp_path)
    with pytest.raises(InputError, match=r"config\.model\.width = 0 \(here 64\)\. Give this run"):
        train.run(wider, tmp_path)


def test_weights_that_mean_something_else_here_are_warned_of(videos, pixels, tmp_path, caplog):
    first_state(given(videos, pixels, model={"gelu": "erf"}), tmp_path)
    assert "config.model.gelu = 'tanh' (here 'erf')" in caplog.text


class Probe(Evaluator):
    """Judges an encoder by one of its numbers."""

    needs_labels = False
    results = ("number",)

    def __init__(self, *_):
        """Takes what every evaluator is given."""

    def run(self, params, folder, workdir):
        """Returns the number."""
        return {"number": float(params["encoder"]["tubelets"]["kernel"].max())}


def test_no_steps_judge_what_would_be_started_from(videos, pixels, tmp_path, monkeypatch):
    monkeypatch.setitem(run.EVALUATORS, "probe", Probe)
    options = {"train": {"steps": 0}, "eval": {"evaluators": ("probe",)}}
    found = train.run(given(videos, pixels, **options), tmp_path)
    assert found["number"] == float(saved(pixels, 2)["encoder/tubelets/kernel"].max())
    (line,) = metrics.read_lines(tmp_path / metrics.RESULTS)
    assert line["step"] == 0
    with pytest.raises(InputError, match="has no checkpoint to evaluate; train first, or set conf"):
        train.run(given(videos, **options), tmp_path / "another")


def test_what_is_only_judged_is_written_down_and_has_a_page(videos, pixels, tmp_path, monkeypatch):
    monkeypatch.setitem(run.EVALUATORS, "probe", Probe)
    alone = given(videos, pixels, train={"steps": 0}, eval={"evaluators": ("probe",)})
    train.run(alone, tmp_path)
    assert recipe.read_config(tmp_path) == alone
    assert ">number<" in report.make([tmp_path])


def test_a_class_tokens_row_that_is_not_given_is_the_fresh_one():
    fresh = {"encoder": {"position": jnp.zeros((1, 5, 3)), "bias": jnp.zeros(3)}}
    given = {"encoder/position": jnp.ones((1, 4, 3))}
    merged = by_path(transfer.merge(fresh, given))
    assert merged["encoder/position"][0, :, 0].tolist() == [0, 1, 1, 1, 1]
    assert merged["encoder/bias"].tolist() == [0, 0, 0]
