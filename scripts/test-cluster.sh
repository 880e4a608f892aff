#!/usr/bin/env bash
# Runs sweeps on a real Slurm made on this machine (one controller, three nodes in network namespaces) and breaks
# things on purpose: the merged CSV must equal the local engine's byte for byte each time. Minutes: it says how many at the end.
#   scripts/test-cluster.sh [--stoat PROGRAM] [--only S1,S3] [--keep]
#   S1 plain array   S2 node crashed at a third   S3 link cut for 40 s   S4 controller killed and restarted
#   S5 time limit    S6 full disk on a node       S7 poisoned point
# Needs root, slurmctld, slurmd, slurm-client, munge, iproute2; without them it says so and ends with 77.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

stoat=build/release/bin/stoat only='' keep=0
while (($# > 0)); do
  case "$1" in
    --stoat) stoat=${2:?--stoat needs a program}; shift ;;
    --only) only=,${2:?--only needs names},; shift ;;
    --keep) keep=1 ;;
    -h | --help) sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) echo "test-cluster: unknown option '$1'; expected --stoat PROGRAM, --only NAMES or --keep" >&2; exit 2 ;;
  esac
  shift
done
skip() { echo "test-cluster: skipped, $*"; exit 77; }
[ "$(id -u)" = 0 ] || skip "it needs root (network namespaces)"
for program in slurmctld slurmd sbatch squeue munged ip nsenter unshare; do
  command -v "$program" >/dev/null || skip "$program is missing (scripts/install-deps.sh --slurm)"
done
[ -n "$(ls /sys/fs/cgroup 2>/dev/null)" ] || skip "there is no /sys/fs/cgroup here, which slurmd asks for"
if ! unshare --net --uts --mount true 2>/dev/null || ! ip netns add "stct$$-try" 2>/dev/null; then
  skip "this machine allows no network namespaces"
fi
ip netns del "stct$$-try"
[ -x "$stoat" ] || { echo "test-cluster: no program $stoat; build it, or --stoat PROGRAM" >&2; exit 2; }
stoat=$(realpath "$stoat")

work=$(mktemp -d /tmp/stoat-cluster-XXXXXX)
tag=stct$$
hosts=(ctl n1 n2 n3)
switch=$tag-sw
munged_pid=''
began=$SECONDS
say() { printf '%4d s  %s\n' $((SECONDS - began)) "$*"; }

pids_of() { ip netns pids "$tag-$1" 2>/dev/null || true; }
kill_host() { local p; for p in $(pids_of "$1"); do kill -9 "$p" 2>/dev/null || true; done; }
clean_up() {
  local code=$? host
  for host in "${hosts[@]}"; do kill_host "$host"; done
  [ -z "$munged_pid" ] || kill "$munged_pid" 2>/dev/null || true
  sleep 0.3
  for host in "${hosts[@]}"; do ip netns del "$tag-$host" 2>/dev/null || true; done
  ip netns del "$switch" 2>/dev/null || true
  if ((keep || code)); then echo "test-cluster: logs are in $work"; else rm -rf "$work"; fi
  exit "$code"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# --- hosts: network namespaces around a bridge in a namespace of its own ---------------------------------------------
printf '127.0.0.1 localhost\n10.77.0.1 ctl\n10.77.0.2 n1\n10.77.0.3 n2\n10.77.0.4 n3\n' >"$work/hosts"
ip netns add "$switch"
ip -n "$switch" link add br0 type bridge
ip -n "$switch" link set br0 up
number=0
for host in "${hosts[@]}"; do
  number=$((number + 1))
  ip netns add "$tag-$host"
  ip -n "$switch" link add "v$host" type veth peer name eth0 netns "$tag-$host"
  ip -n "$switch" link set "v$host" master br0
  ip -n "$switch" link set "v$host" up
  ip -n "$tag-$host" addr add "10.77.0.$number/24" dev eth0
  ip -n "$tag-$host" link set eth0 up
  ip -n "$tag-$host" link set lo up
done
# nsenter and not `ip netns exec`, which remounts /sys, so that slurmd finds no cgroup.
on() {
  local host=$1
  shift
  nsenter --net="/run/netns/$tag-$host" unshare --uts --mount bash -c \
    'hostname "$1" && mount --bind "$2" /etc/hosts && export SLURM_CONF="$3" && shift 3 && exec "$@"' \
    _ "$host" "$work/hosts" "$work/slurm.conf" "$@"
}
link() { ip -n "$switch" link set "v$1" "$2"; }

# --- Slurm -----------------------------------------------------------------------------------------------------------
mkdir -p "$work/munge" "$work/state" "$work/log"
head -c 1024 /dev/urandom >"$work/munge/key"
chmod 700 "$work/munge"
chmod 400 "$work/munge/key"
chmod 711 "$work"
mkdir -m 755 "$work/sock"
munged --foreground --force --key-file="$work/munge/key" --socket="$work/sock/munge" --pid-file="$work/munge/pid" \
  --log-file="$work/munge/log" --seed-file="$work/munge/seed" >"$work/log/munged" 2>&1 &
munged_pid=$!
cat >"$work/slurm.conf" <<END
ClusterName=stoat
SlurmctldHost=ctl(10.77.0.1)
AuthType=auth/munge
AuthInfo=socket=$work/sock/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool.%n
SlurmctldPidFile=$work/slurmctld.pid
SlurmdPidFile=$work/slurmd.%n.pid
SlurmctldLogFile=$work/log/slurmctld
SlurmdLogFile=$work/log/slurmd.%n
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SlurmdTimeout=15
SlurmctldTimeout=30
MessageTimeout=10
KillWait=5
JobRequeue=1
SchedulerType=sched/backfill
SchedulerParameters=sched_interval=2,bf_interval=5
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
NodeName=n1 NodeAddr=10.77.0.2 CPUs=2 State=UNKNOWN
NodeName=n2 NodeAddr=10.77.0.3 CPUs=2 State=UNKNOWN
NodeName=n3 NodeAddr=10.77.0.4 CPUs=2 State=UNKNOWN
PartitionName=all Nodes=n1,n2,n3 Default=YES MaxTime=INFINITE State=UP
END
start_controller() { on ctl slurmctld -D >>"$work/log/slurmctld.out" 2>&1 & }
start_node() { on "$1" slurmd -D -N "$1" >>"$work/log/slurmd.$1.out" 2>&1 & }
nodes_idle() { [ "$(on ctl sinfo --noheader --Node --format=%T 2>/dev/null | grep -cx idle)" = 3 ]; }
until_true() {  # seconds, words for the message, command
  local end=$((SECONDS + $1)) what=$2
  shift 2
  until "$@"; do
    ((SECONDS < end)) || { echo "test-cluster: gave up waiting for $what" >&2; return 1; }
    sleep 0.5
  done
}
for _ in $(seq 50); do [ -S "$work/sock/munge" ] && break; sleep 0.1; done
start_controller
for node in n1 n2 n3; do mkdir -p "$work/spool.$node"; start_node "$node"; done
until_true 60 "three idle nodes" nodes_idle || { tail -n 5 "$work"/log/* >&2; exit 1; }
say "$(on ctl sinfo --version), three nodes idle"

# --- sweeps ----------------------------------------------------------------------------------------------------------
cat >"$work/s.yaml" <<'END'
base: hbm3
set: {trace: synth, model: llama-3.1-8b, participation: 64, method: prop, steps: 2}
axes:
  datapath: [mac, gather_add]
  context: [65536, 98304, 131072]
  budget: [128, 512]
  mapping.tiles: [round_robin, contiguous]
  seed: [1, 2]
END
cat >"$work/poison.yaml" <<'END'
base: hbm3
set: {trace: synth, model: llama-3.1-8b, participation: 64, method: prop, datapath: gather_add, budget: 128}
axes:
  context: [1024, 2048, 4096, 8192, 1000000, 16384]
END
points() { "$stoat" sweep status "$1" --json | sed -n 's/.*"done": \([0-9]*\).*/\1/p'; }
some_done() { [ "$(points "$1")" -ge "$2" ]; }
submit() { on ctl "$stoat" sweep submit "$@" >>"$work/log/submit"; }
resume() {  # states
  local node
  for node in $(on ctl sinfo --noheader --Node --states="$1" --format=%N 2>/dev/null); do
    say "    $node was taken out of service by Slurm ($1); resumed"
    on ctl scontrol update "NodeName=$node" State=RESUME >/dev/null 2>&1 || true
  done
}
# What an administrator would do. Slurm lets a requeued task wait for two minutes; when a controller that forgot its last
# seconds gives a task to a node that has it already, it takes the node out of service and may hold the task.
hurry() {
  local job
  resume drain
  for job in $(on ctl squeue --noheader --array --states=PD --format='%i %r' 2>/dev/null | sed -n 's/ BeginTime$//p'); do
    on ctl scontrol update "JobId=$job" StartTime=now >/dev/null 2>&1 || true
  done
  for job in $(on ctl squeue --noheader --array --states=PD --format='%i %r' 2>/dev/null | sed -n 's/ .*[Hh]eld.*$//p'); do
    say "    task $job was held by Slurm; released"
    on ctl scontrol release "$job" >/dev/null 2>&1 || true
  done
}
queue_empty() { hurry; [ -z "$(on ctl squeue --noheader 2>/dev/null || echo unknown)" ]; }
settle() {
  until_true "$1" "the queue to empty" queue_empty || { on ctl squeue --array --format='%i %T %r' >&2; return 1; }
  sleep 1
}
failures=0
verdict() {  # name, what, command...
  local name=$1 what=$2
  shift 2
  if "$@"; then say "$name  ok    $what"; else say "$name  FAIL  $what"; failures=$((failures + 1)); fi
}
same() { cmp "$work/local/results.csv" "$work/$1/results.csv"; }
wanted() { [ -z "$only" ] || [[ $only == *,$1,* ]]; }
# The controller does not ask a node that is down; one that nobody has work for registers by itself only now and then.
nodes_back() {
  nodes_idle && return
  resume drain
  resume down
  return 1
}
all_idle_again() {
  until_true 240 "three idle nodes" nodes_back ||
    { on ctl sinfo --Node --long >&2; on ctl squeue --array --format='%i %T %r' >&2; tail -n 20 "$work/log/slurmctld" >&2; return 1; }
}

"$stoat" sweep run "$work/s.yaml" -o "$work/local" -q
total=$(points "$work/local")
say "local engine: $total points"
third=$((total / 3))

if wanted S1; then
  submit "$work/s.yaml" -o "$work/S1" --shards 12
  settle 240
  verdict S1 "array of 12 tasks: equal bytes" same S1
fi
if wanted S2; then
  submit "$work/s.yaml" -o "$work/S2" --shards 12
  until_true 240 "a third of the points" some_done "$work/S2" "$third"
  kill_host n2
  link n2 down
  say "S2  n2 crashed with $(points "$work/S2") points done"
  settle 300
  link n2 up
  start_node n2
  verdict S2 "node crashed at a third: equal bytes" same S2
  all_idle_again
fi
if wanted S3; then
  submit "$work/s.yaml" -o "$work/S3" --shards 12
  until_true 240 "some points" some_done "$work/S3" 2
  link n2 down
  say "S3  link of n2 cut"
  sleep 40
  link n2 up
  say "S3  link of n2 healed"
  settle 300
  on ctl "$stoat" sweep merge "$work/S3" >"$work/log/S3-merge" || true
  verdict S3 "link cut for 40 s: equal bytes" same S3
  all_idle_again
fi
if wanted S4; then
  submit "$work/s.yaml" -o "$work/S4" --shards 12
  until_true 240 "some points" some_done "$work/S4" 2
  touch "$work/submitted"
  until_true 30 "the controller to save its queue" test "$work/state/job_state" -nt "$work/submitted"
  kill_host ctl
  on ctl timeout 60 "$stoat" sweep status "$work/S4" >"$work/log/S4-status" 2>&1 || true
  say "S4  controller killed; status says: $(tr '\n' ' ' <"$work/log/S4-status")"
  verdict S4 "status says that the queue does not answer" grep -q UNKNOWN "$work/log/S4-status"
  start_controller
  if ! settle 200; then
    say "S4  the controller left tasks behind; cancelled and submitted again"
    on ctl scancel --user=root
    settle 60
    submit "$work/S4" --shards 12
    settle 200
  fi
  if [ ! -e "$work/S4/results.csv" ]; then
    say "S4  the controller forgot the merge job; merged by hand"
    on ctl "$stoat" sweep merge "$work/S4" >"$work/log/S4-merge" || true
  fi
  verdict S4 "controller killed and restarted: equal bytes" same S4
  all_idle_again
fi
if wanted S5; then
  # SIGTERM comes half a minute before the limit of one minute.
  submit "$work/s.yaml" -o "$work/S5" --shards 1 --time 00:01:00
  settle 240
  say "S5  after the time limit: $("$stoat" sweep status "$work/S5" | head -n 1)"
  verdict S5 "the task gave its points back" grep -q interrupted "$work"/S5/slurm/*_0.log
  submit "$work/S5" --shards 6
  settle 240
  verdict S5 "time limit, then submitted again: equal bytes" same S5
fi
if wanted S6; then
  submit "$work/s.yaml" -o "$work/S6" --shards 12 --dry-run
  node=$(pids_of n2 | head -n 1)
  nsenter --mount --target "$node" mount -t tmpfs -o size=4k none "$work/S6/shards"
  submit "$work/S6" --shards 12
  settle 300
  say "S6  with a full disk on n2: $("$stoat" sweep status "$work/S6" | head -n 1)"
  verdict S6 "n2's tasks say that the disk is full" grep -qs "do not fit" "$work"/S6/slurm/*_*.log
  nsenter --mount --target "$node" umount "$work/S6/shards"
  submit "$work/S6" --shards 12
  settle 300
  verdict S6 "full disk on a node, then submitted again: equal bytes" same S6
fi
if wanted S7; then
  limit='64 MiB'
  code=0
  "$stoat" sweep run "$work/poison.yaml" -o "$work/poison-local" --point-memory "$limit" -q || code=$?
  verdict S7 "local engine: exit 5" test "$code" = 5
  submit "$work/poison.yaml" -o "$work/S7" --shards 3 --point-memory "$limit"
  settle 240
  code=0
  "$stoat" sweep merge "$work/S7" >"$work/log/S7-merge" || code=$?
  verdict S7 "merge: exit 5" test "$code" = 5
  verdict S7 "poisoned point: equal rows" cmp "$work/poison-local/results.csv" "$work/S7/results.csv"
  verdict S7 "poisoned point: one failure, named equally" cmp "$work/poison-local/failed.csv" "$work/S7/failed.csv"
  verdict S7 "exactly one failed" test "$(wc -l <"$work/S7/failed.csv")" = 2
fi

if ((failures)); then
  say "$failures checks failed"
  exit 1
fi
say "all checks passed in $((SECONDS - began)) s"
