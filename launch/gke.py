r"""Starts a run as a JobSet: a manifest with your name, image and flags put in.

    python launch/gke.py --manifest launch/gke_tpu.yaml --name mine --image IMAGE [--wait] \
        --config configs/vivit.py:k400_B --workdir /mnt/shared/runs/mine [FLAG...]

Every other flag goes to the one command. --wait stays until the JobSet has ended, and gives its
verdict as the exit code; without --name it is named after the workdir. --dry-run prints the
manifest and the commands. Exit codes: 0 done, 1 a fault, 2 something given cannot be used.
"""

import argparse
import pathlib
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import yaml

from vivit_jax.errors import InputError
from vivit_jax.terminal import run as run_command

POLL = 15  # seconds
LONGEST_NAME = 40  # a pod's is NAME-hosts-0-0-XXXXX, of at most 63


def main() -> int:
    """Runs the command; returns its exit code."""
    options, flags = parse_options(sys.argv[1:])
    name = options.name or name_of(options.workdir)
    manifest = fill(read(options.manifest), name, options.image, flags)
    apply = ["kubectl", "apply", "--filename=-"]
    poll = ["kubectl", "get", "jobset", name, "--output=jsonpath={.status.terminalState}"]
    if options.dry_run:
        end = [f"{shlex.join(poll)}  # until it says Completed or Failed"] if options.wait else []
        print("\n".join([f"{shlex.join(apply)} <<'EOF'", f"{manifest}EOF", *end]))
        return 0
    if not shutil.which("kubectl"):
        raise InputError("kubectl is not installed, which this needs.")
    code = subprocess.run(apply, input=manifest, text=True).returncode
    return wait(poll) if options.wait and not code else min(code, 1)


def parse_options(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Returns the options of this command, and the flags of the one that the pods run."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--manifest", metavar="FILE", required=True, help="launch/gke_tpu.yaml")
    parser.add_argument("--image", required=True, help="of launch/Dockerfile, with its registry")
    parser.add_argument("--workdir", metavar="DIR", required=True, help="below /mnt/shared")
    parser.add_argument("--name", default="", help="of the JobSet: small letters, digits, hyphens")
    parser.add_argument("--wait", action="store_true", help="stay until it has ended")
    parser.add_argument("--dry-run", action="store_true", help="print, and apply nothing")
    options, flags = parser.parse_known_args(arguments)
    if options.name and options.name != name_of(options.name):
        raise InputError(
            f"--name = {options.name!r}; expected small letters, digits and hyphens, beginning "
            f"with a letter, at most {LONGEST_NAME}: such as {name_of(options.name)}."
        )
    return options, [*flags, f"--workdir={options.workdir}"]


def name_of(text: str) -> str:
    """Returns a name that Kubernetes takes, after a workdir's last folder."""
    words = re.findall(r"[a-z0-9]+", pathlib.PurePosixPath(text).name.lower())
    name = "-".join(words)
    return (name if name[:1].isalpha() else f"vivit-{name}")[:LONGEST_NAME].rstrip("-")


def read(file: str) -> Any:
    """Returns the JobSet of a manifest.

    Raises:
      InputError: it holds no JobSet with a container named train.
    """
    try:
        manifest = yaml.safe_load(pathlib.Path(file).read_text(encoding="utf-8"))
        train_container(manifest)
    except (OSError, yaml.YAMLError, KeyError, TypeError, StopIteration) as error:
        raise InputError(
            f"--manifest={file}: {type(error).__name__}: {error}; expected a JobSet with a "
            "container named train, such as launch/gke_tpu.yaml."
        ) from error
    return manifest


def train_container(manifest: Any) -> Any:
    """Returns the part of a JobSet that names image and flags."""
    pod = manifest["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    return next(container for container in pod["containers"] if container["name"] == "train")


def fill(manifest: Any, name: str, image: str, flags: Sequence[str]) -> str:
    """Returns the manifest's text with these in it."""
    manifest["metadata"]["name"] = name
    container = train_container(manifest)
    container["image"] = image
    # Kubernetes would read $(NAME) in a flag as a variable.
    container["args"] = [flag.replace("$(", "$$(") for flag in flags]
    return yaml.safe_dump(manifest, sort_keys=False, width=1000)


def wait(poll: Sequence[str]) -> int:
    """Returns 0 when the JobSet is Completed, 1 when it is Failed or gone."""
    before = None
    while True:
        found = subprocess.run(poll, capture_output=True, text=True)
        if found.returncode and "NotFound" in found.stderr:
            print(f"error: {found.stderr.strip()}", file=sys.stderr)
            return 1
        state = found.stdout.strip() or ("unknown" if found.returncode else "under way")
        if state != before:
            print(f"{time.strftime('%H:%M:%S')} {state}", flush=True)
        if state in ("Completed", "Failed"):
            return int(state == "Failed")
        before = state
        time.sleep(POLL)


if __name__ == "__main__":
    sys.exit(run_command(main))
