#!/bin/sh
# The first process of the virtual machine that vm.sh boots: busybox's shell.
# It mounts what the tests need, runs them one after the other, and powers off.
# /etc/vm.conf sets vm_cgroup, vm_user, vm_group, vm_shell and the arguments.
export PATH=/usr/local/bin:/usr/bin:/bin HOME=/root
cgroups=/sys/fs/cgroup
delegated=/user.slice/user-1000.slice/user@1000.service/app.slice/navvy.scope

vm_cgroup=v2 vm_user='' vm_group='' vm_shell=''
# shellcheck disable=SC1091 # vm.sh writes it
. /etc/vm.conf

mounts() {
	mount -t proc proc /proc
	mount -t sysfs sysfs /sys
	mount -t devtmpfs devtmpfs /dev
	mkdir -p /dev/pts /dev/shm /dev/mqueue
	mount -t devpts -o ptmxmode=666 devpts /dev/pts
	mount -t tmpfs -o mode=1777 tmpfs /dev/shm
	mount -t mqueue mqueue /dev/mqueue
	mount -t tmpfs -o mode=1777 tmpfs /tmp
	mount -t tmpfs -o mode=755 tmpfs /run
	mount -t ext4 /dev/vdb /mnt
	chmod 1777 /mnt
	ln -s /proc/self/fd /dev/fd
	chown 1000:1000 /home/navvy
	mkdir -p /run/user/1000
	chown 1000:1000 /run/user/1000
	chmod 700 /run/user/1000
	ip link set lo up
}

# v1 mounts a hierarchy for each list of controllers, with links as systemd makes them.
v1() {
	mount -t tmpfs -o mode=755 tmpfs $cgroups
	for list in "$@"; do
		mkdir "$cgroups/$list"
		mount -t cgroup -o "$list" cgroup "$cgroups/$list" || echo "vm-guest: no cgroup v1 of $list"
		for name in $(echo "$list" | tr , ' '); do
			[ -e "$cgroups/$name" ] || ln -s "$list" "$cgroups/$name"
		done
	done
}

mount_cgroups() {
	case $vm_cgroup in
	v2) mount -t cgroup2 -o nsdelegate cgroup2 $cgroups ;;
	v1 | hybrid) v1 cpu cpuacct cpuset memory pids blkio freezer devices ;;
	systemd-*)
		v1 cpu,cpuacct cpuset memory pids blkio freezer devices
		mkdir $cgroups/systemd
		mount -t cgroup -o none,name=systemd,xattr cgroup $cgroups/systemd
		;;
	esac
	case $vm_cgroup in
	*hybrid)
		mkdir $cgroups/unified
		mount -t cgroup2 -o nsdelegate cgroup2 $cgroups/unified
		;;
	esac
}

# hand_on passes the controllers from each group down to the one above $1.
hand_on() {
	at=$cgroups
	for name in $(echo "$1" | tr / ' '); do
		echo '+cpu +memory +pids +io' >"$at/cgroup.subtree_control"
		at=$at/$name
		mkdir -p "$at"
	done
}

# delegate makes the user's group as systemd does: the session's by the system,
# which gives away the directory and three files of it, all below by the user.
delegate() {
	session=${delegated%/app.slice/*}
	hand_on "$session"
	for f in . cgroup.procs cgroup.subtree_control cgroup.threads; do
		chown 1000:1000 "$cgroups$session/$f"
	done
	su -s /bin/sh navvy -c "
		cd $cgroups$session && mkdir init.scope app.slice app.slice/navvy.scope &&
		echo '+cpu +memory +pids +io' >cgroup.subtree_control &&
		echo '+cpu +memory +pids +io' >app.slice/cgroup.subtree_control"
}

# quote prints words for a shell.
quote() {
	for word in "$@"; do
		printf "'%s' " "$(printf %s "$word" | sed "s/'/'\\\\''/g")"
	done
}

# in_group runs a command as the user and in the group that are wanted.
in_group() (
	if [ -n "$vm_group" ]; then
		echo 0 >"$cgroups$vm_group/cgroup.procs"
	fi
	if [ -n "$vm_user" ]; then
		export HOME=/home/navvy USER=navvy XDG_RUNTIME_DIR=/run/user/1000
		exec su -m -s /bin/sh navvy -c "exec $(quote "$@")" # it takes arguments for its own options
	fi
	exec "$@"
)

# renew_scope gives each test binary a scope of its own, as systemd-run does: one
# whose controllers were handed down takes no processes any more.
renew_scope() {
	if [ "$vm_group" = "$delegated" ]; then
		find "$cgroups$delegated" -depth -type d -exec rmdir {} \;
		su -s /bin/sh navvy -c "mkdir $cgroups$delegated"
	fi
}

# complaints are the kernel's, of want of memory and of processors that stood still.
complaints() {
	dmesg | grep -iE 'out of memory|oom-kill|hung_task|blocked for more' | tail -n 5
	dmesg | grep -iE 'rcu.*(stall|starved)|soft lockup|hard lockup' | head -n 5 | sed 's/^/navvy-vm: stalled /'
}

uptime_now() { cut -d ' ' -f 1 /proc/uptime; }

mounts
mount_cgroups
if [ "$vm_cgroup" = v2 ]; then
	if [ -n "$vm_group" ]; then
		hand_on "$vm_group"
	elif [ -n "$vm_user" ]; then
		delegate
		vm_group=$delegated
	fi
fi
mount --make-rshared / # as systemd does: isolation has to undo it
cd /mnt || exit

if [ -n "$vm_shell" ]; then
	in_group setsid cttyhack sh
	poweroff -f
fi

ran=0
for test in /tests/*; do
	name=${test##*/}
	echo "navvy-vm: begin ${name#*-} $(uptime_now)"
	renew_scope
	code=0
	in_group "$test" -test.v -test.timeout=10m "$@" || code=$?
	[ $code -eq 0 ] || complaints
	echo "navvy-vm: end $code $(uptime_now)"
	ran=$((ran + 1))
done
echo "navvy-vm: done $ran"
sync
poweroff -f
