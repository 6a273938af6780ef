"""Frozen features are of every video once, and are judged alike under every objective."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny import SIZE, experiment, noise_video

from vivit_jax import config, metrics, recipe, sharding, train
from vivit_jax.data.decode import read_views
from vivit_jax.data.examples import Example, Listed, Sources
from vivit_jax.data.views import eval_views
from vivit_jax.errors import InputError
from vivit_jax.evals import EVALUATORS
from vivit_jax.evals.attentive_probe import AttentiveProbe
from vivit_jax.evals.by_summary import BySummary
from vivit_jax.run import make_evaluators

NAMES = ("left", "right")
VIDEOS, BAD = 10, 3
JUDGES = ("linear_probe", "attentive_probe", "knn", "retrieval")
GRID = {"learning_rates": (0.1, 0.01), "weight_decays": (0.01,), "batch_size": 4}
FEW = {"clips": 2, "linear_epochs": 3, "attentive_epochs": 3, "chosen_by": 0.3, **GRID}
PRETRAINING = {"name": "masked_pixels", "mask_ratio": 0.5, "decoder_width": 16, "decoder_heads": 2}
EXPERIMENT = experiment(
    model={"pool": "mean"},
    objective={**PRETRAINING, "decoder_depth": 1},
    eval={"evaluators": JUDGES, "batch_size": 4},
    probe=FEW,
)
OBJECTIVE = recipe.build_objective(EXPERIMENT, [NAMES])


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Sources:
    """Returns training and held-out videos, of which one of each is random bytes."""
    folder = tmp_path_factory.mktemp("source")
    paths = [noise_video(folder / f"{i}.mp4", i) for i in range(VIDEOS + 5)]
    for bad in (BAD, VIDEOS + BAD):
        paths[bad].write_bytes(np.random.default_rng(0).bytes(5000))
    examples = [Example(path.name, str(path), i % 2) for i, path in enumerate(paths)]
    return Sources(Listed(examples[:VIDEOS]), Listed(examples[VIDEOS:]), (NAMES,))


@pytest.fixture(scope="module")
def params():
    clip = jnp.zeros((1, EXPERIMENT.data.frames, SIZE, SIZE, 3), jnp.uint8)
    keys = {"params": jax.random.key(0), "mask": jax.random.key(1)}
    return jax.jit(OBJECTIVE.init)(keys, {"video": clip})["params"]


def mesh(devices: int) -> jax.sharding.Mesh:
    return sharding.make_mesh(config.Mesh(data=devices), jax.devices()[:devices])


def probing(evaluator, sources, devices=1, **options):
    probe = dataclasses.replace(EXPERIMENT.probe, **options)
    given = dataclasses.replace(EXPERIMENT, probe=probe)
    return evaluator(OBJECTIVE, given, sources, mesh(devices))


@pytest.mark.parametrize("devices", [1, 4])
def test_each_video_is_encoded_once_as_the_mean_of_its_views(sources, params, devices, tmp_path):
    evaluator = probing(BySummary, sources, devices)
    found = evaluator._encoder.encode(params["encoder"], sources.train, "train", tmp_path)
    good = [i for i in range(VIDEOS) if i != BAD]
    assert found.videos.tolist() == good
    assert found.labels.tolist() == [i % 2 for i in good]
    assert (found.size, [record["id"] for record in found.bad]) == (VIDEOS, [f"{BAD}.mp4"])

    views = eval_views(EXPERIMENT.data, FEW["clips"], 1)
    clips = [read_views(str(sources.train.example(i).video), *views, (0,)) for i in good]
    encode = jax.jit(OBJECTIVE.encoder.apply)  # type: ignore[attr-defined]
    alone = [encode({"params": params["encoder"]}, jnp.asarray(x)).summary.mean(0) for x in clips]
    np.testing.assert_allclose(found.features, np.stack(alone), atol=1e-5)


def test_an_evaluation_tells_what_it_left_out(sources, params, tmp_path):
    results = probing(BySummary, sources).run(params, tmp_path, tmp_path)
    assert results["frozen_coverage"] == 4 / 5
    assert results["frozen_train_coverage"] == 9 / 10
    lines = metrics.read_lines(tmp_path / "bad_videos.jsonl")
    bad = {(line["id"], line["split"]) for line in lines}
    assert bad == {(f"{BAD}.mp4", "train"), (f"{VIDEOS + BAD}.mp4", "eval")}
    assert [path.name for path in tmp_path.iterdir()] == ["bad_videos.jsonl"]


@pytest.mark.slow
def test_tokens_are_kept_or_encoded_anew_and_the_probes_are_the_same(sources, params, tmp_path):
    trained, found = [], []
    for devices, cache in ((1, 4.0), (1, 0.0), (4, 4.0)):
        run = probing(AttentiveProbe, sources, devices, cache=cache, learning_rates=(0.01,))
        train_probes = run._train
        run._train = lambda *given, do=train_probes: trained.append(do(*given)) or trained[-1]
        results = run.run(params, tmp_path, tmp_path)
        found.append({k: v for k, v in results.items() if not k.endswith("seconds")})
    assert found[0] == found[1]
    assert found[0]["attentive_probe_coverage"] == 4 / 5
    assert found[0]["attentive_probe_train_coverage"] == 9 / 10
    (kept, count), (anew, _), (shared, shared_count) = trained
    assert count == shared_count == 6  # of 10, 3 choose and one is bad
    jax.tree.map(np.testing.assert_array_equal, kept.params, anew.params)
    for a, b in zip(jax.tree.leaves(kept.params), jax.tree.leaves(shared.params), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4)


@pytest.mark.parametrize("name", JUDGES)
def test_what_cannot_be_judged_is_refused(sources, name):
    def made(changed: config.Experiment, videos: Sources = sources):
        return EVALUATORS[name](OBJECTIVE, changed, videos, mesh(1))

    multi = dataclasses.replace(EXPERIMENT.data, labels="multi")
    with pytest.raises(InputError, match="data.labels = 'multi' gives any number"):
        made(dataclasses.replace(EXPERIMENT, data=multi))
    seen = dataclasses.replace(EXPERIMENT.eval, split="train")
    with pytest.raises(InputError, match="config.eval.split = 'train' would judge by what"):
        made(dataclasses.replace(EXPERIMENT, eval=seen))
    with pytest.raises(InputError, match="10 training and 0 held-out videos"):
        made(EXPERIMENT, dataclasses.replace(sources, eval=Listed([])))


def test_what_encodes_for_several_judges_is_made_once(sources):
    made = make_evaluators(OBJECTIVE, EXPERIMENT, sources, mesh(1))
    assert [type(evaluator) for evaluator in made] == [BySummary, AttentiveProbe]
    names = [name for evaluator in made for name in evaluator.results]
    assert len(set(names)) == len(names)
    assert {"linear_probe_top1", "knn_top1", "retrieval_recall_at_1"} <= set(made[0].results)


def test_a_strict_evaluation_refuses_an_unreadable_video(sources, params, tmp_path):
    strict = dataclasses.replace(EXPERIMENT.eval, strict=True, evaluators=("knn",))
    given = dataclasses.replace(EXPERIMENT, eval=strict)
    with pytest.raises(InputError, match=f"1 of 5 videos .*\n  {VIDEOS + BAD}.mp4: unreadable"):
        BySummary(OBJECTIVE, given, sources, mesh(1)).run(params, tmp_path, tmp_path)


@pytest.mark.slow
def test_a_pretraining_run_is_judged_by_all_of_them(tmp_path):
    for i in range(12):
        noise_video(tmp_path / "videos" / "ab"[i % 2] / f"{i}.mp4", i)
    given = experiment(
        data={"root": str(tmp_path / "videos"), "holdout": 0.4},
        model=EXPERIMENT.model,
        objective=EXPERIMENT.objective,
        train={"steps": 1},
        eval={"evaluators": JUDGES, "best": "knn_top1"},
        probe={**FEW, "batch_size": 8},
    )
    results = train.run(given, tmp_path / "run")
    lines = metrics.read_lines(tmp_path / "run/results.jsonl")
    assert [line["step"] for line in lines] == [1]
    named = {"linear_probe_top1", "attentive_probe_top1", "knn_top1", "retrieval_recall_at_1"}
    assert named <= set(results)
    assert all(0 <= results[name] <= 1 for name in named)
    again = dataclasses.replace(given, train=dataclasses.replace(given.train, steps=0))
    alone = train.run(again, tmp_path / "run")
    assert {k: v for k, v in alone.items() if not k.endswith("seconds")} == {
        k: v for k, v in results.items() if not k.endswith("seconds")
    }
    assert json.loads((tmp_path / "run/config.json").read_text())["probe"]["clips"] == 2
