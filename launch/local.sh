#!/usr/bin/env bash
# Trains on this machine, in one process or in several.
#
#   launch/local.sh [-n PROCESSES] [--devices N] [--dry-run] -- --config FILE --workdir DIR [...]
#
# What follows -- goes to `python -m vivit_jax.main` as it is.
#
#   -n PROCESSES   1 by default. One process drives all GPUs of a machine, or all cores; several are
#                  for trying what a cluster will do, or for one process a GPU.
#   --devices N    of each process: GPUs, where there are some, else CPU devices. By default the
#                  GPUs (those of CUDA_VISIBLE_DEVICES, if it is set) are shared out, or 1 CPU device.
#   --dry-run      prints the command of every process, and starts none.
#
# Environment: PYTHON, else .venv/bin/python here, else python3; JAX_PLATFORMS=cpu uses no GPU.
#
# Process 0 speaks to the terminal; the others to DIR/logs/process_I.log, whose end is shown when
# one fails. When a process ends by anything but 0, the others have 10 s to end too, and are then
# ended; the exit code is that of the first that did. Ctrl-C and SIGTERM go to all, which save and
# leave (130, 143) within 120 s; a second one kills.
set -euo pipefail

readonly GRACE=10   # seconds that processes have to end by themselves
readonly SAVING=120  # seconds that they have when they were asked to stop
here=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

refuse() {
  echo "error: $*" >&2
  exit 2
}

# Sets count, devices, dry_run and command.
parse() {
  count=1 devices="" dry_run=""
  while (($#)); do
    case $1 in
      -n) count=${2-}; shift ;;
      --devices) devices=${2-}; shift ;;
      --devices=*) devices=${1#*=} ;;
      --dry-run) dry_run=yes ;;
      -h | --help) sed -n '2,/^set/{/^set/d;s/^# \{0,1\}//;p;}' "${BASH_SOURCE[0]}"; exit 0 ;;
      --) shift; break ;;
      *) refuse "unknown option $1; the flags of vivit_jax.main follow --, see --help" ;;
    esac
    shift || refuse "an option lacks its value; see --help"
  done
  [[ $count =~ ^[1-9][0-9]*$ ]] || refuse "-n $count: expected a number of processes, from 1"
  [[ -z $devices || $devices =~ ^[1-9][0-9]*$ ]] || refuse "--devices $devices: expected a number"
  (($#)) || refuse "nothing follows --: give --config FILE --workdir DIR, or see --help"
  local python=${PYTHON:-}
  if [[ -z $python ]]; then
    python=python3
    [[ ! -x $here/.venv/bin/python ]] || python=$here/.venv/bin/python
  fi
  command=("$python" -m vivit_jax.main "$@")
}

# Sets gpus, to those that may be used.
find_gpus() {
  gpus=()
  [[ ${JAX_PLATFORMS:-} != cpu ]] || return 0
  if [[ -n ${CUDA_VISIBLE_DEVICES+set} ]]; then
    IFS=, read -ra gpus <<<"$CUDA_VISIBLE_DEVICES"
  elif command -v nvidia-smi >/dev/null; then
    mapfile -t gpus < <(nvidia-smi --query-gpu=index --format=csv,noheader 2>/dev/null)
  fi
}

# Sets settings, the environment of process $1.
set_settings() {
  settings=()
  if ((count > 1)); then
    settings+=("JAX_COORDINATOR_ADDRESS=127.0.0.1:$port" "JAX_NUM_PROCESSES=$count")
    settings+=("JAX_PROCESS_ID=$1")
  fi
  if ((${#gpus[@]})); then
    local each=${devices:-$((${#gpus[@]} / count))}
    local own=("${gpus[@]:$(($1 * each)):each}")
    settings+=("CUDA_VISIBLE_DEVICES=$(IFS=,; echo "${own[*]}")")
  elif [[ -n $devices ]] || ((count > 1)); then
    settings+=("JAX_NUM_CPU_DEVICES=${devices:-1}")
  fi
}

check_gpus() {
  local total=${#gpus[@]}
  ((total)) || return 0
  if [[ -n $devices ]]; then
    ((count * devices <= total)) ||
      refuse "$count processes of $devices GPUs each need $((count * devices)); there are $total"
  else
    ((total % count == 0)) ||
      refuse "$total GPUs cannot be shared by $count processes; give --devices, or another -n"
  fi
}

# Prints the folder that --workdir names.
workdir() {
  local before=""
  for word in "${command[@]}"; do
    [[ $before != --workdir ]] || echo "$word"
    [[ $word != --workdir=* ]] || echo "${word#*=}"
    before=$word
  done
}

free_port() {
  "${command[0]}" - <<'PYTHON'
import random, socket

while True:
    port = random.randrange(20000, 30000)  # below those that connections are given
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError:
            continue
    print(port)
    break
PYTHON
}

# Starts every process; sets pids and logs.
start() {
  local folder
  folder=$(workdir | tail -n 1)
  [[ -n $folder ]] || refuse "--workdir is missing: the folder that everything is written into"
  mkdir -p "$folder/logs"
  set -m  # each process leads a group, so that its decoders end with it
  for ((i = 0; i < count; i++)); do
    set_settings "$i"
    logs[i]=$folder/logs/process_$i.log
    if ((i)); then
      env "${settings[@]}" "${command[@]}" </dev/null >>"${logs[i]}" 2>&1 &
    else
      env "${settings[@]}" "${command[@]}" </dev/null &
    fi
    pids[i]=$!
  done
  set +m
}

# Sends signal $1 to all processes that are left.
tell() {
  for pid in "${pids[@]}"; do
    kill "-$1" -- "-$pid" 2>/dev/null || true
  done
}

# Asks all to stop, by signal $1; kills them at the second call.
# shellcheck disable=SC2329  # the traps call it
stop() {
  if [[ -n $stopped ]]; then
    tell KILL
  else
    tell "$1"
    stopped=$1 deadline=$((SECONDS + SAVING)) next=KILL
  fi
}

# Waits for all; sets code, to the first that is not 0.
watch() {
  local left=("${!pids[@]}") still i ended
  while ((${#left[@]})); do
    still=()
    for i in "${left[@]}"; do
      if kill -0 "${pids[i]}" 2>/dev/null; then
        still+=("$i")
        continue
      fi
      ended=0
      wait "${pids[i]}" || ended=$?
      if ((ended && !code)); then
        code=$ended
        [[ -n $stopped ]] || report "$i"
        deadline=${deadline:-$((SECONDS + GRACE))}
      fi
    done
    left=(${still[@]+"${still[@]}"})
    if [[ -n $deadline ]] && ((SECONDS >= deadline)); then
      tell "$next"
      next=KILL deadline=$((SECONDS + GRACE))
    fi
    sleep 0.2 || true  # Ctrl-C ends it too
  done
}

report() {
  echo "process $1 of $count ended with code $code" >&2
  if (($1)); then
    echo "the end of ${logs[$1]}:" >&2
    tail -n 20 "${logs[$1]}" >&2
  fi
}

parse "$@"
find_gpus
check_gpus
port=0
((count == 1)) || port=$(free_port)
if [[ -n $dry_run ]]; then
  for ((i = 0; i < count; i++)); do
    set_settings "$i"
    printf '%q ' ${settings[@]+env "${settings[@]}"} "${command[@]}"
    echo
  done
  exit 0
fi
if ((count == 1)); then
  set_settings 0
  exec env ${settings[@]+"${settings[@]}"} "${command[@]}"
fi
pids=() logs=() stopped="" deadline="" next=TERM code=0
trap 'stop INT' INT
trap 'stop TERM' TERM
start
watch
exit "$code"
