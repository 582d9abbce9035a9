# Removes all traces of one lab; what is gone already is no error.
# $1 id, $2 runtime directory, $3 cgroup
if [ -d "$3" ]; then
    echo 1 2>/dev/null >"$3/cgroup.kill"
    tries=0
    while grep -qs '^populated 1' "$3/cgroup.events" && [ $tries -lt 250 ]; do
        sleep 0.02
        tries=$((tries + 1))
    done
fi
for namespace in /run/netns/"$1"-*; do
    [ -e "$namespace" ] || continue
    # Lazily: a command that was made for it and not yet started holds it open.
    umount -l "$namespace" 2>/dev/null
    rm -f "$namespace"
done
for mounted in "$2/bpf" "$2"; do
    # Lazily: a process of somebody else's may be looking at it.
    umount -l "$mounted" 2>/dev/null
done
[ ! -d "$2" ] || rmdir "$2"
[ ! -d "$3" ] || find "$3" -depth -type d -exec rmdir {} +
# A node that runs a kubelet has one of that name in each cgroup v1 hierarchy too.
grep ' cgroup ' /proc/mounts | while read -r _ hierarchy _; do
    [ ! -d "$hierarchy/${3##*/}" ] || find "$hierarchy/${3##*/}" -depth -type d -exec rmdir {} +
done
[ ! -e "$2" ] && [ ! -e "$3" ] && [ -z "$(ls -d /run/netns/"$1"-* 2>/dev/null)" ]
