# Runs a program on the node, in the node's cgroup of every cgroup v1 hierarchy; cgroup2's was joined already.
for procs in /sys/fs/cgroup/*/cgroup.procs; do
    group=${procs%/*}
    # As with systemd, all that is no pod weighs as much as one when cores are short.
    if [ -e "$group/cpu.shares" ]; then
        group=$group/system.slice
        mkdir -p "$group"
    fi
    # Where cgroup2 is all there is, these would be groups below the node's.
    [ -e /sys/fs/cgroup/cgroup.procs ] || [ ! -e "$procs" ] || echo 0 >"$group/cgroup.procs"
done
exec "$@"
