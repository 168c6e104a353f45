#!/usr/bin/env bash
# A real SLURM on this machine, for trying things and for tests/cluster: munge, MariaDB, slurmdbd, slurmctld and several
# slurmd, on loopback and in a folder of its own ($TOKEXP_CLUSTER, else /tmp/tokexp-cluster-UID). Several may run at once.
#
#   slurm/dev_cluster.sh up [--nodes N]      start it and wait until its nodes can be used; what runs already stays
#   slurm/dev_cluster.sh status              each daemon, the partitions, the nodes; exit code 1 if something is down
#   slurm/dev_cluster.sh env                 lines for `eval`: after them sbatch, squeue, sacct mean this cluster
#   slurm/dev_cluster.sh node NAME down|up   kill a node's daemon and its jobs as a power cut would; start it again
#   slurm/dev_cluster.sh down                end its jobs and daemons, and remove the folder
#
# Needs root and Debian's packages slurm-wlm, slurmdbd, munge, mariadb-server; neither systemd nor cgroups. Each of the
# nodes n1 to nN has 4 CPUs, 8000 MB and 4 fake GPUs, whatever the machine has. Partitions: main (the default), low
# and low_grace (their jobs are requeued when one of high wants their place; low_grace gives them 10 s first), high.
# Exit codes: 0 done, 1 failed (the daemons' logs are in FOLDER/log), 2 it cannot be done here, and why.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
folder=${TOKEXP_CLUSTER:-/tmp/tokexp-cluster-$(id -u)}
[[ $folder = /* ]] || folder=$PWD/$folder
PATH=$PATH:/usr/sbin:/sbin
export SLURM_CONF=$folder/etc/slurm.conf
# What is asked here, no caller's setting may change.
unset "${!SBATCH_@}" "${!SQUEUE_@}" "${!SINFO_@}" "${!SACCT_@}" SLURM_CLUSTERS

refuse() { printf 'dev_cluster: %s\n' "$@" >&2; exit 2; }

fail() {
  printf 'dev_cluster: %s\n' "$@" "the daemons' logs are in $folder/log; their last errors:" >&2
  grep -hiE 'error|fatal' "$folder"/log/* 2>/dev/null | tail -n 8 >&2 || true
  exit 1
}

check_machine() {
  [ "$(id -u)" = 0 ] || refuse "root is needed: SLURM's daemons start the processes of jobs"
  local pair missing=()
  for pair in slurmctld:slurm-wlm slurmd:slurm-wlm sbatch:slurm-wlm slurmdbd:slurmdbd munged:munge mariadbd:mariadb-server; do
    command -v "${pair%%:*}" >/dev/null || missing+=("${pair##*:}")
  done
  [ ${#missing[@]} -eq 0 ] || refuse "not installed: $(printf '%s\n' "${missing[@]}" | sort -u | paste -sd' ')" \
    "apt-get update && apt-get install -y --no-install-recommends slurm-wlm slurmdbd munge mariadb-server"
  # SLURM's daemons listen on the address of the host's name, which therefore has to be a loopback one.
  [[ $(getent ahostsv4 "$(hostname)" | head -n 1) = 127.* ]] || refuse "the name of this machine, $(hostname), must" \
    "mean a loopback address: put '127.0.0.1 $(hostname)' before the other lines of /etc/hosts"
  # A socket's path holds 107 characters; munge's lock beside it is the longest.
  [ ${#folder} -le 80 ] || refuse "the folder's path is longer than 80 characters: $folder"
  [[ $folder != *[[:space:],\&\|]* ]] || refuse "the folder's path may hold no space, comma, '&' or '|': $folder"
}

# --- Configuration -----------------------------------------------------------

free_ports() {  # free_ports COUNT: the first of that many ports in a row that nothing listens on
  local first port
  for _ in $(seq 200); do
    # Below the range that systems give to outgoing connections.
    first=$((10000 + RANDOM % 20000))
    for ((port = first; port < first + $1; port++)); do
      if (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null; then continue 2; fi
    done
    echo "$first"
    return
  done
  refuse "no $1 free ports in a row between 10000 and 30000"
}

fill() {  # fill TEMPLATE NAME=VALUE...: the template with each @NAME@ replaced
  local template=$1 pair script=()
  shift
  for pair in "$@"; do script+=(-e "s|@${pair%%=*}@|${pair#*=}|g"); done
  sed "${script[@]}" "$here/dev_cluster/$template"
}

write_configuration() {  # write_configuration NODES
  local nodes=$1 port index
  port=$(free_ports $((nodes + 2)))
  mkdir -p "$folder"/{etc,log,pid,spool,state,gpu,munge,mariadb}
  chmod 700 "$folder"
  local words=(
    "FOLDER=$folder" "HOST=$(hostname -s)" "NODES=$nodes" "CLUSTER=tokexp$port"
    "PORT_CTLD=$port" "PORT_DBD=$((port + 1))" "PORT_NODES=$((port + 2))-$((port + 1 + nodes))"
  )
  [ "$nodes" -gt 1 ] || words+=("PORT_NODES=$((port + 2))")
  fill slurmdbd.conf "${words[@]}" >"$folder/etc/slurmdbd.conf"
  chmod 600 "$folder/etc/slurmdbd.conf"
  fill my.cnf "${words[@]}" >"$folder/etc/my.cnf"
  for index in 0 1 2 3; do : >"$folder/gpu/$index"; done
  echo "Name=gpu File=$folder/gpu/[0-3]" >"$folder/etc/gres.conf"
  echo "CgroupAutomount=no" >"$folder/etc/cgroup.conf"
  (umask 077 && head -c 128 /dev/urandom >"$folder/munge/key")
  # Written last: where it is, the configuration is whole.
  fill slurm.conf "${words[@]}" >"$folder/etc/slurm.conf.new"
  mv "$folder/etc/slurm.conf.new" "$folder/etc/slurm.conf"
}

cluster_name() { sed -n 's/^ClusterName=//p' "$SLURM_CONF"; }

node_names() { local n; for ((n = 1; n <= $(sed -n 's/^NodeName=n\[1-\([0-9]*\)\].*/\1/p' "$SLURM_CONF"); n++)); do echo "n$n"; done; }

# --- Processes ---------------------------------------------------------------

# Every process of a job has the cluster's and its node's name in its environment; daemons are started with the same. A
# slurmstepd writes its title over its environment: it is known by its working folder, which it has from its slurmd.
processes() {  # processes [NODE]: the ids of all processes of this cluster, or of one node
  local mark files=(/proc/[0-9]*/environ) step
  for mark in "SLURM_CLUSTER_NAME=$(cluster_name)" ${1:+"SLURMD_NODENAME=$1"}; do
    # /dev/null keeps grep from reading its input where no file is left.
    mapfile -t files < <(grep -lzxF -- "$mark" "${files[@]}" /dev/null 2>/dev/null)
  done
  for step in $(grep -lx slurmstepd /proc/[0-9]*/comm 2>/dev/null); do
    [[ $(readlink "${step%/comm}/cwd") != "$folder/spool/"${1:-*} ]] || files+=("$step")
  done
  # A call from within a job does not end itself.
  printf '%s\n' "${files[@]}" | cut -d/ -f3 | grep . | grep -vxF $$ | sort -un || true
}

pid_of() {  # pid_of DAEMON: its process id, if it lives
  local pid
  pid=$(cat "$folder/pid/$1" 2>/dev/null) || return
  # A number can have been given to another process since.
  grep -qzxF "SLURM_CLUSTER_NAME=$(cluster_name)" "/proc/$pid/environ" 2>/dev/null && echo "$pid"
}

start() {  # start DAEMON COMMAND...: in the background, in a session of its own, unless it lives
  local name=$1
  shift
  if pid_of "$name" >/dev/null; then return; fi
  # Descriptor 9 is the lock of `up`: a daemon that kept it would hold it for ever.
  mkdir -p "$folder/spool/$name"
  (
    cd "$folder/spool/$name"
    export SLURM_CLUSTER_NAME MYSQL_UNIX_PORT=$folder/mariadb/socket
    SLURM_CLUSTER_NAME=$(cluster_name)
    exec setsid "$@" </dev/null >>"$folder/log/$name.out" 2>&1 9>&-
  ) &
  echo $! >"$folder/pid/$name"
}

await() {  # await DAEMON SECONDS COMMAND...: until the command succeeds
  local name=$1 deadline=$((SECONDS + $2))
  shift 2
  until "$@" >/dev/null 2>&1; do
    [ -z "$name" ] || kill -0 "$(cat "$folder/pid/$name")" 2>/dev/null || fail "$name ended while it started: $(tail -n 3 "$folder/log/$name.out")"
    [ $SECONDS -lt $deadline ] || fail "${name:-the cluster} is not ready: '$*' still fails"
    sleep 0.2
  done
}

start_node() { start "$1" env "SLURMD_NODENAME=$1" slurmd -D -N "$1" -f "$SLURM_CONF"; }

start_daemons() {
  local node
  # munged minds who may write to the folders above its own; in /tmp that is everyone, hence --force.
  start munged munged --foreground --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
    --pid-file="$folder/munge/pid" --log-file="$folder/log/munged.log" --seed-file="$folder/munge/seed"
  [ -d "$folder/mariadb/data/mysql" ] || mariadb-install-db --defaults-file="$folder/etc/my.cnf" --user=root \
    --auth-root-authentication-method=socket --skip-test-db >"$folder/log/mariadb-install.out" 2>&1 || fail "MariaDB's tables could not be made"
  start mariadbd mariadbd --defaults-file="$folder/etc/my.cnf"
  await munged 20 munge -n -S "$folder/munge/socket"
  await mariadbd 90 mariadb --no-defaults --socket="$folder/mariadb/socket" -e 'select 1'
  start slurmdbd slurmdbd -D
  await slurmdbd 90 sacctmgr -nP show cluster
  # An account to name in profiles; nobody has to.
  sacctmgr -nP show account format=account | grep -qx research || {
    [ -n "$(sacctmgr -nP show cluster "$(cluster_name)")" ] || sacctmgr -iQ add cluster "$(cluster_name)"
    sacctmgr -iQ add account research && sacctmgr -iQ add user root account=research
  } >/dev/null || fail "the cluster could not be entered in the accounting"
  start slurmctld slurmctld -D -f "$SLURM_CONF"
  for node in $(node_names); do
    start_node "$node"
  done
}

# --- Commands ----------------------------------------------------------------

usable() {
  local states
  states=$(sinfo -hN -p main -o %T) && [ -n "$states" ] && ! grep -qvxE 'idle|mixed|allocated|completing' <<<"$states"
}

up() {
  local nodes=
  while [ $# -gt 0 ]; do
    [ "$1" = --nodes ] && [[ ${2:-} =~ ^[1-9][0-9]?$ ]] || refuse "write: up [--nodes N], N from 1 to 99"
    nodes=$2
    shift 2
  done
  check_machine
  mkdir -p "$folder"
  exec 9>"$folder/lock"
  flock -w 180 9 || fail "another 'up' or 'down' holds $folder/lock"
  [ -s "$SLURM_CONF" ] || write_configuration "${nodes:-2}"
  local found
  found=$(node_names | wc -l)
  [ "${nodes:-$found}" = "$found" ] || refuse "a cluster of $found nodes is in $folder: 'down' it first, or give another TOKEXP_CLUSTER"
  start_daemons
  # A node that was killed is taken back when its daemon reports.
  await "" 90 usable
  echo "$found nodes in $folder; eval \"\$($here/dev_cluster.sh env)\" makes sbatch mean them"
}

status() {
  local name code=0
  [ -s "$SLURM_CONF" ] || { echo "nothing is up in $folder"; exit 1; }
  for name in munged mariadbd slurmdbd slurmctld $(node_names); do
    if pid_of "$name" >/dev/null; then echo "$name: up"; else echo "$name: down"; code=1; fi
  done
  if pid_of slurmctld >/dev/null; then sinfo || code=1; fi
  exit $code
}

node() {
  [ -s "$SLURM_CONF" ] && [[ " $(node_names | paste -sd' ') " = *" ${1:-} "* ]] && [[ ${2:-} =~ ^(down|up)$ ]] || refuse "write: node NAME down|up"
  if [ "$2" = up ]; then start_node "$1"; return; fi
  processes "$1" | xargs -r kill -9
}

down() {
  [ -s "$SLURM_CONF" ] || { echo "nothing is up in $folder"; return; }
  exec 9>"$folder/lock"
  flock -w 180 9 || fail "another 'up' or 'down' holds $folder/lock"
  local signal pids
  if pid_of slurmctld >/dev/null; then timeout 20 scancel -u root || true; fi
  for signal in TERM KILL KILL; do
    for _ in $(seq 30); do
      pids=$(processes)
      [ -n "$pids" ] || break 2
      # shellcheck disable=SC2086
      kill -"$signal" $pids 2>/dev/null || true
      sleep 0.3
    done
  done
  pids=$(processes)
  [ -z "$pids" ] || fail "these processes do not end: $pids"
  rm -rf "$folder"
}

case ${1:-} in
  up | status | node | down) "$@" ;;
  env) echo "export TOKEXP_CLUSTER=$folder SLURM_CONF=$SLURM_CONF"; echo 'export PATH="$PATH:/usr/sbin"' ;;
  *) refuse "write: dev_cluster.sh up [--nodes N] | status | env | node NAME down|up | down" ;;
esac
