"""What a plan tells: bytes by shapes and by the compiler, what is sent, and what makes it fit."""

import dataclasses
import json
import pathlib
import subprocess
import sys
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from recipes import ROOT

from vivit_jax import hardware, plan, run, sharding
from vivit_jax.errors import InputError
from vivit_jax.memory import held as bytes_held
from vivit_jax.planning import advice, collectives, devices, estimate, memory, tell, videos

MESH = {"dcn": 1, "data": 2, "fsdp": 2, "sequence": 1, "tensor": 2}
SOURCES = videos.counted(80, (3,))


def fleet(kind: str = "h100") -> devices.Fleet:
    """Eight devices that the tests have."""
    return devices.Fleet(kind, jax.devices(), "accelerator", "XLA for CPUs")


def run_of(**sections) -> run.Run:
    experiment = tiny.experiment(data={"batch_size": 16}, **sections)
    return estimate.prepare(experiment, SOURCES, fleet())


def test_a_plan_scans_what_is_recomputed_of_the_models_that_can():
    scanned = run_of(model={"remat": "full"}).experiment.model
    assert (scanned["remat"], scanned["scan"]) == ("full", True)
    recipe_of = tiny.experiment(data={"batch_size": 16})
    model = {"name": "frame_model", "frame": "vit", "time": "transformer", "size": "mu", "patch": 8}
    experiment = dataclasses.replace(recipe_of, model={**model, "remat": "full"})
    plain = estimate.prepare(experiment, SOURCES, fleet()).experiment.model
    assert plain["remat"] == "full"
    assert "scan" not in plain


@pytest.mark.parametrize("freeze", [(), ("encoder/blocks/.*",)])
def test_bytes_by_shapes_are_those_of_the_shards_that_a_device_holds(freeze):
    prepared = run_of(mesh=MESH, optim={"average": 0.9, "freeze": freeze})
    state, batch = prepared.init(), run.batch_shapes(prepared)
    held = bytes_held(prepared, batch)

    def of_first(tree):
        shards = [leaf.addressable_shards[0].data for leaf in jax.tree.leaves(tree)]
        return sum(shard.nbytes for shard in shards)

    assert held.parameters == of_first(state.params)
    assert held.optimiser == of_first(state.opt_state)
    assert held.average == of_first(state.average)
    one = 4 * tiny.SIZE**2 * 3 + 4 + 1 + 4 + 4  # pixels, label, valid, position, index
    assert held.batch == 4 * one


def test_a_plan_s_compiled_step_takes_the_state_and_batch_that_shapes_tell():
    prepared = run_of(mesh=MESH)
    found = estimate.plan(prepared, fleet(), 0.4)
    steps = 8  # two counters of the state
    assert found.used.arguments == found.held.arguments + steps
    assert found.fits
    assert found.parameters == sum(leaf.size for leaf in jax.tree.leaves(prepared.state.params))
    assert {axis for row in found.traffic for axis in row.axes} == {"data", "fsdp", "tensor"}
    assert found.compute == pytest.approx(
        2 * found.costs.step * 16 / 8 / (0.4 * hardware.CHIPS["h100"].float32)
    )
    assert found.fastest <= found.slowest
    text = tell.in_words(found, "80 (as given)")
    assert "It fits into 80.00 GB." in text
    assert "encoder/blocks/block_*/mlp_in/kernel" in text
    assert json.loads(json.dumps(tell.as_object(found)))["fits"]


def test_large_arrays_that_every_device_has_whole_are_named(monkeypatch):
    prepared = run_of(mesh=MESH, model={"positions": "learned"})
    monkeypatch.setattr(sharding, "LARGE", 16)
    whole = {group.path for group in memory.groups(prepared) if group.whole}
    assert "encoder/blocks/block_*/mlp_in/kernel" not in whole
    assert "encoder/tubelets/bias" in whole


def program(mesh):
    """Five products with a matrix split by rows, each summed over tensor; and a sum of all."""

    def run(x, w):
        def body(x, _):
            place = NamedSharding(mesh, P("data", None))
            return jax.lax.with_sharding_constraint(jnp.tanh(x @ w), place), None

        return jax.lax.scan(body, x, None, length=5)[0].sum()

    def shape(sides, *spec):
        return jax.ShapeDtypeStruct(sides, jnp.float32, sharding=NamedSharding(mesh, P(*spec)))

    out = NamedSharding(mesh, P())
    x, w = shape((64, 128), "data", None), shape((128, 128), "tensor", None)
    return jax.jit(run, out_shardings=out).lower(x, w).compile()


def test_what_is_sent_is_counted_as_often_as_a_loop_runs_and_by_the_mesh_s_axes():
    mesh = jax.make_mesh((2, 4), ("data", "tensor"), axis_types=(AxisType.Auto,) * 2)
    found = collectives.collectives(program(mesh).as_text() or "", 8)
    size = 32 * 128 * 4  # bytes of a device's part of x
    (inside,) = [one for one in found if one.size == size]
    assert (inside.kind, inside.axes(mesh.shape), inside.times) == ("all-reduce", ("tensor",), 5)
    assert inside.sent(together=8) == (5 * 2 * size * 3 / 4, 0)
    assert {one.size for one in found} == {size, 4}
    # On nodes of four, "data" goes from node to node.
    sums = collectives.totals(found, mesh.shape, together=4)
    assert sums["all-reduce", ("data",)] == (1, 0, 2 * 4 / 2)


@pytest.mark.parametrize(
    ("kind", "sent"),
    [
        ("all-reduce", (2 * 800 * 3 / 4, 2 * 200 / 2)),
        ("all-gather", (800 * 3 / 4, 200 / 2)),
        ("reduce-scatter", (800 * 3 / 4, 200 / 2)),
    ],
)
def test_a_group_of_two_nodes_sends_over_links_within_and_a_share_between(kind, sent):
    one = collectives.Collective(kind, 800, np.arange(8)[None], 1, "")
    assert one.sent(together=4) == pytest.approx(sent)


@pytest.mark.parametrize(
    ("groups", "axes"),
    [
        ("replica_groups={{0,1},{2,3},{4,5},{6,7}}", ("tensor",)),
        ("replica_groups={{0,4},{1,5},{2,6},{3,7}}", ("data",)),
        ("replica_groups=[4,2]<=[8]", ("tensor",)),
        ("replica_groups=[2,4]<=[4,2]T(1,0)", ("data", "fsdp")),
        ("replica_groups=mesh['a'=2,'b'=2,'c'=2] {'b'}", ("fsdp",)),
        ("replica_groups=mesh['a'=4,'b'=2] {'a'}", ("data", "fsdp")),
        ("replica_groups={}", ("data", "fsdp", "tensor")),
        ("source_target_pairs={{0,2},{2,0},{1,3},{3,1}}", ("fsdp",)),
    ],
)
def test_groups_are_read_in_every_form_and_named_by_axes(groups, axes):
    kind = "collective-permute" if "pairs" in groups else "all-reduce"
    text = f"ENTRY %main (p: f32[3]) -> f32[3] {{\n  %x = f32[3]{{0}} {kind}(%p), {groups}\n}}"
    (one,) = collectives.collectives(text, 8)
    assert one.axes({"data": 2, "fsdp": 2, "tensor": 2}) == axes
    assert one.size == 12


def test_a_tpu_s_loop_tells_its_trips_by_its_condition_and_fusions_are_counted_once():
    gather = (
        "%g = bf16[8,4]{1,0:T(8,128)(2,1)} all-gather(%p), channel_id=7, replica_groups=[1,8]<=[8]"
    )
    text = f"""
%below (p: (s32[])) -> pred[] {{
  %constant.1 = s32[]{{:T(128)}} constant(12)
  ROOT %lt = pred[]{{:T(512)}} compare(%i, %constant.1), direction=LT
}}

%beside (p: bf16[1,4]) -> bf16[8,4] {{
  ROOT {gather}
}}

%beside.clone (p: bf16[1,4]) -> bf16[8,4] {{
  ROOT {gather}
}}

%body (p: (s32[])) -> (s32[]) {{
  %begin = (bf16[8,4]{{1,0}}) fusion(%p), kind=kCustom, calls=%beside
  ROOT %end = (bf16[8,4]{{1,0}}) fusion(%begin), kind=kCustom, calls=%beside.clone
}}

ENTRY %main (p: s32[]) -> s32[] {{
  ROOT %while = (s32[]) while(%t), condition=%below, body=%body
}}"""
    (one,) = collectives.collectives(text, 8)
    assert (one.times, one.size) == (12, 64)


@pytest.mark.slow
def test_where_it_does_not_fit_the_first_change_that_does_is_named(monkeypatch):
    experiment = tiny.experiment(
        data={"batch_size": 32, "image_size": 32},
        model={"remat": "full"},
        train={"evaluate": False},
    )

    def planned(experiment):
        prepared = estimate.prepare(experiment, SOURCES, fleet())
        return estimate.plan(prepared, fleet(), 0.4)

    whole, halves = experiment, advice.changed(experiment, optim={"accumulate": 2})
    assert planned(halves).used.total < planned(whole).used.total
    between = (planned(halves).used.total + 1) / (1 - estimate.SPARE)
    chip = dataclasses.replace(hardware.CHIPS["h100"], memory=between)
    monkeypatch.setitem(hardware.CHIPS, "h100", chip)
    refused = planned(whole)
    assert not refused.fits
    found = advice.first_that_fits(whole, refused, planned)
    assert found is not None
    change, plan = found
    assert change.options == ("--config.optim.accumulate=2",)
    assert plan.fits
    assert planned(change.experiment).fits
    assert "It fits with --config.optim.accumulate=2:" in tell.in_words_of_a_change(change, plan)


def test_what_is_tried_goes_from_the_cheapest_on_and_splits_parameters_where_they_are_too_large():
    experiment = tiny.experiment(mesh={"data": 4, "fsdp": 2})
    prepared = estimate.prepare(experiment, SOURCES, fleet())
    held = bytes_held(prepared, run.batch_shapes(prepared))
    mesh, small = dict(prepared.mesh.shape), held.arguments / 2
    for room, first, last in (
        (2**40, "--config.model.remat=dots", "--config.mesh.data=1"),
        (small, "--config.mesh.data=1 --config.mesh.fsdp=8", "--config.mesh.data=1"),
    ):
        before = types.SimpleNamespace(held=held, room=room, mesh=mesh)
        tried = [" ".join(change.options) for change in advice.candidates(experiment, before)]
        assert tried[0] == first
        assert last in tried[-1]
        assert len(set(tried)) == len(tried)


def test_a_compiler_s_refusal_tells_how_much_there_would_have_to_be():
    temporaries = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
        "temporaries (16.01G) exceeds available HBM (15.75G)."
    )
    found = memory.refused(temporaries, 1000)
    assert found is not None
    assert found.temporaries == 16.01 * 2**30
    whole = "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space"
    found = memory.refused(f"{whole} hbm. Used 20.00G of 15.75G hbm.", 2**30)
    assert found is not None
    assert found.total == 20 * 2**30
    assert memory.refused("INTERNAL: something else", 0) is None


@pytest.mark.parametrize(
    ("kind", "chips", "shape"),
    [
        ("v5e", 8, "2x4"),
        ("v5e", 256, "16x16"),
        ("v5p", 8, "2x2x2"),
        ("v5p", 64, "4x4x4"),
        ("v5p", 128, "4x4x8"),
        ("v6e", 32, "4x8"),
    ],
)
def test_slices_have_the_shapes_that_there_are(kind, chips, shape):
    assert devices.slice_shape(kind, chips) == shape


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--devices", "8"], "--config is missing"),
        (["--config", "configs/quickstart.py", "--mfu", "40"], "--mfu=40"),
        (["--config", "configs/quickstart.py", "--classes", "many"], "--classes=many"),
        (["--config", "configs/quickstart.py", "--chips=8"], "Unknown flag --chips=8"),
    ],
)
def test_a_command_line_that_cannot_be_used_is_refused(arguments, message, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(InputError, match=message.replace("-", r"\-")):
        plan.parse(arguments)


def test_an_unknown_kind_and_a_slice_that_is_none_are_refused():
    with pytest.raises(InputError, match="expected one of v4, v5e.*Did you mean 'h100'"):
        devices.find("h10", 8)
    with pytest.raises(InputError, match="at most 256. More slices are config.mesh.dcn"):
        devices.slice_shape("v5e", 512)


def test_numbers_of_videos_come_from_flags_data_sets_or_the_videos_and_else_are_asked_for(tmp_path):
    recipe = tiny.experiment(train={"steps": -1})
    _, sources, whose = videos.find(recipe, like="k400")
    assert (len(sources.train), whose) == (214_834, "k400")
    assert len(sources.label_map) == 400
    _, sources, _ = videos.find(recipe, videos=70, classes=(5, 6))
    assert [len(names) for names in sources.label_maps] == [5, 6]
    with pytest.raises(InputError, match="--videos=NUMBER"):
        videos.find(recipe)
    for name in ("a", "b"):
        tiny.noise_video(pathlib.Path(tmp_path, "train", name, "0.mp4"), 0)
    there = tiny.experiment(train={"steps": -1}, data={"root": str(tmp_path), "holdout": 0.0})
    _, sources, whose = videos.find(there)
    assert (len(sources.train), whose) == (2, str(tmp_path))
    assert likely_is("configs/vivit.py:k400_B", "k400")
    assert likely_is("configs/quickstart.py", "")


def likely_is(file, name):
    return plan.likely(file) == name


@pytest.mark.slow
def test_the_command_plans_a_recipe_without_any_accelerator():
    command = [sys.executable, "-m", "vivit_jax.plan", "--config", "configs/vivit.py:k400_B,smoke"]
    flags = ["--devices=16", "--kind=h100", "--json", "--config.mesh.fsdp=4"]
    flags += ["--config.data.batch_size=16"]
    done = subprocess.run(command + flags, cwd=ROOT, capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["mesh"] == {"dcn": 1, "data": 4, "fsdp": 4, "sequence": 1, "tensor": 1}
    assert told["fits"]
    bad = subprocess.run([*command, "--devices=6", "--config.mesh.fsdp=4"], cwd=ROOT)
    assert bad.returncode == 2
