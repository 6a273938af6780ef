"""What is hidden is grey, what is seen is the video, and the loss is the objective's own."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_film import read
from tiny import SIZE, experiment, noise_video

from vivit_jax import config, metrics, recipe, sharding, train
from vivit_jax.data.decode import read_views
from vivit_jax.data.examples import Example, Listed, Sources
from vivit_jax.data.views import eval_views
from vivit_jax.errors import InputError
from vivit_jax.evals.reconstruction import Reconstruction, draw_each, draw_panels
from vivit_jax.models.layers import take
from vivit_jax.models.video_transformer import normalise
from vivit_jax.objectives.masked_pixels import FRAMES, NORMALISED
from vivit_jax.run import make_evaluators

VIDEOS, FRAMES_A_CLIP = 5, 8
DECODER = {"decoder_width": 16, "decoder_depth": 1, "decoder_heads": 2}
GREYS = (127, 128)


def make(**objective):
    return experiment(
        data={"frames": FRAMES_A_CLIP},
        model={"tubelet": (2, 4, 4), "positions": "sincos_1d", "pool": "mean"},
        objective={"name": "masked_pixels", "mask_ratio": 0.75, **DECODER, **objective},
    )


def build(**objective):
    return recipe.build_objective(make(**objective), ())


EXPERIMENT = make(decoder_mask_ratio=0.5)  # so that clips have different numbers of hidden tokens
OBJECTIVE = recipe.build_objective(EXPERIMENT, ())


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Listed:
    folder = tmp_path_factory.mktemp("source")
    paths = [noise_video(folder / "a" / f"{i}.mp4", i) for i in range(VIDEOS)]
    return Listed([Example(path.name, str(path), 0) for path in paths])


@pytest.fixture(scope="module")
def clips(source) -> np.ndarray:
    """Returns the middle clip of every video: uint8 [N T H W 3]."""
    views = eval_views(EXPERIMENT.data, 1, 1)
    return np.stack([read_views(e.video, *views, (0,))[0] for e in source.examples])


@pytest.fixture(scope="module")
def params(clips):
    keys = {"params": jax.random.key(0), "mask": jax.random.key(1)}
    return jax.jit(OBJECTIVE.init)(keys, {"video": jnp.asarray(clips[:1])})["params"]


def evaluator(source, devices=1, objective=OBJECTIVE, **options) -> Reconstruction:
    mesh = sharding.make_mesh(config.Mesh(data=devices), jax.devices()[:devices])
    options = {"batch_size": 2, "pictures": 0, **options}
    judged = dataclasses.replace(EXPERIMENT, eval=dataclasses.replace(EXPERIMENT.eval, **options))
    return Reconstruction(objective, judged, Sources(source, source, (("a",),)), mesh)


@pytest.mark.parametrize("normalised", NORMALISED)
@pytest.mark.parametrize("frames", FRAMES)
def test_a_perfect_prediction_gives_back_the_video(clips, normalised, frames):
    objective = build(target_normalised=normalised, target_frames=frames)
    video = normalise(jnp.asarray(clips), objective.encoder.mean, objective.encoder.std)
    places = jnp.tile(jnp.arange(3, 60, dtype=jnp.int32), (len(video), 1))
    pixels = objective.pixels(take(objective.targets(video), places), video, places)
    true = objective.cut(jnp.asarray(clips))[:, 3:60]
    np.testing.assert_array_equal(np.rint(np.asarray(pixels) * 255), true)


@pytest.mark.parametrize(
    ("frames", "numbers"),
    [("all", range(8)), ("first", (0, 2, 4, 6)), ("linspace", (0, 2, 4, 7))],
)
def test_what_is_cut_is_pasted_back_as_the_frames_that_are_predicted(clips, frames, numbers):
    objective = build(target_frames=frames)
    pasted = objective.paste(objective.cut(jnp.asarray(clips)), (4, 4, 4))
    np.testing.assert_array_equal(pasted, clips[:, list(numbers)])


@pytest.mark.parametrize(
    "options",
    [
        {"mask": "tube"},
        {"mask": "random"},
        {"decoder_mask_ratio": 0.5},
        {"mask": "random", "target_frames": "linspace"},
    ],
    ids=["videomae", "random", "videomae_v2", "mae_st"],
)
def test_panels_are_grey_exactly_where_nothing_is_seen_or_predicted(clips, options):
    objective, axes = build(**options), (4, 4, 4)
    drawn = draw_each(objective, jnp.arange(VIDEOS), axes)
    true = objective.cut(jnp.asarray(clips, jnp.float32) / 255)
    black = jnp.zeros((*drawn.decoded.shape, *true.shape[2:]))
    panels = np.asarray(draw_panels(objective, true, black, drawn, axes))
    original, seen, predicted, both = panels.swapaxes(0, 1)
    np.testing.assert_array_equal(original, clips[:, objective.frames(FRAMES_A_CLIP)])
    depth = original.shape[1] // 4  # frames of a slot
    for b in range(VIDEOS):
        visible, decoded = set(np.asarray(drawn.visible[b])), set(np.asarray(drawn.decoded[b]))
        for place, (t, i, j) in enumerate(np.ndindex(axes)):
            box = np.s_[t * depth : (t + 1) * depth, i * 4 : i * 4 + 4, j * 4 : j * 4 + 4]
            pixels = original[b][box]
            assert np.isin(seen[b][box], GREYS).all() == (place not in visible)
            assert np.isin(predicted[b][box], GREYS).all() == (place not in decoded)
            if place in visible:
                np.testing.assert_array_equal(seen[b][box], pixels)
                np.testing.assert_array_equal(both[b][box], pixels)
            else:
                np.testing.assert_array_equal(both[b][box], predicted[b][box])
            if place in decoded:
                assert not predicted[b][box].any()


@pytest.mark.slow
def test_a_videos_mask_is_its_own():
    together = draw_each(OBJECTIVE, jnp.arange(6), (4, 4, 4))
    alone = draw_each(OBJECTIVE, jnp.array([4]), (4, 4, 4))
    for many, one in zip(together, alone, strict=True):
        np.testing.assert_array_equal(many[4], one[0])
    assert len({tuple(row) for row in np.asarray(together.visible)}) == 6


@pytest.fixture(scope="module")
def expected(clips, params) -> dict[str, float]:
    """Returns the results by the objective's own loss, and by hand."""
    video = normalise(jnp.asarray(clips), OBJECTIVE.encoder.mean, OBJECTIVE.encoder.std)
    drawn = draw_each(OBJECTIVE, jnp.arange(VIDEOS), (4, 4, 4))

    @jax.jit
    def judge(params):
        bound = OBJECTIVE.bind({"params": params})
        return bound.losses(video, drawn).mean(), bound.fill_in(video, drawn)

    loss, predicted = judge(params)
    pixels = OBJECTIVE.pixels(predicted, video, drawn.decoded).clip(0, 1)
    true = np.asarray(OBJECTIVE.cut(jnp.asarray(clips))) / 255
    errors = [
        np.square(np.asarray(pixels[b, m]) - true[b, place]).mean()
        for b, m in np.argwhere(drawn.counts)
        for place in (drawn.decoded[b, m],)
    ]
    return {
        "reconstruction_loss": float(loss),
        "reconstruction_psnr": -10 * np.log10(np.mean(errors)),
        "reconstruction_coverage": 1.0,
    }


@pytest.mark.parametrize(("batch_size", "devices"), [(2, 1), (VIDEOS + 1, 1), (8, 8)])
def test_the_loss_is_the_objectives_own_whatever_the_batch_and_the_devices(
    source, params, expected, tmp_path, batch_size, devices
):
    results = evaluator(source, devices, batch_size=batch_size).run(params, tmp_path, tmp_path)
    assert results.pop("reconstruction_seconds") > 0
    assert results == pytest.approx(expected, rel=1e-5)


@pytest.fixture(scope="module")
def spoilt(source, tmp_path_factory) -> Listed:
    """Returns the same source, whose third video is random bytes."""
    path = tmp_path_factory.mktemp("spoilt") / "noise.mp4"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    examples = list(source.examples)
    examples[2] = Example(path.name, str(path), 0)
    return Listed(examples)


def test_videos_from_the_first_to_the_last_are_drawn_and_unreadable_ones_are_not(
    spoilt, clips, params, tmp_path
):
    judge = evaluator(spoilt, pictures=3)
    assert judge.run(params, tmp_path, tmp_path)["reconstruction_coverage"] == 0.8
    assert [file.name for file in judge.pictures] == [
        f"reconstruction_{i}.{kind}" for i in (0, 4) for kind in ("png", "gif")
    ]
    for video in (0, 4):
        (strip,) = read(tmp_path / f"reconstruction_{video}.png")
        large = 112 // SIZE
        for t in range(FRAMES_A_CLIP):
            left = t * (112 + 4)
            frame = strip[:112:large, left : left + 112 : large]
            np.testing.assert_array_equal(frame, clips[video, t])
        for kind in ("gif", "mp4"):
            frames = read(tmp_path / f"reconstruction_{video}.{kind}")
            assert frames.shape == (FRAMES_A_CLIP, 112, 4 * 112 + 3 * 4, 3)


def test_a_strict_evaluation_refuses_an_unreadable_video_by_name(spoilt, params, tmp_path):
    with pytest.raises(InputError, match="1 of 5 videos .*\n  noise.mp4: unreadable: "):
        evaluator(spoilt, strict=True).run(params, tmp_path, tmp_path)


def test_another_objective_is_refused_by_name(source):
    classify = recipe.build_objective(experiment(), [("a", "b")])
    with pytest.raises(InputError, match=r"config\.eval\.evaluators: 'reconstruction' .*leave it"):
        evaluator(source, objective=classify)


def test_pretraining_on_all_videos_that_there_are_needs_no_evaluation(source, tmp_path):
    mesh, nothing = sharding.make_mesh(EXPERIMENT.mesh), Listed([])
    assert make_evaluators(OBJECTIVE, EXPERIMENT, Sources(source, nothing, ()), mesh) == ()
    named = dataclasses.replace(EXPERIMENT.eval, evaluators=("reconstruction",))
    named = dataclasses.replace(EXPERIMENT, eval=named)
    with pytest.raises(InputError, match="There are no videos to evaluate on"):
        make_evaluators(OBJECTIVE, named, Sources(source, nothing, ()), mesh)


@pytest.mark.slow
def test_a_run_leaves_pictures_in_its_workdir_and_in_tensorboard(tmp_path):
    root = str(tmp_path / "videos")
    for i in range(16):
        noise_video(tmp_path / "videos" / ("val" if i % 2 else "train") / "a" / f"{i}.mp4", i)
    sections = {"data": {"root": root, "frames": 4}, "eval": {"pictures": 2}}
    objective = {"name": "masked_pixels", **DECODER, "mask_ratio": 0.5}
    whole = experiment(
        **sections,
        model={"pool": "mean"},
        objective=objective,
        optim={"learning_rate": 1e-3},
        train={"steps": 2, "evaluate_every": 1},
    )
    results = train.run(whole, tmp_path / "run")
    assert results["reconstruction_psnr"] > 5
    lines = metrics.read_lines(tmp_path / "run" / metrics.RESULTS)
    assert [line["reconstruction_coverage"] for line in lines] == [1, 1]
    names = {f"reconstruction_{i}.{kind}" for i in (0, 7) for kind in ("png", "gif", "mp4")}
    folder = tmp_path / "run/evaluation/00000002-eval"
    assert {file.name for file in folder.iterdir()} == names
    events = EventAccumulator(str(tmp_path / "run"), {"tensors": 0}).Reload()
    pictures = {f"eval/{name}" for name in names if not name.endswith("mp4")}
    assert pictures <= set(events.Tags()["tensors"])
    assert [event.step for event in events.Tensors("eval/reconstruction_7.gif")] == [1, 2]
