"""What becomes of every parameter when one encoder's weights are put onto another."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from vivit_jax import fitting
from vivit_jax.errors import InputError
from vivit_jax.fitting import Source, Table, fit, resize
from vivit_jax.models import MODELS
from vivit_jax.models.video_transformer import VideoTransformer
from vivit_jax.trees import path_of

CLIP = (1, 4, 16, 16, 3)
DEFAULT = {"size": "mu", "tubelet": (2, 8, 8), "pool": "mean", "positions": "sincos_3d"}


def shapes_of(clip=CLIP, **options):
    """Returns the shapes of an encoder's parameters by path, its grid and its options."""
    model = {**DEFAULT, **options}
    encoder = VideoTransformer(**model)
    tree = jax.eval_shape(encoder.init, jax.random.key(0), jnp.zeros(clip, jnp.uint8))["params"]
    leaves = jax.tree_util.tree_leaves_with_path({"encoder": tree})
    return {path_of(keys): x.shape for keys, x in leaves}, encoder.grid(*clip[1:4]), model


def source_of(clip=CLIP, left=(), **options):
    """Returns weights that look like no other's."""
    shapes, axes, model = shapes_of(clip, **options)
    rng = np.random.default_rng(0)
    params = {path: rng.normal(size=shape).astype(np.float32) for path, shape in shapes.items()}
    return Source("elsewhere", params, axes, model, left)


def fitted(source, clip=CLIP, **options):
    target, axes, model = shapes_of(clip, **options)
    values, account = fit(source, target, axes, model)
    return values, account, target


def image_of(**options):
    """Returns an image model's weights."""
    options = {"pool": "class_token", "positions": "learned", "tubelet": (1, 8, 8), **options}
    return source_of((1, 1, 16, 16, 3), **options)


def refusal(source, clip=CLIP, **options):
    with pytest.raises(InputError) as caught:
        fitted(source, clip, **options)
    return str(caught.value)


def test_the_same_encoder_is_taken_over_whole():
    source = source_of()
    values, account, target = fitted(source)
    assert values.keys() == target.keys()
    assert all(values[path] is source.params[path] for path in target)
    count = sum(x.size for x in source.params.values())
    assert account == [f"  reused   {len(target)} parameters, {count:,} values"]


def test_what_belongs_to_the_objectives_is_fresh_or_dropped():
    source = source_of(left=["decoder/out/kernel", "decoder/blocks/block_0/mlp_in/bias"])
    target, axes, model = shapes_of()
    target["head/kernel"] = (32, 3)
    values, account = fit(source, target, axes, model)
    assert "head/kernel" not in values
    assert account[1:] == [
        "  fresh    head/kernel: this objective's own",
        "  dropped  decoder/out/kernel: its objective's own",
        "  dropped  decoder/blocks/block_*/mlp_in/bias: its objective's own",
    ]


def test_a_norm_of_the_summary_is_fresh_and_the_tokens_norm_dropped():
    values, account, target = fitted(source_of(), norm_summary=True)
    fresh = {f"encoder/blocks/summary_norm/{name}" for name in ("scale", "bias")}
    assert target.keys() - values.keys() == fresh
    assert len(account) == 5
    for name in ("scale", "bias"):
        norm = f"encoder/blocks/norm/{name}: the norm of the summary stands in its place"
        assert f"  dropped  {norm}" in account


@pytest.mark.parametrize("attention", ["factorised_encoder", "factorised_encoder_by_place"])
def test_a_joint_encoder_becomes_the_factorised_encoders_space(attention):
    source = source_of(positions="learned", depth=2)
    options = {"attention": attention, "positions": "learned", "depth": 2}
    values, account, target = fitted(source, temporal_depth=2, **options)
    missing = target.keys() - values.keys()
    assert missing == {path for path in target if path.startswith("encoder/time/")}
    for path in values.keys() - {"encoder/space/position"}:
        assert values[path] is source.params[path.replace("/space/", "/blocks/")]
    assert values["encoder/space/position"].shape == (1, 4, 32)
    whole = source.params["encoder/blocks/position"].reshape(2, 4, 32)
    np.testing.assert_allclose(values["encoder/space/position"][0], whole.mean(axis=0), atol=1e-6)
    line = "encoder/time/block_*/mlp_in/kernel (2 times): the source has no stack over time"
    assert f"  fresh    {line}" in account


def test_updates_and_an_adapter_are_fresh_unless_the_source_has_them():
    plain = {"attention": "factorised_encoder", "temporal_depth": 1}
    adapted = {**plain, "lora_rank": 2, "adapter": 4}
    values, account, target = fitted(source_of(**plain), **adapted)
    fresh = target.keys() - values.keys()
    assert {path.split("/")[-1] for path in fresh if "adapter" not in path} == {"lora_a", "lora_b"}
    assert any("adapter/up/kernel: the adapter starts as the identity" in x for x in account)
    source = source_of(**adapted)
    assert fitted(source, **adapted)[0].keys() == target.keys()
    assert "encoder/adapter/up/kernel: has no place here" in refusal(source, **plain)
    assert "lora_a: is (32, 2) in the so" in refusal(source, **{**adapted, "lora_rank": 3})


def test_a_factorised_encoder_keeps_its_own_time():
    options = {"attention": "factorised_encoder", "temporal_depth": 2}
    source = source_of(**options)
    values, account, target = fitted(source, **options)
    assert values.keys() == target.keys()
    assert len(account) == 1
    values, _, target = fitted(source, norm_summary=True, **options)
    fresh = {f"encoder/time/summary_norm/{name}" for name in ("scale", "bias")}
    assert target.keys() - values.keys() == fresh
    text = refusal(source, attention="factorised_encoder", temporal_depth=3)
    assert "fresh    encoder/time/block_*/mlp_in/kernel: is not in the source" in text
    assert "config.model.temporal_depth = 2 (here 3)" in text


@pytest.mark.parametrize("attention", ["divided", "factorised_self_attention"])
def test_joint_attention_becomes_that_over_space_and_time_starts_anew(attention):
    source = source_of()
    values, account, target = fitted(source, attention=attention)
    block = "encoder/blocks/block_0"
    for part in ("attention_{}/query/kernel", "attention_norm_{}/scale"):
        assert values[f"{block}/{part.format(1)}"] is source.params[f"{block}/{part.format(0)}"]
    missing = {path.split("/")[3] for path in target.keys() - values.keys()}
    assert missing == {"attention_0", "attention_norm_0"} | {
        "zero_dense" for path in target if "zero_dense" in path
    }
    assert not any("dropped" in line for line in account)


@pytest.mark.parametrize("how", ["average", "central_frame"])
def test_an_image_models_kernel_is_inflated_as_the_run_would_start_one(how):
    source = image_of()
    options = {"pool": "class_token", "positions": "learned", "tubelet": (2, 8, 8)}
    values, account, target = fitted(source, tubelet_init=how, **options)
    assert values.keys() == target.keys()
    path = "encoder/tubelets/kernel"
    kernel, image = values[path], source.params[path][0]
    if how == "average":
        np.testing.assert_array_equal(kernel, np.stack([image / 2, image / 2]))
    else:
        np.testing.assert_array_equal(kernel, np.stack([np.zeros_like(image), image]))
    line = f"  inflated {path}: (1, 8, 8, 3, 32) to (2, 8, 8, 3, 32), {how}"
    assert line in account


def test_an_image_models_positions_are_tiled_over_the_slots():
    source = image_of()
    options = {"pool": "class_token", "positions": "learned", "tubelet_init": "average"}
    values, _, _ = fitted(source, (1, 6, 16, 16, 3), **options)
    path = "encoder/blocks/position"
    image, found = source.params[path], values[path]
    assert found.shape == (1, 1 + 3 * 4, 32)
    np.testing.assert_array_equal(found[:, 0], image[:, 0])
    for slot in found[0, 1:].reshape(3, 4, 32):
        np.testing.assert_array_equal(slot, image[0, 1:])


def test_without_an_inflation_or_with_another_patch_an_image_model_is_refused():
    options = {"pool": "class_token", "positions": "learned"}
    text = refusal(image_of(), tubelet_init="lecun_normal", **options)
    assert "encoder/tubelets/kernel: is (1, 8, 8, 3, 32) in the source, and (2, 8, 8, 3" in text
    assert "config.model.tubelet_init = 'lecun_normal' must be one of average, central_" in text
    text = refusal(image_of(tubelet=(1, 4, 4)), tubelet_init="average", **options)
    assert "encoder/tubelets/kernel: is (1, 4, 4, 3, 32) in the source, and (2, 8, 8, 3" in text


def test_an_image_models_class_token_goes_to_space_and_times_is_fresh():
    source = image_of()
    options = {"pool": "class_token", "positions": "learned", "temporal_depth": 1}
    options |= {"attention": "factorised_encoder", "tubelet_init": "central_frame"}
    values, account, target = fitted(source, **options)
    token = source.params["encoder/blocks/class_token"]
    assert values["encoder/space/class_token"] is token
    assert {p for p in target if p not in values} == {p for p in target if "/time/" in p}
    line = "encoder/time/class_token: the source has no stack over time"
    assert f"  fresh    {line}" in account


def test_positions_of_an_image_model_become_those_of_places_and_slots_start_anew():
    source = image_of()
    options = {"pool": "class_token", "positions": "separable", "tubelet": (1, 8, 8)}
    values, account, target = fitted(source, **options)
    assert values["encoder/blocks/position_space"] is source.params["encoder/blocks/position"]
    assert target.keys() - values.keys() == {"encoder/blocks/position_time"}
    assert "position_time: the source has no positions of slots alone" in account[-1]


@pytest.mark.parametrize("attention", ["divided", "factorised_self_attention"])
def test_attention_over_time_starts_as_that_over_space_where_asked(attention):
    source = source_of(depth=2)
    target, axes, model = shapes_of(attention=attention, depth=2)
    values, account = fit(source, target, axes, model, time_from_space=True)
    for path in (p for p in target if "/attention_0/" in p or "/attention_norm_0/" in p):
        assert values[path] is source.params[path]
    missing = target.keys() - values.keys()
    assert missing == {path for path in target if "zero_dense" in path}
    query = "encoder/blocks/block_*/attention_0/query/kernel (2 times)"
    assert f"  copied   {query}: of the attention over space" in account


def test_nothing_to_start_from_space_is_an_error():
    for theirs, ours in (("joint", "joint"), ("divided", "divided")):
        source = source_of(attention=theirs)
        target, axes, model = shapes_of(attention=ours)
        with pytest.raises(InputError, match=r"config\.init_time_from_space = True: the blocks of"):
            fit(source, target, axes, model, time_from_space=True)


def test_attention_over_time_is_never_put_aside_in_silence():
    assert "encoder/blocks/block_*/zero_dense/kernel: has no place here" in refusal(
        source_of(attention="divided"), attention="factorised_self_attention"
    )
    assert "attention_1/query/kernel: has no place here" in refusal(source_of(attention="divided"))


def test_a_class_token_that_one_side_has_is_fresh_or_dropped_with_its_position():
    plain, classed = {"positions": "learned"}, {"positions": "learned", "pool": "class_token"}
    source = source_of(**plain)
    values, account, _ = fitted(source, **classed)
    assert "encoder/blocks/class_token" not in values
    table = source.params["encoder/blocks/position"]
    np.testing.assert_array_equal(values["encoder/blocks/position"], table)  # for merge to complete
    assert any("the class token's row is fresh" in line for line in account)
    source = source_of(**classed)
    values, account, target = fitted(source, **plain)
    assert values.keys() == target.keys()
    table = source.params["encoder/blocks/position"]
    np.testing.assert_array_equal(values["encoder/blocks/position"], table[:, 1:])
    assert any("class_token: this encoder has no class token" in line for line in account)


def test_positions_of_2_by_2_keep_corners_and_means_at_4_by_4():
    table = np.random.default_rng(0).normal(size=(1, 4, 8)).astype(np.float32)
    new = resize(table, Table(0, (1, 2, 2)), Table(0, (1, 4, 4))).reshape(4, 4, 8)
    corners = new[::3, ::3].reshape(4, 8)
    np.testing.assert_allclose(corners, table[0], atol=1e-6)
    np.testing.assert_allclose(new.mean(axis=(0, 1)), table[0].mean(axis=0), atol=1e-6)
    np.testing.assert_allclose(new[0, 1], 0.75 * table[0, 0] + 0.25 * table[0, 1], atol=1e-6)


def test_positions_resize_in_time_and_leave_the_class_tokens_row():
    table = np.random.default_rng(0).normal(size=(1, 1 + 2 * 4, 8)).astype(np.float32)
    new = resize(table, Table(1, (2, 2, 2)), Table(1, (4, 2, 2)))
    np.testing.assert_array_equal(new[:, 0], table[:, 0])
    old, grid = table[0, 1:].reshape(2, 4, 8), new[0, 1:].reshape(4, 4, 8)
    np.testing.assert_allclose(grid[[0, 3]], old, atol=1e-6)
    np.testing.assert_allclose(grid[1], 0.75 * old[0] + 0.25 * old[1], atol=1e-6)


@pytest.mark.parametrize("positions", ["learned", "separable"])
def test_tables_follow_the_grid_of_longer_and_larger_clips(positions):
    options = {"positions": positions, "pool": "class_token"}
    source = source_of(**options)
    values, account, target = fitted(source, (1, 8, 32, 32, 3), **options)
    assert {path: x.shape for path, x in values.items()} == target
    resized = [line for line in account if "resized" in line]
    if positions == "learned":
        assert resized == [
            "  resized  encoder/blocks/position: (1, 9, 32) to (1, 65, 32), "
            "grid (2, 2, 2) to (4, 4, 4)"
        ]
    else:
        assert len(resized) == 2
        time = source.params["encoder/blocks/position_time"]
        np.testing.assert_allclose(
            values["encoder/blocks/position_time"][0, ::3], time[0], atol=1e-6
        )


def test_a_table_of_as_many_rows_on_another_grid_is_not_taken_as_it_is():
    source = source_of((1, 8, 16, 16, 3), positions="learned")  # 4 x 2 x 2
    values, account, _ = fitted(source, (1, 2, 32, 32, 3), positions="learned")  # 1 x 4 x 4
    table = source.params["encoder/blocks/position"]
    assert values["encoder/blocks/position"].shape == table.shape
    assert (values["encoder/blocks/position"] != table).any()
    assert "grid (4, 2, 2) to (1, 4, 4)" in account[1]


@pytest.mark.parametrize(
    ("theirs", "ours", "texts"),
    [
        (
            {"size": "Ti", "depth": 2},
            {"size": "mu", "depth": 2},
            (
                "encoder/blocks/block_*/mlp_in/kernel (2 times): is (192, 768) in the source, and",
                "config.model.size = 'Ti' (here 'mu')",
                "encoder/tubelets/kernel: is (2, 8, 8, 3, 192) in the source, and (2, 8, 8, 3, 32)",
            ),
        ),
        ({"depth": 2}, {"depth": 3}, ("block_*/mlp_in/kernel: is not in the source",)),
        ({"depth": 3}, {"depth": 2}, ("block_*/mlp_in/kernel: has no place here",)),
        ({}, {"tubelet": (4, 8, 8)}, ("config.model.tubelet = (2, 8, 8) (here (4, 8, 8))",)),
        ({"key_bias": False}, {}, ("attention_0/key/bias: is not in the source",)),
        ({"positions": "learned"}, {}, ("position: has no place here", "= 'learned' (here 'sinc")),
        ({}, {"positions": "learned"}, ("encoder/blocks/position: is not in the source",)),
        ({"norm_summary": True}, {}, ("blocks/summary_norm/scale: has no place here",)),
        ({"width": 64}, {"width": 32}, ("config.model.width = 64 (here 32)",)),
    ],
)
def test_what_nothing_explains_is_an_error_that_names_all_of_it(theirs, ours, texts):
    text = refusal(source_of(**theirs), **ours)
    assert text.startswith("config.init_from: elsewhere does not fit this encoder:\n")
    assert all(part in text for part in texts), text


def test_every_option_that_shapes_a_model_is_known_to_the_message():
    fields = {name for model in MODELS.values() for name in model.__dataclass_fields__}
    assert set(fitting.SHAPING) <= fields
