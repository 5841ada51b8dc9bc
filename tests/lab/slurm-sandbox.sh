#!/usr/bin/env bash
# A throw-away, real Slurm on one machine: munged, slurmctld and N slurmd. All its files are in one
# directory; nothing of /etc, systemd, cgroups or a database is used or touched.
#
#     slurm-sandbox.sh with DIR NODES COMMAND...   private namespaces: up, COMMAND, everything gone
#     slurm-sandbox.sh up DIR NODES                inside namespaces made by somebody else (netlab.sh)
#
# COMMAND finds SLURM_CONF set, and nodes n1 .. nN with 4 CPUs and 4 stand-in GPUs each, in the
# partitions `debug` (jobs can be preempted: requeued) and `high` (preempts). Inside netlab.sh node
# nI runs on host nI; else all nodes share this host, on one port each. SANDBOX_SECS (300) bounds
# the whole. Needs root and the Debian packages slurm-wlm, munge (libpmix-dev for `srun --mpi=pmix`).
set -euo pipefail

CPUS=4
PORT=27000

# Makes the namespaces, then comes back here as `up`, then runs the command.
with() {
  export SLURM_CONF=$dir/slurm.conf
  exec timeout -k 5 "${SANDBOX_SECS:-300}" unshare --pid --fork --kill-child --mount-proc \
    --net --uts --ipc --mount bash "$self" inside "$dir" "$@"
}

inside() {
  local nodes=$1
  shift
  hostname sandbox
  mount -t tmpfs tmpfs /dev/shm
  ip link set lo up
  # Slurm asks the resolver for addresses of families that the machine has, and the loopback does
  # not count: some other interface must have an address.
  ip link add br0 type bridge
  ip addr add 10.77.9.1/32 dev br0
  ip link set br0 up
  echo "127.0.0.1 localhost sandbox" > "$dir/hosts"
  for i in $(seq 1 "$nodes"); do echo "127.0.0.1 n$i" >> "$dir/hosts"; done
  mount --bind "$dir/hosts" /etc/hosts
  up "$nodes"
  local rc=0
  "$@" || rc=$?
  exit $rc
}

# A command on the host of a node.
on() {
  local node=$1
  shift
  if [ -n "${NETLAB:-}" ]; then "$NETLAB/host" "$node" "$@"; else "$@"; fi
}

up() {
  local nodes=$1
  mkdir -p "$dir"/{state,log,run}
  chmod 755 "$dir" "$dir"/*
  (umask 077; head -c 1024 /dev/urandom > "$dir/munge.key")
  # Four more /dev/null: devices that Slurm hands out as GPUs.
  for i in 0 1 2 3; do mknod "$dir/gpu$i" c 1 3; done
  configuration "$nodes" > "$dir/slurm.conf"
  : > "$dir/plugstack.conf"
  echo "Name=gpu File=$dir/gpu[0-3]" > "$dir/gres.conf"
  # Loaded at the start even where nothing uses it.
  echo "CgroupPlugin=cgroup/v1" > "$dir/cgroup.conf"
  munged --force --key-file="$dir/munge.key" --socket="$dir/run/munge.sock" --num-threads=2 \
    --pid-file="$dir/run/munged.pid" --log-file="$dir/log/munged.log" --seed-file="$dir/run/munge.seed"
  export SLURM_CONF=$dir/slurm.conf
  on n1 slurmctld -c -f "$SLURM_CONF"
  for i in $(seq 1 "$nodes"); do
    on "n$i" slurmd -N "n$i" -f "$SLURM_CONF"
  done
  for _ in $(seq 100); do
    [ "$(on n1 timeout 2 sinfo -h -N -p debug -o %T 2>/dev/null | sort -u)" = idle ] && return
    sleep 0.2
  done
  echo "Slurm did not come up:" >&2
  tail -n 20 "$dir"/log/*.log >&2
  exit 1
}

# The text of slurm.conf.
configuration() {
  local controller="localhost(127.0.0.1)"
  [ -z "${NETLAB:-}" ] || controller="n1(10.77.0.1)"
  cat <<CONF
ClusterName=sandbox
SlurmctldHost=$controller
SlurmctldPort=$PORT
SrunPortRange=$((PORT + 100))-$((PORT + 900))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$dir/run/munge.sock
CredType=cred/munge
# Each slurmd listens on the address of its own node only.
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation=$dir/state
SlurmdSpoolDir=$dir/spool/%n
TmpFS=$dir/tmp/%n
SlurmctldPidFile=$dir/run/slurmctld.pid
SlurmdPidFile=$dir/run/slurmd.%n.pid
SlurmctldLogFile=$dir/log/slurmctld.log
SlurmdLogFile=$dir/log/slurmd.%n.log
PlugStackConfig=$dir/plugstack.conf
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
JobCompType=jobcomp/filetxt
JobCompLoc=$dir/log/jobcomp.txt
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
# Jobs start within a second, where a real cluster takes half a minute.
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=1,sched_min_interval=0,bf_interval=1,batch_sched_delay=0
# Nodes may claim more CPUs than the machine has.
SlurmdParameters=config_overrides
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
ReturnToService=2
KillWait=${SANDBOX_KILLWAIT:-2}
MinJobAge=300
SlurmctldTimeout=30
SlurmdTimeout=10
InactiveLimit=0
UnkillableStepTimeout=30
CONF
  local i address
  for i in $(seq 1 "$1"); do
    mkdir -p "$dir/tmp/n$i" "$dir/spool/n$i"
    address="NodeAddr=127.0.0.1 NodeHostname=$(hostname) Port=$((PORT + i))"
    [ -z "${NETLAB:-}" ] || address="NodeAddr=10.77.0.$i NodeHostname=n$i Port=$((PORT + 1))"
    echo "NodeName=n$i $address CPUs=$CPUS RealMemory=4000 Gres=gpu:4 State=UNKNOWN"
  done
  cat <<CONF
PartitionName=debug Nodes=ALL Default=YES MaxTime=60 DefaultTime=5 PriorityTier=1 GraceTime=${SANDBOX_GRACE:-5} PreemptMode=REQUEUE
PartitionName=high Nodes=ALL MaxTime=60 DefaultTime=5 PriorityTier=10 PreemptMode=OFF
CONF
}

self=$(readlink -f "$0")
command=${1:?with or up}
dir=$(mkdir -p "$2" && cd "$2" && pwd)
shift 2
case $command in
  with | inside | up) "$command" "$@" ;;
  *) echo "usage: $0 with DIR NODES COMMAND... | up DIR NODES" >&2; exit 2 ;;
esac
