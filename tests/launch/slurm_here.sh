#!/usr/bin/env bash
# A SLURM cluster of this one machine, for as long as a command runs: nothing outside its folder.
#
#     tests/launch/slurm_here.sh FOLDER COMMAND...
#
# Needs munged, slurmctld and slurmd (Debian: apt-get install slurm-wlm munge); exits with COMMAND's
# code. Without cgroups and accounting, so that it runs in a container; two CPUs, one partition.
set -euo pipefail
[ $# -ge 2 ] || { echo "usage: $0 FOLDER COMMAND..." >&2; exit 2; }
PATH="$PATH:/usr/sbin:/sbin"
for program in munged slurmctld slurmd; do
  command -v "$program" >/dev/null || { echo "error: $program is not installed." >&2; exit 2; }
done
mkdir -p "$1"
folder=$(cd "$1" && pwd)
shift
mkdir -p "$folder"/{munge,state,spool,log}
chmod 700 "$folder/munge"
host=$(hostname -s)

free_port() {
  python3 -c 'import socket; s = socket.socket(); s.bind(("", 0)); print(s.getsockname()[1])'
}

cat >"$folder/slurm.conf" <<CONF
ClusterName=here
SlurmctldHost=$host(127.0.0.1)
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/slurmd
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
KillWait=10
MinJobAge=600
SchedulerParameters=sched_interval=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=2 State=UNKNOWN
PartitionName=work Nodes=$host Default=YES MaxTime=60 State=UP PriorityTier=1
PartitionName=urgent Nodes=$host MaxTime=60 State=UP PriorityTier=2
CONF
export SLURM_CONF="$folder/slurm.conf"

pids=()
stop() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
}
trap stop EXIT

head -c 1024 /dev/urandom >"$folder/munge/key"
chmod 600 "$folder/munge/key"
munged --foreground --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
  --pid-file="$folder/munge/pid" --log-file="$folder/munge/log" --seed-file="$folder/munge/seed" \
  2>"$folder/log/munged" &
pids+=($!)
for _ in $(seq 50); do [ -S "$folder/munge/socket" ] && break; sleep 0.1; done
slurmctld -D -c 2>"$folder/log/slurmctld.err" &
pids+=($!)
slurmd -D -c -N "$host" 2>"$folder/log/slurmd.err" &
pids+=($!)
for _ in $(seq 100); do
  [ "$(sinfo -h -p work -o %T 2>/dev/null)" = idle ] && ready=1 && break
  sleep 0.3
done
if [ -z "${ready:-}" ]; then
  echo "error: the cluster did not start; see $folder/log." >&2
  exit 1
fi
"$@"
