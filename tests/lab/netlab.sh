#!/usr/bin/env bash
# A network laboratory on one machine: hosts n1 .. nN (10.77.0.1 .. N) joined by netsim, a switch
# that can delay, lose and cut. Each host has a network, a host name, a /dev/shm and a TMPDIR of its
# own; the file system is shared, as a cluster's is.
#
#     netlab.sh N SCRIPT [ARGS...]
#
# Inside SCRIPT:
#     $NETLAB/host n1 COMMAND...     runs a command on a host
#     $NETLAB/rsh n1 COMMAND...      the same in the shape of ssh, for mpirun
#     $NETLAB/ctl COMMAND...         set all delay=25 rate=50 loss=0.01 | cut n1 | cut n1 n2 | heal | stat
#
# Everything lives in private namespaces that the kernel removes when SCRIPT ends, or after
# NETLAB_SECS (300). Needs root, iproute2 and /dev/net/tun; NETSIM names the switch.
set -euo pipefail

if [ "${NETLAB_INNER:-}" != 1 ]; then
  export NETLAB_INNER=1 NETLAB_HOSTS=$1 NETLAB NETSIM
  shift
  NETSIM=${NETSIM:-$(dirname "$0")/../../target/debug/examples/netsim}
  [ -x "$NETSIM" ] || { echo "netsim is missing: cargo build --example netsim" >&2; exit 1; }
  NETSIM=$(readlink -f "$NETSIM")
  NETLAB=$(mktemp -d)
  rc=0
  # --kill-child: when this shell goes, for whatever reason, so does everything inside.
  timeout -k 5 "${NETLAB_SECS:-300}" unshare --pid --fork --kill-child --mount-proc \
    --net --uts --ipc --mount bash "$0" "$@" || rc=$?
  rm -rf "$NETLAB"
  exit $rc
fi

hostname netlab
ip link set lo up
mkdir -p /run/netns
mount -t tmpfs tmpfs /run/netns
mount -t tmpfs tmpfs /dev/shm

cat > "$NETLAB/host" <<'HOST'
#!/usr/bin/env bash
name=$1
shift
export TMPDIR=$NETLAB/tmp.$name
mkdir -p "$TMPDIR"
exec ip netns exec "$name" unshare --uts --ipc --mount \
  bash -c 'hostname "$0"; mount -t tmpfs tmpfs /dev/shm; exec "$@"' "$name" "$@"
HOST

cat > "$NETLAB/rsh" <<'RSH'
#!/usr/bin/env bash
while [[ $1 == -* ]]; do shift; done
name=$1
shift
exec "$NETLAB/host" "$name" bash -c "$*"
RSH

cat > "$NETLAB/ctl" <<'CTL'
#!/usr/bin/env bash
exec "$NETSIM" ctl "$NETLAB/ctl.sock" "$@"
CTL
chmod +x "$NETLAB"/{host,rsh,ctl}

# Names resolve by a hosts file of our own, laid over the machine's.
echo "127.0.0.1 localhost netlab" > "$NETLAB/hosts"
hosts=()
for i in $(seq 1 "$NETLAB_HOSTS"); do
  ip netns add "n$i"
  hosts+=("n$i=10.77.0.$i/24")
  echo "10.77.0.$i n$i" >> "$NETLAB/hosts"
done
mount --bind "$NETLAB/hosts" /etc/hosts

"$NETSIM" run "$NETLAB/ctl.sock" "${NETLAB_SECS:-300}" "${hosts[@]}" > "$NETLAB/netsim.log" 2>&1 &
for _ in $(seq 100); do
  grep -q ready "$NETLAB/netsim.log" && break
  sleep 0.05
done
grep -q ready "$NETLAB/netsim.log" || { cat "$NETLAB/netsim.log" >&2; exit 1; }
"$@"
