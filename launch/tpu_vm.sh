#!/usr/bin/env bash
# Trains on a slice of Cloud TPU VMs, from nothing to a run that outlives preemptions.
#
#     launch/tpu_vm.sh [--dry-run] VERB [FLAG...]
#
#     create    asks for the slice by a queued resource, and waits until it is there
#     install   mounts the shared folder and installs this repository, on every worker
#     run       starts the one command on every worker; FLAG... is what it is given
#     status    tells what every worker does
#     tail      follows the log of a worker (WORKER, 0)
#     watch     all of the above until the run is done, anew where the slice was taken: FLAG... as run
#     resume    once what watch does over and over: a lost slice again, and the run where it stopped
#     stop      ends the run on every worker
#     delete    gives the slice back, with its disks
#
# From the environment: TPU_NAME, PROJECT, ZONE, ACCELERATOR_TYPE (v5litepod-16), RUNTIME_VERSION
# (v2-alpha-tpuv5-lite), SHARED (HOST:/EXPORT, an NFS share that every worker mounts as /mnt/shared:
# videos and workdirs lie there). Where wanted: SPOT=1, SERVICE_ACCOUNT (whose rights the workers
# have), SSH_FLAGS (such as --tunnel-through-iap), POLL (30 seconds), RETRIES (3 starts after faults).
# Nothing secret is asked for: workers have the rights of the service account. Exit codes: the run's
# own, 1 a fault, 2 something given cannot be used. See docs/launch_tpu_vm.md.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

refuse() {
  echo "error: $*" >&2
  exit 2
}

tell() { echo "tpu_vm.sh: $*" >&2; }

dry_run=
if [ "${1:-}" = --dry-run ]; then
  dry_run=yes
  shift
fi
verb=${1:-}
[ $# -eq 0 ] || shift

need() { # NAME... of variables
  local name missing=()
  for name in "$@"; do [ -n "${!name:-}" ] || missing+=("$name"); done
  [ ${#missing[@]} -eq 0 ] || refuse "set ${missing[*]}: launch/tpu_vm.sh's first lines tell what."
}

shown() { # WORD... as a line that a shell reads back as these words, with its line breaks
  local word line=
  for word in "$@"; do
    [[ $word =~ ^[[:alnum:]_./:=,@%+-]+$ ]] || word="'${word//\'/\'\\\'\'}'"
    line+="$word "
  done
  echo "${line% }"
}

cloud() { # does what gcloud is given, or prints it
  if [ -n "$dry_run" ]; then
    shown gcloud "$@"
  else
    gcloud "$@"
  fi
}

queue() { # VERB FLAG... of the queued resource
  cloud compute tpus queued-resources "$1" "$TPU_NAME" --project="$PROJECT" --zone="$ZONE" "${@:2}"
}

on() { # WORKER TEXT: what a shell does there
  # shellcheck disable=SC2086  # SSH_FLAGS are several words
  cloud compute tpus tpu-vm ssh "$TPU_NAME" --project="$PROJECT" --zone="$ZONE" \
    --quiet --worker="$1" ${SSH_FLAGS:-} --command="$2"
}

copy() { # FILE, into every worker's home
  # shellcheck disable=SC2086
  cloud compute tpus tpu-vm scp "$1" "$TPU_NAME:" --project="$PROJECT" --zone="$ZONE" \
    --quiet --worker=all ${SSH_FLAGS:-}
}

slice_state() { # ACTIVE; NONE; PREEMPTED, FAILED, SUSPENDED; UNKNOWN; or what it is on its way
  local state
  state=$(gcloud compute tpus queued-resources list --project="$PROJECT" --zone="$ZONE" \
    --filter="name~/$TPU_NAME\$" --format='value(state.state)') || state=UNKNOWN
  if [ "$state" = ACTIVE ]; then # which it may still be for a while after its machines are gone
    state=$(gcloud compute tpus tpu-vm list --project="$PROJECT" --zone="$ZONE" \
      --filter="name~/$TPU_NAME\$" --format='value(state)') || state=UNKNOWN
    case $state in
      READY) state=ACTIVE ;;
      TERMINATED | STOPPED | DELETING | '') state=PREEMPTED ;;
    esac
  fi
  echo "${state:-NONE}"
}

lost() { case $1 in PREEMPTED | FAILED | SUSPENDING | SUSPENDED) ;; *) false ;; esac }

create() {
  need ACCELERATOR_TYPE RUNTIME_VERSION
  local flags=(--node-id="$TPU_NAME" --accelerator-type="$ACCELERATOR_TYPE"
    --runtime-version="$RUNTIME_VERSION")
  [ -z "${SPOT:-}" ] || flags+=(--spot)
  [ -z "${SERVICE_ACCOUNT:-}" ] || flags+=(--service-account="$SERVICE_ACCOUNT")
  queue create "${flags[@]}" && wait_for_slice
}

wait_for_slice() {
  local state before='' unknown=0
  if [ -n "$dry_run" ]; then
    echo "# until its state is ACTIVE:"
    queue describe --format='value(state.state)'
    return
  fi
  while state=$(slice_state); [ "$state" != ACTIVE ]; do
    [ "$state" = "$before" ] || tell "$TPU_NAME is $state."
    before=$state
    if lost "$state" || [ "$state" = NONE ]; then return 1; fi
    [ "$state" != UNKNOWN ] || unknown=$((unknown + 1))
    [ "$unknown" -lt 20 ] || return 1 # gcloud itself cannot tell: signed out, no network
    sleep "${POLL:-30}"
  done
  tell "$TPU_NAME is ACTIVE."
}

install() {
  need SHARED
  [[ $SHARED == *:/* ]] || refuse "SHARED = $SHARED; expected HOST:/EXPORT, an NFS share."
  local folder=FOLDER code=0 commit script
  if [ -n "$dry_run" ]; then
    echo "git archive --format=tar.gz --output=FOLDER/vivit_jax.tar.gz HEAD # tracked files, as they are"
  else
    folder=$(mktemp -d)
    commit=$(git stash create) # tracked files as they are now
    git archive --format=tar.gz --output="$folder/vivit_jax.tar.gz" "${commit:-HEAD}"
    git status --porcelain | sed -n 's/^?? /tpu_vm.sh: not sent, as git does not know it: /p' >&2
  fi
  script="set -e
mountpoint -q /mnt/shared || {
  sudo apt-get -q -o DPkg::Lock::Timeout=600 update
  sudo apt-get -q -o DPkg::Lock::Timeout=600 install -y nfs-common
  sudo mkdir -p /mnt/shared
  sudo mount -t nfs $(shown "$SHARED") /mnt/shared
}
mkdir -p vivit_jax
tar -xzf vivit_jax.tar.gz -C vivit_jax
cd vivit_jax
# uv finds or brings a Python that will do; the image's own may be too old.
PIP_BREAK_SYSTEM_PACKAGES=1 python3 -m pip install --quiet --user uv
python3 -m uv venv --quiet --allow-existing --python '>=3.11,<3.14' .venv
python3 -m uv pip install --quiet --python .venv/bin/python --editable '.[tpu]'"
  if ! copy "$folder/vivit_jax.tar.gz" || ! on all "$script"; then code=1; fi
  [ -n "$dry_run" ] || rm -r "$folder"
  return "$code"
}

# What a worker runs besides the command: the slice's hosts are in each machine's metadata only.
# shellcheck disable=SC2016 # the worker's shell expands it
join_hosts='meta() {
  curl -sf -H Metadata-Flavor:Google \
    "http://metadata.google.internal/computeMetadata/v1/instance/attributes/$1"
}
hosts=$(meta worker-network-endpoints) && index=$(meta agent-worker-number) || exit 1
IFS=, read -ra hosts <<<"$hosts"
if [ ${#hosts[@]} -gt 1 ]; then # each an address, or NAME:ID:ADDRESS
  export JAX_COORDINATOR_ADDRESS="${hosts[0]##*:}:8476"
  export JAX_NUM_PROCESSES=${#hosts[@]} JAX_PROCESS_ID="$index"
fi'

identity() { shown "$@" | cksum | cut -d' ' -f1; } # FLAG...: tells one run from another

# Whether a process of the run is left; one that has ended and was not waited for yet is none.
# shellcheck disable=SC2016 # the worker's shell expands it
alive='alive() { [ -f run.pid ] && ps -o stat= -s "$(cat run.pid)" | grep -q "^[^Z]"; }'

# The run is its own session, so that it outlives the connection. What becomes of it is in files:
# run.sh is what runs, run.id which run that is, run.pid its session, run.log what it says, and
# run.exit how it ended.
run() {
  local script
  [[ " $* " == *" --workdir"* ]] || refuse "--workdir DIR is missing: a folder of /mnt/shared."
  script=$join_hosts$'\n'"exec $(shown .venv/bin/python -m vivit_jax.main "$@")"
  on all "cd vivit_jax || exit 1
$alive
if alive; then
  echo 'error: a run is under way here; see status, stop.' >&2
  exit 1
fi
rm -f run.exit
echo $(identity "$@") >run.id
printf '%s\n' $(shown "$script") >run.sh
setsid nohup bash -c 'bash run.sh; echo \$? >run.exit' >>run.log 2>&1 </dev/null &
echo \$! >run.pid"
}

# shellcheck disable=SC2016 # the worker's shell expands it
status_of_worker=$alive$'\n''tell() { echo "vivit_jax: $1 ${2:-0} on $(hostname)"; exit 0; }
cd vivit_jax 2>/dev/null || tell absent
if [ -n "$wanted" ] && [ "$wanted" != "$(cat run.id 2>/dev/null)" ]; then
  if alive; then tell other; else tell absent; fi
fi
if [ -f run.exit ]; then tell ended "$(cat run.exit)"; elif alive; then tell running; fi
tell absent'

# shellcheck disable=SC2016
stop_on_worker=$alive$'\n''cd vivit_jax && [ -f run.pid ] || exit 0
group=$(cat run.pid)
kill -TERM -- "-$group" 2>/dev/null
for _ in $(seq 60); do alive || exit 0; sleep 1; done
kill -KILL -- "-$group"'

workers() { on all "wanted=${1:-}"$'\n'"$status_of_worker"; } # [IDENTITY of a run]

status() {
  [ -n "$dry_run" ] || tell "$TPU_NAME is $(slice_state)."
  workers
}

ready() { # the slice, asked for anew where it is lost
  local state
  state=$(slice_state)
  if lost "$state"; then
    tell "$TPU_NAME is $state: it is deleted, and asked for again."
    queue delete --quiet --force || return
    while [ "$(slice_state)" != NONE ]; do sleep "${POLL:-30}"; done
    state=NONE
  fi
  case $state in
    ACTIVE) ;;
    NONE) create ;;
    *) wait_for_slice ;;
  esac
}

anew=yes # a run that failed before is started again
states=  # what the workers did when last asked

resume() { # FLAG...: the run goes on, wherever it is
  if [ -n "$dry_run" ]; then
    echo "# where the slice is lost:"
    queue delete --quiet --force
    create
    echo "# where the run is not under way on every worker:"
    on all "$stop_on_worker"
    install
    run "$@"
    return
  fi
  ready || return
  states=$(workers "$(identity "$@")" | grep -o 'vivit_jax: [a-z]* [0-9]*') || return
  if [[ $states == *other* ]]; then
    refuse "another run is under way on $TPU_NAME; see status, and stop."
  fi
  if [[ $states == *absent* || (-n $anew && $states == *"ended "[1-9]*) ]]; then
    tell "the run begins, or goes on from its last checkpoint."
    states=
    on all "$stop_on_worker" && install && run "$@" || return
  fi
  anew=
}

again() { # counts a fault; ends after too many
  failures=$((failures + 1))
  if [ "$failures" -gt "${RETRIES:-3}" ]; then
    tell "that was fault $failures, and RETRIES = ${RETRIES:-3}."
    exit 1
  fi
}

watch() { # FLAG...: until the run ends by itself
  local failures=0 codes
  if [ -n "$dry_run" ]; then
    echo "# every ${POLL:-30} seconds, until every worker has ended with 0:"
    workers "$(identity "$@")"
    resume "$@"
    return
  fi
  while true; do
    if ! resume "$@"; then
      case $(slice_state) in
        PREEMPTED | SUSPENDING | SUSPENDED) ;; # while it was being made: no fault
        *) again ;;
      esac
    elif codes=$(sed -n 's/.*: ended //p' <<<"$states" | sort -nu) && [[ $codes == *[!0]* ]]; then
      tell "workers ended with ${codes//$'\n'/ and }; launch/tpu_vm.sh tail shows why."
      ! grep -qx 2 <<<"$codes" || exit 2 # what was given will not do, and would not again
      ! grep -qvxE '0|130|143' <<<"$codes" || again # these were saved, and stopped
      on all "$stop_on_worker" || true
      run "$@" || true
    elif [[ $states == *ended* && $states != *running* ]]; then
      tell "the run is done."
      return
    fi
    sleep "${POLL:-30}"
  done
}

case $verb in
  create | install | run | status | tail | watch | resume | stop | delete) ;;
  '') refuse "a verb is missing: create, install, run, status, tail, watch, resume, stop, delete." ;;
  *) refuse "no verb $verb; expected create, install, run, status, tail, watch, resume, stop, delete." ;;
esac
need TPU_NAME PROJECT ZONE
if [ -z "$dry_run" ]; then
  command -v gcloud >/dev/null || refuse "gcloud is not installed, which this needs."
fi
case $verb in
  watch | resume)
    need ACCELERATOR_TYPE RUNTIME_VERSION SHARED
    [[ " $* " == *" --workdir"* ]] || refuse "--workdir DIR is missing: a folder of /mnt/shared."
    "$verb" "$@"
    ;;
  run) run "$@" ;;
  *)
    [ $# -eq 0 ] || refuse "$verb takes no flags; found $*."
    case $verb in
      tail) on "${WORKER:-0}" 'tail -n 50 -F vivit_jax/run.log' ;;
      stop) on all "$stop_on_worker" ;;
      delete) queue delete --quiet --force ;;
      *) "$verb" ;;
    esac
    ;;
esac
