"""The manifests: as the code needs them, and as Kubernetes and JobSet would take them.

JobSet's own schema is read from the file that JOBSET_CRD names (jobset.x-k8s.io_jobsets.yaml of its
repository), and Kubernetes' from the package kubernetes-validate; without them these tests skip.
"""

import math
import os
import pathlib
import subprocess
import sys

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]
MANIFESTS = {name: ROOT / f"launch/gke_{name}.yaml" for name in ("tpu", "gpu")}
IMAGE = "region-docker.pkg.dev/project/repository/vivit_jax:1"
FLAGS = ["--config", "configs/vivit.py:k400_B", '--config.data.root=it\'s $HOME: {a} "b" #', "- x"]
PARTS = pytest.mark.parametrize("name", MANIFESTS)


def gke(*arguments):
    return subprocess.run(
        [sys.executable, str(ROOT / "launch/gke.py"), *arguments],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


def filled(name):
    """Returns the manifest that a dry run would apply."""
    done = gke(
        f"--manifest={MANIFESTS[name]}",
        *(f"--image={IMAGE}", "--workdir=/mnt/shared/My run", "--dry-run", *FLAGS),
    )
    assert done.returncode == 0, done.stderr
    first, text = done.stdout.split("\n", 1)
    assert first == "kubectl apply --filename=- <<'EOF'"
    return yaml.safe_load(text.removesuffix("EOF\n"))


def job(manifest):
    (replicated,) = manifest["spec"]["replicatedJobs"]
    return replicated["template"]


def container(manifest):
    (only,) = job(manifest)["spec"]["template"]["spec"]["containers"]
    return only


@PARTS
def test_pods_run_the_one_command_with_the_flags_untouched(name):
    manifest = filled(name)
    assert manifest["metadata"]["name"] == "my-run"
    assert container(manifest)["image"] == IMAGE
    words = container(manifest)["command"] + container(manifest)["args"]
    assert words == ["python", "-m", "vivit_jax.main", *FLAGS, "--workdir=/mnt/shared/My run"]


def test_what_kubernetes_would_expand_stays_a_flag():
    done = gke(
        f"--manifest={MANIFESTS['gpu']}",
        *(f"--image={IMAGE}", "--workdir=w", "--dry-run", "--config.data.root=$(HOME)"),
    )
    assert "--config.data.root=$$(HOME)" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--manifest=no.yaml"], "--manifest=no.yaml: FileNotFoundError"),
        (["--manifest=setup.py"], "expected a JobSet with a container named train"),
        (["--manifest=launch/gke_gpu.yaml", "--name=My_run"], "such as my-run."),
    ],
)
def test_a_job_set_that_cannot_be_is_refused(arguments, message):
    done = gke(*arguments, f"--image={IMAGE}", "--workdir=w", "--dry-run")
    assert (done.returncode, message in done.stderr) == (2, True), done.stderr


@PARTS
def test_hosts_and_accelerators_fit_together(name):
    spec = job(yaml.safe_load(MANIFESTS[name].read_text()))["spec"]
    pod = spec["template"]["spec"]
    (only,) = pod["containers"]
    hosts = spec["completions"]
    assert spec["parallelism"] == hosts
    assert spec["completionMode"] == "Indexed"
    assert only["resources"]["limits"].items() <= only["resources"]["requests"].items()
    if name == "tpu":
        topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")
        chips = only["resources"]["limits"]["google.com/tpu"] * hosts
        assert math.prod(map(int, topology)) == chips
    else:
        given = {entry["name"]: entry for entry in only["env"]}
        assert given["JAX_NUM_PROCESSES"]["value"] == str(hosts)
        (replicated,) = yaml.safe_load(MANIFESTS[name].read_text())["spec"]["replicatedJobs"]
        first = f"$(JOBSET)-{replicated['name']}-0-0.$(JOBSET):"
        assert given["JAX_COORDINATOR_ADDRESS"]["value"].startswith(first)
        assert list(given).index("JOBSET") < list(given).index("JAX_COORDINATOR_ADDRESS")


@PARTS
def test_a_restart_does_not_repeat_what_was_given_wrong(name):
    manifest = yaml.safe_load(MANIFESTS[name].read_text())
    (pods,) = job(manifest)["spec"]["podFailurePolicy"]["rules"]
    assert pods["onExitCodes"] == {"containerName": "train", "operator": "In", "values": [2]}
    (rule,) = manifest["spec"]["failurePolicy"]["rules"]
    assert rule["action"] == "FailJobSet"
    assert manifest["spec"]["failurePolicy"]["maxRestarts"] > 0


@PARTS
def test_kubernetes_takes_the_job(name):
    validate = pytest.importorskip("kubernetes_validate")
    body = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "a"}}
    for manifest in (yaml.safe_load(MANIFESTS[name].read_text()), filled(name)):
        validate.validate({**body, "spec": job(manifest)["spec"]}, "1.34", strict=True)


def closed(schema):
    """Returns a schema that refuses fields which it does not name."""
    if isinstance(schema, list):
        return [closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    schema = {key: closed(part) for key, part in schema.items()}
    if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
        schema.setdefault("additionalProperties", False)
    return schema


@pytest.mark.skipif("JOBSET_CRD" not in os.environ, reason="JOBSET_CRD names no schema")
@PARTS
def test_jobset_takes_the_manifest(name):
    jsonschema = pytest.importorskip("jsonschema")
    crd = yaml.safe_load(pathlib.Path(os.environ["JOBSET_CRD"]).read_text())
    (version,) = (v for v in crd["spec"]["versions"] if v["name"] == "v1alpha2")
    schema = closed(version["schema"]["openAPIV3Schema"])
    schema["properties"]["metadata"] = {"type": "object"}  # which Kubernetes itself checks
    for manifest in (yaml.safe_load(MANIFESTS[name].read_text()), filled(name)):
        jsonschema.validate(manifest, schema)
        container(manifest)["comand"] = ["a"]
        with pytest.raises(jsonschema.ValidationError, match="comand"):
            jsonschema.validate(manifest, schema)
