"""The colours of features are their principal components, place by place; and collapse is seen."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.decomposition import PCA
from test_film import read
from tiny import SIZE, experiment, noise_video

from vivit_jax import metrics, recipe, sharding, train
from vivit_jax.data.examples import Example, Listed, Sources
from vivit_jax.errors import InputError
from vivit_jax.evals.feature_pca import FeaturePCA, over_pixels, principal_components, to_colours
from vivit_jax.run import prepare

VIDEOS = 3
PREDICTOR = {
    "name": "latent_prediction",
    "predictor_width": 16,
    "predictor_depth": 1,
    "predictor_heads": 2,
    "block_scales": (0.15, 0.3),
}


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Listed:
    folder = tmp_path_factory.mktemp("source")
    paths = [noise_video(folder / f"{i}.mp4", i) for i in range(VIDEOS)]
    return Listed([Example(path.name, str(path), 0) for path in paths])


def evaluator(source, attention="joint", **options) -> tuple[FeaturePCA, dict]:
    """Returns an evaluator of a classifier, and parameters."""
    given = experiment(
        model={"attention": attention, "pool": "mean", "temporal_depth": 1},
        eval={"batch_size": 8, **options},
    )
    names = (("a", "b"),)
    objective = recipe.build_objective(given, names)
    clip = {"video": jnp.zeros((1, given.data.frames, SIZE, SIZE, 3), jnp.uint8)}
    init = jax.jit(lambda key: objective.init(key, clip, method="predict")["params"])
    mesh = sharding.make_mesh(given.mesh)
    return FeaturePCA(objective, given, Sources(source, source, names), mesh), init(
        jax.random.key(0)
    )


def test_components_are_scikit_learns_up_to_the_sign():
    features = np.random.default_rng(0).normal(size=(200, 12)).astype(np.float32)
    features = features @ np.diag(np.linspace(3, 0.5, 12)).astype(np.float32) + 5
    golden = PCA(3).fit(features)
    found = principal_components(features)
    np.testing.assert_allclose(found.share, golden.explained_variance_ratio_.sum(), rtol=1e-5)
    wanted = golden.transform(features)
    signs = np.sign((found.places * wanted).sum(axis=0))
    np.testing.assert_allclose(found.places, wanted * signs, atol=1e-4)


def test_the_sign_of_a_component_does_not_hang_on_the_order_of_the_tokens():
    features = np.random.default_rng(1).normal(size=(50, 8)).astype(np.float32)
    found, turned = principal_components(features), principal_components(features[::-1])
    np.testing.assert_allclose(turned.places[::-1], found.places, atol=1e-8)


def test_features_that_are_all_alike_have_no_components_and_one_colour():
    found = principal_components(np.ones((6, 8), np.float32))
    assert np.isnan(found.share)
    assert not to_colours(found.places.reshape(2, 3, 3)).any()


def test_the_extremes_of_a_component_are_its_darkest_and_lightest_over_all_videos():
    places = np.linspace(-1, 1, 600).reshape(2, 100, 3)
    colours = to_colours(places)
    assert (colours[0].min(), colours[1].max()) == (0, 255)
    assert colours[0].max() < colours[1].min()


@pytest.mark.parametrize("slots", [1, 3])
def test_every_pixel_has_the_colour_of_its_token(slots):
    grid, sides = (2, 4), (6, 8, 12)
    colours = np.arange(2 * slots * 8 * 3, dtype=np.uint8).reshape(2, slots * 8, 3)
    clips = over_pixels(colours, grid, sides)
    assert clips.shape == (2, *sides, 3)
    for b, f, y, x in np.ndindex(2, *sides):
        token = np.ravel_multi_index((f // (6 // slots), y // 4, x // 3), (slots, *grid))
        np.testing.assert_array_equal(clips[b, f, y, x], colours[b, token])


@pytest.mark.parametrize(
    "attention", ["joint", "factorised_encoder", pytest.param("space_only", marks=pytest.mark.slow)]
)
def test_features_of_every_arrangement_are_drawn_beside_the_video(source, attention, tmp_path):
    judge, params = evaluator(source, attention, pictures=2)
    results = judge.run(params, tmp_path, tmp_path)
    assert results["feature_videos"] == VIDEOS
    assert 0.1 < results["feature_std"] <= 1
    assert 3 / 32 < results["feature_top3"] < 1
    names = [f"feature_pca_{i}" for i in (0, VIDEOS - 1)]
    assert [file.name for file in judge.pictures] == [
        f"{name}.{kind}" for name in names for kind in ("png", "gif")
    ]
    for name in names:
        assert len(read(tmp_path / f"{name}.mp4")) == 4
        (strip,) = read(tmp_path / f"{name}.png")
        colours = strip[112 + 4 :, :112]
        tokens = colours.reshape(2, 56, 2, 56, 3).transpose(0, 2, 1, 3, 4).reshape(4, -1, 3)
        assert np.ptp(tokens, axis=1).max() == 0
        assert len({tuple(token[0]) for token in tokens}) > 1


def test_a_collapsed_encoder_is_seen_by_its_standard_deviation(source, tmp_path):
    judge, params = evaluator(source, pictures=0)
    norm = params["encoder"]["blocks"]["norm"]
    norm["scale"], norm["bias"] = 0 * norm["scale"], jnp.arange(32.0)
    assert judge.run(params, tmp_path, tmp_path)["feature_std"] < 1e-6
    assert judge.pictures == []
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def pretraining(tmp_path_factory):
    """Returns a tiny run of latent prediction."""
    root = tmp_path_factory.mktemp("videos")
    for i in range(16):
        noise_video(root / ("val" if i % 2 else "train") / "a" / f"{i}.mp4", i)
    return experiment(
        data={"root": str(root), "image_size": 32},
        model={"pool": "mean", "positions": "sincos_3d"},
        objective=PREDICTOR,
        optim={"learning_rate": 1e-3, "average": 0.9},
        train={"steps": 1},
        eval={"pictures": 1},
    )


@pytest.mark.slow
def test_a_run_without_a_result_to_choose_by_keeps_the_newest_checkpoint(pretraining, tmp_path):
    results = train.run(pretraining, tmp_path)
    assert {"feature_std", "feature_top3"} <= results.keys()
    assert metrics.read_lines(tmp_path / metrics.RESULTS)[0]["feature_videos"] == 8
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["1"]
    assert (tmp_path / "evaluation/00000001-eval/feature_pca_0.gif").exists()


def test_a_result_to_choose_by_that_no_evaluator_gives_is_refused(pretraining, tmp_path):
    judged = dataclasses.replace(pretraining.eval, best="feature_std")
    with pytest.raises(InputError, match=r"config\.eval\.best = 'feature_std', and no evaluator"):
        prepare(dataclasses.replace(pretraining, eval=judged), tmp_path)
