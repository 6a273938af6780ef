import pytest

from vivit_jax.agreement import agree
from vivit_jax.errors import InputError
from vivit_jax.processes import barrier, first_alone, how_to_join, leave

EXPLICIT = {
    "JAX_COORDINATOR_ADDRESS": "host0:1234",
    "JAX_NUM_PROCESSES": "4",
    "JAX_PROCESS_ID": "3",
}
SLURM_STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[1-2]", "SLURM_NTASKS": "2"}


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"SLURM_JOB_ID": "7"},
        {**SLURM_STEP, "SLURM_NTASKS": "1"},
        {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"},  # a batch script, without srun
        {"TPU_WORKER_HOSTNAMES": "localhost"},
    ],
)
def test_one_process_joins_nobody(environment):
    assert how_to_join(environment) is None


@pytest.mark.parametrize(
    "environment",
    [
        SLURM_STEP,
        {"TPU_WORKER_HOSTNAMES": "a,b"},
        {"TPU_PROCESS_ADDRESSES": "a:8476,b:8476"},
    ],
)
def test_what_jax_finds_out_alone_is_left_to_it(environment):
    assert how_to_join(environment) == {}


def test_an_explicit_address_comes_first():
    assert how_to_join({**SLURM_STEP, **EXPLICIT}) == {
        "coordinator_address": "host0:1234",
        "num_processes": 4,
        "process_id": 3,
    }


def test_a_pod_of_an_indexed_job_has_its_number_already():
    pod = {**EXPLICIT, "JAX_PROCESS_ID": "", "JOB_COMPLETION_INDEX": "2"}
    found = how_to_join(pod)
    assert found is not None
    assert found["process_id"] == 2
    assert how_to_join({**pod, **EXPLICIT}) == how_to_join(EXPLICIT)
    assert how_to_join({"JOB_COMPLETION_INDEX": "2"}) is None


def test_one_process_agrees_with_itself_and_waits_for_nobody():
    barrier("here")
    agree("anything", {"config": {"seed": 1}})
    assert first_alone("made", lambda: "a thing") == "a thing"
    assert leave(2) == 2


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"JAX_PROCESS_ID": ""}, "is set, so set JAX_PROCESS_ID too"),
        ({"JAX_PROCESS_ID": "", "JAX_NUM_PROCESSES": ""}, "JAX_NUM_PROCESSES and JAX_PROCESS_ID"),
        ({"JAX_COORDINATOR_ADDRESS": "host0"}, "'host0'; expected HOST:PORT"),
        ({"JAX_PROCESS_ID": "first"}, "JAX_PROCESS_ID.*'first'"),
        ({"JAX_PROCESS_ID": "4"}, "JAX_PROCESS_ID = 4; expected 0 to 3"),
        ({"JAX_PROCESS_ID": "-1"}, "JAX_PROCESS_ID = -1; expected 0 to 3"),
    ],
)
def test_an_address_needs_the_number_and_the_count_of_processes(changed, message):
    with pytest.raises(InputError, match=message):
        how_to_join({**EXPLICIT, **changed})
