"""launch/tpu_vm.sh against a stand-in of gcloud, whose one worker is a folder of this machine.

The stand-in (gcloud below) plays what the service would say, and runs what a worker is told in a
real shell; so quoting, sessions, exit codes and the way through a preemption are real.
"""

import contextlib
import os
import pathlib
import signal
import subprocess
import time

import pytest

ROOT = pathlib.Path(__file__).parents[2]
FLAGS = ["--config", "configs/vivit.py:k400_B", "--workdir=/mnt/shared/my run"]
ODD = ['--config.data.root=it\'s $HOME; a "b" \\ *', "", "$(id)", "line\nline"]
GCLOUD = r"""#!/usr/bin/env bash
cd "$FAKE" || exit 1
printf '%s ' "${@:3:2}" >>calls; echo >>calls
case "$3 $4" in
  "queued-resources list") cat queue ;;
  "tpu-vm list") cat node ;;
  "queued-resources create") echo ACTIVE >queue; echo READY >node ;;
  "queued-resources delete") : >queue; rm -rf home; mkdir home ;;
  "tpu-vm scp") cp "$5" home/ ;;
  "tpu-vm ssh") for flag in "$@"; do
      case $flag in --command=*) cd home && HOME=$PWD exec bash -c "${flag#--command=}" ;; esac
    done ;;
esac
"""
# python3 of the worker: "installs" the program of the run, in place of uv and pip.
PYTHON3 = r"""#!/usr/bin/env bash
[ "$2 $3" = "uv venv" ] || exit 0
mkdir -p .venv/bin && cp "$FAKE/program" .venv/bin/python
"""
CURL = """#!/usr/bin/env bash
case "${@: -1}" in *endpoints) echo "a:1:10.0.0.1,a:2:10.0.0.2" ;; *) echo 1 ;; esac
"""
PROGRAM = r"""#!/usr/bin/env bash
printf '%s\0' "$JAX_COORDINATOR_ADDRESS" "$JAX_NUM_PROCESSES" "$JAX_PROCESS_ID" "$@" >"$FAKE/words"
echo started >>"$FAKE/starts"
. "$FAKE/plan"
"""


class Service:
    """The stand-in, and the launcher's calls of it."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("bin", "home"):
            (folder / name).mkdir()
        for name, text in (("gcloud", GCLOUD), ("python3", PYTHON3), ("curl", CURL)):
            self.program(f"bin/{name}", text)
        self.program("bin/mountpoint", "#!/bin/sh\n")
        self.program("program", PROGRAM)
        for name in ("queue", "node", "starts", "calls"):
            (folder / name).write_text("")

    def program(self, name, text):
        (self.folder / name).write_text(text)
        (self.folder / name).chmod(0o755)

    def plan(self, text):
        (self.folder / "plan").write_text(text)

    def read(self, name):
        return (self.folder / name).read_text()

    def start(self, *arguments):
        environment = {
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            "FAKE": str(self.folder),
            **{"TPU_NAME": "tpu", "PROJECT": "project", "ZONE": "zone", "SHARED": "host:/share"},
            **{"ACCELERATOR_TYPE": "v5litepod-8", "RUNTIME_VERSION": "v2", "POLL": "0.05"},
            "RETRIES": "1",
        }
        return subprocess.Popen(
            [str(ROOT / "launch/tpu_vm.sh"), *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments):
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    def wait(self, true):
        for _ in range(300):
            if true():
                return
            time.sleep(0.1)
        pytest.fail("nothing came of it within 30 s")


@pytest.fixture
def service(tmp_path):
    service = Service(tmp_path)
    yield service
    pid = tmp_path / "home/vivit_jax/run.pid"
    if pid.exists():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(pid.read_text()), signal.SIGKILL)


def test_from_nothing_to_a_run_and_back(service):
    service.plan("sleep 60")
    for verb in ("create", "install"):
        code, _, err = service.run(verb)
        assert code == 0, err
    assert (service.folder / "home/vivit_jax/vivit_jax/main.py").is_file()
    assert service.run("run", *FLAGS, *ODD)[0] == 0
    service.wait(lambda: (service.folder / "words").exists())
    expected = ["10.0.0.1:8476", "2", "1", "-m", "vivit_jax.main", *FLAGS, *ODD]
    assert service.read("words").split("\0")[:-1] == expected
    assert "vivit_jax: running 0" in service.run("status")[1]
    code, _, err = service.run("run", *FLAGS)  # never twice at once
    assert code == 1
    assert "a run is under way here" in err
    assert service.run("stop")[0] == 0
    assert "vivit_jax: absent" in service.run("status")[1]
    assert service.run("delete")[0] == 0
    assert service.read("starts").count("started") == 1


def test_watch_outlives_a_preemption_and_a_fault(service):
    # The first start is taken away, the second fails, the third ends well.
    service.plan(
        'case $(wc -l <"$FAKE/starts") in\n'
        '1) echo SUSPENDED >"$FAKE/queue"; sleep 5 ;; 2) exit 1 ;; *) exit 0 ;; esac'
    )
    code, _, err = service.run("watch", *FLAGS)
    assert code == 0, err
    assert service.read("starts").count("started") == 3
    assert service.read("calls").count("queued-resources create") == 2
    assert service.read("calls").count("queued-resources delete") == 1
    assert "tpu is SUSPENDED: it is deleted, and asked for again" in err
    assert "workers ended with 1" in err


@pytest.mark.parametrize(("ends", "code", "starts"), [(2, 2, 1), (1, 1, 2)])
def test_watch_tells_the_truth(service, ends, code, starts):
    service.plan(f"exit {ends}")
    assert service.run("watch", *FLAGS)[0] == code
    assert service.read("starts").count("started") == starts


def test_a_slice_whose_machines_are_gone_is_lost_too(service):
    service.plan("exit 0")
    (service.folder / "queue").write_text("ACTIVE\n")
    (service.folder / "node").write_text("PREEMPTED\n")
    code, _, err = service.run("watch", *FLAGS)
    assert code == 0, err
    assert service.read("calls").count("queued-resources delete") == 1


def test_a_gcloud_that_cannot_tell_is_no_reason_to_ask_for_a_slice(service):
    service.program("bin/gcloud", '#!/bin/sh\necho "$@" >>"$FAKE/calls"; exit 1\n')
    assert service.run("watch", *FLAGS)[0] == 1
    assert "create" not in service.read("calls")


def test_a_run_after_another_is_its_own(service):
    service.plan("exit 0")
    assert service.run("watch", *FLAGS)[0] == 0
    assert service.run("watch", *FLAGS)[0] == 0  # is done
    assert service.read("starts").count("started") == 1
    service.plan("exit 2")
    assert service.run("watch", *FLAGS, "--config.seed=1")[0] == 2
    service.plan("sleep 60")
    process = service.start("watch", *FLAGS, "--config.seed=1")  # what was wrong has been mended
    service.wait(lambda: service.read("starts").count("started") == 3)
    process.kill()
    process.communicate()
    code, _, err = service.run("watch", *FLAGS, "--config.seed=2")
    assert (code, "another run is under way on tpu" in err) == (2, True), err
