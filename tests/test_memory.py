"""What a run that lacks memory tells: what it wanted, what there is, what is large, what helps."""

import errno
import pathlib

import jax
import pytest
import tiny
from faults import runs as tiny_runs

from vivit_jax import host_memory, memory, run
from vivit_jax.errors import Fault, InputError


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    videos = tiny_runs.videos(tmp_path_factory.mktemp("videos"), 8, 2)
    experiment = tiny.experiment(data={"root": str(videos), "labels": "single"})
    return run.prepare(experiment, pathlib.Path(tmp_path_factory.mktemp("run")))


@pytest.mark.parametrize(
    ("message", "size"),
    [
        ("RESOURCE_EXHAUSTED: Out of memory allocating 34359738368 bytes.", 34359738368),
        ("RESOURCE_EXHAUSTED: Out of memory while trying to allocate 1200 bytes.", 1200),
        ("RESOURCE_EXHAUSTED: ... Attempting to allocate 1.50GiB. That was not", 1.5 * 2**30),
        ("Ran out of memory in memory space hbm. Used 20.00G of 15.75G hbm.", 20 * 2**30),
        ("Unable to allocate 7.45 GiB for an array with shape (1000, 1000)", 7.45 * 2**30),
        ("RESOURCE_EXHAUSTED: something else", None),
    ],
)
def test_what_was_wanted_is_read_from_what_libraries_say(message, size):
    assert memory.wanted(message) == size


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (jax.errors.JaxRuntimeError("INTERNAL: something"), False),
    ],
)
def test_only_a_want_of_memory_is_explained(error, is_one, prepared):
    assert memory.for_memory(error) == is_one
    with pytest.raises(Fault if is_one else type(error)), memory.explained(prepared):
        raise error


def test_the_message_has_all_that_one_needs(prepared):
    error = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 5000000 bytes")
    with pytest.raises(Fault) as fault, memory.explained(prepared):
        raise error
    said = str(fault.value)
    assert "wanted: 5.00 MB" in said
    assert "of this host" in said
    assert "parameters " in said
    assert "  params/encoder/" in said
    assert "Lower config.data.batch_size (now 8), or give --config.optim.accumulate=2 and " in said
    assert "python -m vivit_jax.plan" in said
    assert fault.value.__cause__ is error


def test_what_can_never_fit_is_a_matter_of_what_was_given(prepared, monkeypatch):
    monkeypatch.setattr(memory, "room", lambda run: ("1 kB", 1000))
    with pytest.raises(InputError, match="there is: 1 kB"), memory.explained(prepared):
        raise MemoryError


def test_a_step_that_takes_more_than_there_is_is_refused_before_it_is_begun(prepared, monkeypatch):
    step = jax.jit(lambda x: jax.numpy.sort(x @ x.T)).lower(jax.ShapeDtypeStruct((999, 9), float))
    compiled = step.compile()
    memory.enough(prepared, compiled)
    size = compiled.memory_analysis().temp_size_in_bytes * len(prepared.mesh.local_devices)
    monkeypatch.setattr(
        host_memory, "rooms", lambda: [host_memory.Room("of a crumb", 9 * size, size - 1)]
    )
    with pytest.raises(MemoryError, match=f"allocate {size} bytes; .* of a crumb") as error:
        memory.enough(prepared, compiled)
    assert memory.wanted(str(error.value)) == size
