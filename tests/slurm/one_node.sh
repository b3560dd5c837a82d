#!/bin/sh
# Run a command with a SLURM cluster of one node, this machine: sh tests/slurm/one_node.sh COMMAND [ARGUMENT ...]
# Needs root, and Debian's packages slurm-wlm and munge. Everything is written to a temporary folder (kept if
# SLURM_KEEP is set) and ends with the command; nothing is written to /etc. CPUS=N: the node has N CPUs, by default 12.
set -eu

[ "$(id -u)" = 0 ] || { echo "error: a SLURM cluster is started by root" >&2; exit 2; }
for program in munged slurmctld slurmd; do
    command -v $program >/dev/null || { echo "error: no $program: apt-get install slurm-wlm munge" >&2; exit 2; }
done

folder=$(mktemp -d)
chmod 755 "$folder"
mkdir "$folder/spool" "$folder/state" "$folder/log"
host=$(hostname -s)
port=$((20000 + $$ % 20000))
started=""
ready=""

stop() {
    if [ -n "$ready" ]; then
        scancel --full --signal=KILL --user=root || true
        for _ in $(seq 50); do [ -z "$(squeue --noheader)" ] && break; sleep 0.2; done
    fi
    for process in $started; do kill "$process" 2>/dev/null || true; done
    for process in $started; do wait "$process" 2>/dev/null || true; done
    if [ -n "${SLURM_KEEP:-}" ]; then echo "kept: $folder" >&2; else rm -rf "$folder"; fi
}
trap stop EXIT
trap 'exit 143' TERM
trap 'exit 130' INT

# munge has a key and a socket of its own, and runs as its user
install -d -o munge -g munge -m 755 "$folder/munge"
head -c 1024 /dev/urandom > "$folder/munge/key"
chown munge: "$folder/munge/key"
chmod 400 "$folder/munge/key"
setpriv --reuid=munge --regid=munge --clear-groups munged --foreground --key-file="$folder/munge/key" \
    --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" --seed-file="$folder/munge/seed" \
    --log-file="$folder/munge/log" 2> "$folder/log/munged.stderr" &
started="$!"

cat > "$folder/slurm.conf" <<CONF
ClusterName=one
SlurmctldHost=$host(127.0.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CryptoType=crypto/munge
SlurmctldPort=$port
SlurmdPort=$((port + 1))
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/log/slurmctld
SlurmdLogFile=$folder/log/slurmd
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=sched_interval=2,requeue_delay=1
KillWait=30
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=${CPUS:-12} RealMemory=100000 State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
CONF
export SLURM_CONF="$folder/slurm.conf"

until [ -S "$folder/munge/socket" ]; do kill -0 "$started"; sleep 0.1; done
for daemon in slurmctld slurmd; do
    $daemon -D 2> "$folder/log/$daemon.stderr" &
    started="$! $started"
done
for _ in $(seq 300); do
    [ "$(sinfo --noheader --format=%T 2>/dev/null)" = idle ] && break
    sleep 0.2
done
[ "$(sinfo --noheader --format=%T)" = idle ] || { cat "$folder"/log/* >&2; exit 1; }
ready=yes

"$@"
