#!/usr/bin/env bash
# Two machines, 10.77.0.2 and 10.77.0.3, and the desk that they are looked after from, 10.77.0.1, on a network of their
# own. This is the first process of PID, mount and network namespaces, and everything ends with it.
#
#   machines.sh FOLDER KEEP
#
# FOLDER holds `sshd_config` and, for each of desk, m2 and m3, a home of that name and its `NAME.passwd`, in which that
# is root's home. KEEP names, with colons between them, what must stay to be seen of a /tmp that is otherwise empty.
set -euo pipefail
folder=$1 keep=$2

# Give the mount namespace of this process a home, a /tmp and a /dev/shm of its own.
furnish() {
  local path number=0 paths
  IFS=: read -ra paths <<<"$keep"
  for path in "${paths[@]}"; do
    number=$((number + 1))
    mkdir -p "/run/kept-$1/$number"
    mount --bind "$path" "/run/kept-$1/$number"
  done
  mount -t tmpfs tmpfs /tmp
  chmod 1777 /tmp
  number=0
  for path in "${paths[@]}"; do
    number=$((number + 1))
    mkdir -p "$path"
    mount --bind "/run/kept-$1/$number" "$path"
  done
  mount -t tmpfs tmpfs /dev/shm
  mount --bind "$folder/$1.passwd" /etc/passwd
}

if [ "${3-}" ]; then # a machine, in namespaces of its own
  mount --make-rprivate /
  furnish "$3"
  hostname "$3"
  exec /usr/sbin/sshd -D -f "$folder/sshd_config" -E "$folder/$3.log"
fi

mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/sshd
ip link set lo up
ip link add lan type bridge
ip address add 10.77.0.1/24 dev lan
ip link set lan up
for number in 2 3; do
  ip netns add "m$number"
  ip link add "port$number" type veth peer name eth0 netns "m$number"
  ip link set "port$number" master lan up
  ip -n "m$number" link set lo up
  ip -n "m$number" address add "10.77.0.$number/24" dev eth0
  ip -n "m$number" link set eth0 up
  ip -n "m$number" route add default via 10.77.0.1 # Ray learns its own address from where a packet would leave by
  ip netns exec "m$number" unshare --mount --pid --uts --fork --kill-child --mount-proc bash "$0" "$folder" "$keep" "m$number" &
done
furnish desk
touch "$folder/ready"
wait
