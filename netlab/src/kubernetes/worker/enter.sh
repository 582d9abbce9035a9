# Joins the node's cgroup in every cgroup v1 hierarchy, then becomes the node's first process, boot.sh.
# (Its cgroup2 was joined already.) The lab removes the cgroups.
# $1 the cgroup's name below each root, $2 boot.sh's text, then boot.sh's arguments
set -eu
group=$1 boot=$2
shift 2
while read -r _ at kind options _; do
    [ "$kind" = cgroup ] || continue
    directory=$at
    # One level after the other, since a new cpuset is empty and takes no process.
    for level in $(echo "$group" | tr / ' '); do
        case ,$options, in
        *,cpuset,*) echo 1 >"$directory/cgroup.clone_children" 2>/dev/null || true ;;
        esac
        directory=$directory/$level
        mkdir -p "$directory"
        for set in cpuset.cpus cpuset.mems; do
            if [ -e "$directory/$set" ] && [ -z "$(cat "$directory/$set")" ]; then
                cat "$directory/../$set" >"$directory/$set"
            fi
        done
    done
    echo 0 >"$directory/cgroup.procs"
done </proc/mounts
# Whatever ends this process ends the node's first one, and with that one all that run on the node.
exec unshare --mount --uts --ipc --pid --cgroup --fork --kill-child sh -c "$boot" boot "$@"
