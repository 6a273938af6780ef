"""ResNets and GPT-2 as published, live: from real files to ours, and into runs that start there."""

import functools
import logging
import pathlib

import jax
import numpy as np
import pytest
import safetensors.torch
from peers import MOST, difference, features, saved, with_config
from tiny import noise_video

from vivit_jax import config, pretrained, recipe, run, train, trained, transfer
from vivit_jax.errors import InputError
from vivit_jax.models import over_time
from vivit_jax.models.frame_models import FrameModel
from vivit_jax.trees import as_tree, by_path

torch = pytest.importorskip("torch", reason="parity needs the extra `parity`")
transformers = pytest.importorskip("transformers", reason="parity needs the extra `parity`")

RESNETS = {  # Hugging Face's options, at widths unlike the published
    "resnet18": {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [8, 16, 32, 64]},
    "resnet50": {
        "layer_type": "bottleneck",
        "depths": [3, 4, 6, 3],
        "hidden_sizes": [32, 64, 128, 256],
    },
}
PICTURES = np.random.default_rng(0).normal(size=(2, 1, 40, 56, 3)).astype(np.float32)
GPT2 = {"n_embd": 24, "n_layer": 3, "n_head": 2, "n_positions": 12, "vocab_size": 5}


def resnet(name, folder, form="ForImageClassification"):
    """A model of theirs with random weights and statistics, saved in its own format."""
    config = transformers.ResNetConfig(embedding_size=8, num_labels=5, **RESNETS[name])
    model = saved(getattr(transformers, f"ResNet{form}"), config, folder)
    generator = torch.Generator().manual_seed(0)
    for key, value in model.state_dict().items():
        if key.endswith("running_mean"):
            value.copy_(0.3 * torch.randn(value.shape, generator=generator))
        elif key.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    model.save_pretrained(folder)
    return model


def to_torchvision(model, name):
    """Returns a state dict by torchvision's names, which timm's are too."""
    theirs = {
        "resnet.embedder.embedder.convolution": "conv1",
        "resnet.embedder.embedder.normalization": "bn1",
        "classifier.1": "fc",
    }
    for stage, blocks in enumerate(RESNETS[name]["depths"]):
        for i in range(blocks):
            ours, its = f"resnet.encoder.stages.{stage}.layers.{i}", f"layer{stage + 1}.{i}"
            for part, number in (("convolution", 0), ("normalization", 1)):
                theirs[f"{ours}.shortcut.{part}"] = f"{its}.downsample.{number}"
                for j in range(3):
                    theirs[f"{ours}.layer.{j}.{part}"] = f"{its}.{('conv', 'bn')[number]}{j + 1}"
    found = {}
    for key, value in model.state_dict().items():
        module, _, leaf = key.rpartition(".")
        found[f"{theirs[module]}.{leaf}"] = value.clone()
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Returns ResNets as Hugging Face's folder, torchvision's and timm's file, and the models."""
    root, models = tmp_path_factory.mktemp("resnets"), {}
    for name in RESNETS:
        models[name] = resnet(name, root / name)
        state = to_torchvision(models[name], name)
        torch.save(state, root / f"{name}.pth")
        safetensors.torch.save_file(state, root / f"{name}.safetensors")
    return root, models


def sources(root, name):
    return (f"hf:{root / name}", f"resnet:{root / name}.pth", f"resnet:{root / name}.safetensors")


@pytest.mark.parametrize("name", RESNETS)
def test_a_resnet_gives_the_same_from_every_format(name, files):
    root, models = files
    video = torch.from_numpy(np.ascontiguousarray(PICTURES[:, 0].transpose(0, 3, 1, 2)))
    with torch.no_grad():
        theirs = models[name].resnet(video).pooler_output[:, :, 0, 0]
        logits = models[name](video).logits
    loaded = [pretrained.read(source) for source in sources(root, name)]
    for found in loaded[1:]:
        assert found.params.keys() == loaded[0].params.keys()
        assert all(np.array_equal(v, loaded[0].params[k]) for k, v in found.params.items())
    objective, params = loaded[1].build()
    ours = features(objective, params, PICTURES)
    head = params["head"]
    for found, expected in (
        (ours.summary, theirs.numpy()),
        (ours.summary @ head["kernel"] + head["bias"][None], logits.numpy()),
    ):  # nothing keeps random weights' numbers near 1
        assert difference(found, expected) < MOST * np.abs(expected).max()
    assert (objective.encoder.frame, objective.encoder.width) == (name, 8)
    assert loaded[1].experiment.model["mean"] == (0.485, 0.456, 0.406)


def test_an_encoder_alone_is_read_without_a_head(tmp_path):
    resnet("resnet18", tmp_path / "hf", "Model")
    found = pretrained.read(f"hf:{tmp_path / 'hf'}")
    assert found.experiment.objective["name"] == "encode"
    assert not any(path.startswith("head") for path in found.params)
    assert "num_batches_tracked and 19 more: how often the statistics" in "\n".join(found.account)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"depths": [2, 2, 3, 2]}, r"2 \+ 2 \+ 3 \+ 2 blocks of two convolutions; expected one of"),
        ({"downsample_in_first_stage": True}, "downsample_in_first_stage = True; expected False"),
        ({"hidden_sizes": [8, 16, 32, 32]}, r"expected \[8, 16, 32, 64\], as of a resnet18"),
    ],
)
def test_a_resnet_of_another_form_is_refused(changed, message, tmp_path):
    resnet("resnet18", tmp_path / "hf")
    with_config(tmp_path / "hf", changed)
    with pytest.raises(InputError, match=message):
        pretrained.read(f"hf:{tmp_path / 'hf'}")


def test_what_a_file_lacks_or_has_besides_is_listed(files, tmp_path):
    root, _ = files
    state = torch.load(root / "resnet18.pth", weights_only=True)
    state["extra"] = state.pop("layer2.0.bn1.running_var")
    torch.save(state, tmp_path / "file.pth")
    with pytest.raises(InputError, match="unknown  extra") as caught:
        pretrained.read(f"resnet:{tmp_path / 'file.pth'}")
    assert "encoder/frames/stage_1_block_*/norm_0/running_var" in str(caught.value)


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    """Returns a folder of GPT-2's without the words' head, another with it, and the model."""
    root = tmp_path_factory.mktemp("gpt2")
    config = transformers.GPT2Config(**GPT2)
    model = saved(transformers.GPT2Model, config, root / "alone")
    saved(transformers.GPT2LMHeadModel, config, root / "words")
    return root, model


@pytest.mark.parametrize("slots", [12, 5])
def test_gpt2_makes_the_same_of_vectors(slots, gpt2):
    root, model = gpt2
    given = np.random.default_rng(0).normal(size=(2, slots, 24)).astype(np.float32)
    with torch.no_grad():
        theirs = model(inputs_embeds=torch.from_numpy(given)).last_hidden_state
    source = transfer.read_source(f"hf:{root / 'alone'}")
    own = FrameModel(time="gpt2", time_width=24, time_depth=3, time_heads=2)
    time = over_time.TIMES["gpt2"].make(own.time_fields).clone(name=None)
    options = {"axes": (slots, 1, 1), "examples": 2, "train": False}
    init = functools.partial(time.init, **options)
    target = by_path(jax.eval_shape(init, jax.random.key(0), given)["params"])
    shapes = {f"encoder/time/{path}": x.shape for path, x in target.items()}
    source = transfer.first_over_time(source, shapes, slots)
    params = {p.removeprefix("encoder/time/"): x for p, x in source.params.items()}
    apply = jax.jit(functools.partial(time.apply, **options))
    ours = apply({"params": as_tree(params)}, given)
    assert difference(ours.tokens, theirs) < MOST
    assert difference(ours.summary, theirs.mean(dim=1)) < MOST


def test_words_are_left_and_a_part_is_no_model(gpt2, tmp_path):
    root, _ = gpt2
    found = pretrained.read(f"hf:{root / 'words'}")
    account = "\n".join(found.account)
    assert "words, of which a clip has none" in account
    assert all(path.startswith("encoder/time/") for path in found.params)
    for use in (pretrained.load, trained.find):
        with pytest.raises(InputError, match="holds encoder/time/ alone, which is no model"):
            use(f"hf:{root / 'words'}")


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    root = tmp_path_factory.mktemp("videos")
    for i in range(12):
        noise_video(root / f"{'train' if i < 8 else 'val'}/{'ab'[i % 2]}/{i}.mp4", i)
    return root


def experiment_of(videos, init_from, optim, model):
    """Returns a small experiment of a frame model."""
    sections = {
        "data": {"root": str(videos), "batch_size": 8, "frames": 4, "stride": 1, "image_size": 32},
        "model": {"name": "frame_model", **model},
        "objective": {"name": "classify"},
        "optim": optim,
        "train": {"steps": 2, "log_every": 1},
        "eval": {"clips": 1},
    }
    sections["data"]["workers"] = 1
    return config.parse(recipe.experiment(init_from=init_from, **sections).to_dict())


def started(videos, workdir, init_from, **model):
    """Returns the parameters that a run takes from elsewhere, by path, and the shapes of all."""
    given = experiment_of(videos, init_from, {}, model)
    prepared = run.prepare(given, workdir)
    params = prepared.state.params
    axes = prepared.objective.encoder.grid(4, 32, 32)
    taken = transfer.load(init_from, params, axes, given.model)
    return {path: np.asarray(x) for path, x in taken.items()}, by_path(params)


def test_a_run_starts_from_a_resnet_and_from_gpt2(files, gpt2, videos, tmp_path, caplog):
    caplog.set_level(logging.INFO, "vivit_jax")
    frames, time = f"resnet:{files[0] / 'resnet18.pth'}", f"hf:{gpt2[0] / 'words'}"
    own = {"frame_norm": "batch", "width": 8, "time_width": 24, "time_heads": 2, "time_depth": 2}
    params, _ = started(videos, tmp_path, f"{frames},{time}", time="gpt2", **own)
    one, other = (pretrained.read(source).params for source in (frames, time))
    alike = [path for path in params if "/frames/" in path or "/block_" in path]
    assert len(alike) == len([path for path in one if "/frames/" in path]) + 2 * 16
    for path in alike:
        np.testing.assert_array_equal(params[path], {**one, **other}[path])
    position = other["encoder/time/position"]
    np.testing.assert_array_equal(params["encoder/time/position"], position[:, :4])
    assert "the first 4 of 12 positions, and the first 2 blocks over time" in caplog.text
    assert "fresh    encoder/embed/kernel: frames and time have widths of their own" in caplog.text
    assert "dropped  head/kernel: its objective's own" in caplog.text


def test_a_run_starts_from_an_image_vit_on_each_frame(videos, tmp_path):
    file = pathlib.Path(__file__).parent / "golden/augreg_vit_wide.npz"
    found = pretrained.read(f"augreg:{file}")
    dims = {k: found.experiment.model[k] for k in ("width", "depth", "heads", "mlp_dim", "pool")}
    patch = found.experiment.model["tubelet"][1]
    started_from = found.params["encoder/blocks/position"]
    params, _ = started(
        videos, tmp_path, f"augreg:{file}", frame="vit", time="gru", patch=patch, **dims
    )
    place = "encoder/frames/space/block_0/attention_0/query/kernel"
    np.testing.assert_array_equal(
        params[place], found.params["encoder/blocks/block_0/attention_0/query/kernel"]
    )
    assert params["encoder/frames/space/position"].shape[2] == started_from.shape[2]


def test_a_run_starts_from_gpt2_alone_and_frames_are_fresh(gpt2, videos, tmp_path, caplog):
    caplog.set_level(logging.INFO, "vivit_jax")
    own = {"width": 4, "time_width": 24, "time_heads": 2, "time_depth": 1}
    params, every = started(videos, tmp_path, f"hf:{gpt2[0] / 'alone'}", time="gpt2", **own)
    assert not [path for path in params if "/frames/" in path]
    assert params.keys() == {path for path in every if "/time/" in path}
    theirs = pretrained.read(f"hf:{gpt2[0] / 'alone'}").params
    place = "encoder/time/block_0/mlp_in/kernel"
    np.testing.assert_array_equal(params[place], theirs[place])
    assert "the source has nothing that sees frames" in caplog.text


def test_sources_that_hold_the_same_or_do_not_fit_are_refused(files, gpt2, videos, tmp_path):
    frames, time = f"resnet:{files[0] / 'resnet18.pth'}", f"hf:{gpt2[0] / 'alone'}"
    own = {"width": 8, "time_width": 24, "time_heads": 2, "time_depth": 3}
    refusals = {
        "both hold encoder/time/": (f"{time},{time}", {"time": "gpt2", **own}),
        "encoder/time/block_.*has no place here": (time, {"time": "lstm", **own}),
        "running_mean: has no place here": (frames, {"time": "lstm", **own}),
        "encoder/frames/stem_conv/kernel: is .*8.* in the source": (
            frames,
            {"time": "mean", "frame_norm": "batch", "width": 4},
        ),
    }
    for message, (init_from, model) in refusals.items():
        with pytest.raises(InputError, match=message):
            started(videos, tmp_path / "none", init_from, **model)


@pytest.mark.slow
def test_a_run_learns_over_time_on_frozen_frames(files, gpt2, videos, tmp_path):
    frames, time = f"resnet:{files[0] / 'resnet18.pth'}", f"hf:{gpt2[0] / 'words'}"
    own = {"frame_norm": "batch", "width": 8, "time_width": 24, "time_heads": 2, "time_depth": 2}
    start, optim = f"{frames},{time}", {"learning_rate": 1e-3, "freeze": ("frames",)}
    given = experiment_of(videos, start, optim, {"time": "gpt2", **own})
    train.run(given, tmp_path)
    after, _ = trained.read_arrays(trained.find(tmp_path))
    before = pretrained.read(frames).params
    for path, value in after.items():
        if "/frames/" in path:
            np.testing.assert_array_equal(value, before[path])
    place = "encoder/time/block_0/mlp_in/kernel"
    assert np.abs(after[place] - pretrained.read(time).params[place]).max() > 0
