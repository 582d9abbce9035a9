# The first process of a node, in namespaces of its own: builds what looks like a whole machine, says the
# process's number to stdout, and collects orphans until it is killed.
#
# The root is an overlay: everything of the machine can be read, and whatever is written is the node's own.
# Mounts end with the last process.
# $1 the node's directory (disk, changes, work, root); $2 its name; $3 the programs; $4 its bpffs
set -eu
dir=$1 name=$2 programs=$3 pins=$4
# /proc is still the machine's, which numbers processes as the machine does.
read -r pid _ </proc/self/stat
cgroups=$(grep -E '^[^ ]+ [^ ]+ cgroup2? ' /proc/mounts)
root=$dir/root

mount -t overlay -o "lowerdir=/,upperdir=$dir/changes,workdir=$dir/work" "$name" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sysfs "$root/sys"
mount --rbind /dev "$root/dev"
for writable in run tmp; do mount -t tmpfs -o mode=755 "$writable" "$root/$writable"; done
chmod 1777 "$root/tmp"
mkdir -p "$root/run/lock"
# Here the machine's own files must not shine through, and the overlay cannot carry containers' overlays.
for own in etc/cni etc/containerd etc/kubernetes opt/cni \
    var/lib/cni var/lib/containerd var/lib/kubelet var/log; do
    mkdir -p "$dir/disk/$own" "$root/$own"
    mount --bind "$dir/disk/$own" "$root/$own"
done
mkdir -p "$root/opt/kubernetes"
mount --bind "$programs" "$root/opt/kubernetes"
mount --bind "$pins" "$root/sys/fs/bpf"

# The node's own cgroup is the root of each hierarchy.
mount -t tmpfs -o mode=755 cgroup "$root/sys/fs/cgroup"
flags='rw|ro|nosuid|nodev|noexec|relatime|xattr|nsdelegate|favordynmods|memory_.*'
echo "$cgroups" | while read -r _ at kind options _; do
    controllers=$(echo "$options" | tr , '\n' | grep -vxE "$flags" | paste -sd, -)
    mkdir -p "$root$at"
    mount -t "$kind" ${controllers:+-o "$controllers"} "$kind" "$root$at"
done

# Only the network's settings are the node's own; a kubelet would change these others of the machine. It
# leaves alone what it finds as it wants it.
echo "$name" >"$root/proc/sys/kernel/hostname"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount --bind "$root/proc/sys/net" "$root/proc/sys/net"
for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
    kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
    file=$root/run/sysctl/${setting%=*}
    mkdir -p "${file%/*}"
    echo "${setting#*=}" >"$file"
    mount --bind "$file" "$root/proc/sys/${setting%=*}"
done
mount -o remount,bind,ro "$root/proc/sys"

cd "$root"
mkdir -p machine
pivot_root . machine
cd /
umount -l /machine
rmdir /machine
# As on any machine with systemd: volumes may ask for mounts to be passed on.
mount --make-rshared /

echo "$pid"
# Started anew, for a short line in lists of processes.
exec sh -c 'while :; do sleep 3600 & wait; done' init </dev/null >/dev/null 2>&1
