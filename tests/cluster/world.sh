#!/usr/bin/env bash
# Two machines and the desk that they are looked after from, on a network of their own. Runs as the first process of
# its own PID, mount and network namespaces, and takes everything with it when it ends.
#
#   world.sh FOLDER KEEP...
#
# FOLDER holds for each machine m2 and m3 its home and its passwd; of /tmp only FOLDER and KEEP stay to be seen.
set -euo pipefail
folder=$1
here=$(dirname "$0")
mount --make-rprivate /
mount -t tmpfs tmpfs /run
mkdir -p /run/netns /run/sshd
ip link set lo up
ip link add lan type bridge
ip link set lan up
ip address add 10.77.0.1/24 dev lan
for machine in 2 3; do
  ip netns add "m$machine"
  ip link add "v$machine" type veth peer name eth0 netns "m$machine"
  ip link set "v$machine" master lan up
  ip -n "m$machine" link set lo up
  ip -n "m$machine" address add "10.77.0.$machine/24" dev eth0
  ip -n "m$machine" link set eth0 up
  ip netns exec "m$machine" unshare --mount --pid --uts --fork --kill-child --mount-proc \
    bash "$here/machine.sh" "m$machine" /usr/sbin/sshd -D -f "$folder/sshd_config" "$@" &
done
# The desk itself: it waits for its machines, and commands are run in its namespaces from outside.
exec bash "$here/machine.sh" desk sleep infinity "$@"
