#!/usr/bin/env bash
# Runs tests in a virtual machine whose kernel has the control groups they need.
#
#   vm.sh install               get QEMU, busybox, cpio, e2fsprogs and a Debian kernel;
#                               quick if all is there, an error if it can't be had
#   vm.sh run [OPTION]... TEST_BINARY... [-- ARG...]
#                               boot, run each test binary with ARGs, power off; fails
#                               if one failed, ran no test, or did not come to its end
#   vm.sh shell [OPTION]...     boot and give a shell; leave it to power off
#
# Options:
#   --cgroup MODE      v2 (default): one hierarchy with all controllers, nsdelegate
#                      v1: a hierarchy for each controller, and no v2
#                      hybrid: v1, and an empty v2 at /sys/fs/cgroup/unified
#                      systemd-v1, systemd-hybrid: the same as systemd mounts them:
#                      cpu,cpuacct together, and a v1 hierarchy without controllers
#   --user             run as the user 1000. With v2 that is in a group that is
#                      delegated as a systemd user session does it
#   --group PATH       run in this group of the v2 hierarchy instead: / or a new one
#   --env KEY=VALUE    an environment variable more
#   --file HOST:GUEST  copy a file or directory into the guest
#   --cpus N           processors (2)
#   --memory MB        memory (2048)
#   --timeout SECONDS  for the whole boot (300)
#   --kernel-log       print the kernel's messages too
#
# Test binaries are static (CGO_ENABLED=0 go test -c). They start in /mnt, an ext4
# file system on a disk of its own; /dev/vda is a blank disk, /tmp a tmpfs, and the
# programs around are busybox's. NAVVY_TEST_VM is set to the mode of --cgroup.
#
# NAVVY_VM_DIR        keeps the kernel; the default is navvy-vm in the user's cache
# NAVVY_VM_ACCEL      kvm or tcg; the default is kvm if a guest boots with it
set -euo pipefail

usage() {
	sed -n '2,37s/^# \{0,1\}//p' "$0" >&2
	exit 2
}

die() {
	printf 'vm.sh: %s\n' "$*" >&2
	exit 1
}

here=$(cd "$(dirname "$0")" && pwd)
cache=${NAVVY_VM_DIR:-${XDG_CACHE_HOME:-$HOME/.cache}/navvy-vm}
export PATH="$PATH:/usr/sbin:/sbin"

# What is modular of what the guest needs, in the order of loading.
modules='virtio_ring virtio virtio_pci_modern_dev virtio_pci_legacy_dev virtio_pci virtio_blk'

# missing prints the Debian packages of the programs that are not there.
missing() {
	local p
	for p in qemu-system-x86_64:qemu-system-x86 busybox:busybox-static cpio:cpio mke2fs:e2fsprogs; do
		command -v "${p%:*}" >/dev/null || echo "${p#*:}"
	done
	if command -v busybox >/dev/null && ! static "$(command -v busybox)"; then
		echo busybox-static
	fi
}

# static tells whether a program needs no libraries.
static() { ! ldd "$1" >/dev/null 2>&1; }

as_root() {
	if [[ $(id -u) -eq 0 ]]; then
		"$@"
	else
		sudo -n "$@"
	fi
}

apt() {
	DEBIAN_FRONTEND=noninteractive as_root apt-get -q -o DPkg::Lock::Timeout=300 "$@" >&2
}

install_programs() {
	local packages
	packages=$(missing)
	[[ -n $packages ]] || return 0
	# shellcheck disable=SC2086 # a list of words
	set -- $packages
	command -v apt-get >/dev/null || die "missing: $* (names of Debian packages); install them"
	as_root true 2>/dev/null || die "missing: $*; install them as root: apt-get install --no-install-recommends $*"
	apt update
	apt install -y --no-install-recommends "$@" || die "apt-get can't install $*"
	packages=$(missing)
	[[ -z $packages ]] || die "installed, and yet not found: $packages"
}

# install_kernel unpacks a Debian kernel into the cache; the host's own stays as it is.
install_kernel() {
	[[ ! -e $cache/kernel/boot ]] || return 0
	[[ -n $(command -v apt-get) && -n $(command -v dpkg-deb) ]] ||
		die "no kernel: unpack Debian's linux-image-cloud-amd64 into $cache/kernel (boot/vmlinuz-*, lib/modules/*)"
	mkdir -p "$cache"
	work=$(mktemp -d "$cache/new.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	(cd "$work" && download_kernel) || die "apt-get can't download a linux-image-*-cloud-amd64"
	dpkg-deb -x "$work"/*.deb "$work/kernel"
	# Two may install at once: the first is as good as the second.
	mv -T "$work/kernel" "$cache/kernel" 2>/dev/null || [[ -e $cache/kernel/boot ]]
	rm -rf "$work"
	trap - EXIT
}

download_kernel() {
	local package
	for _ in 1 2; do
		package=$(apt-cache depends linux-image-cloud-amd64 2>/dev/null | awk '/Depends: linux-image/ {print $2; exit}')
		if [[ -n $package ]] && apt-get -q -o APT::Sandbox::User="$(id -un)" download "$package" >&2; then
			return
		fi
		apt update || return # the lists are missing or old
	done
	return 1
}

# accelerator prints kvm if a guest boots with it here, else tcg: there are
# machines whose /dev/kvm opens and whose guests then stand still.
accelerator() {
	if [[ -n ${NAVVY_VM_ACCEL:-} ]]; then
		echo "$NAVVY_VM_ACCEL"
		return
	fi
	if [[ ! -e $cache/accel ]]; then
		local accel=tcg
		# Without a root file system the kernel panics, and with -no-reboot QEMU ends.
		if [[ -w /dev/kvm ]] && timeout 5 qemu-system-x86_64 -M q35 -accel kvm -cpu max -m 256 -nodefaults -display none -no-reboot \
			-kernel "$cache"/kernel/boot/vmlinuz-* -append panic=-1 </dev/null >/dev/null 2>&1; then
			accel=kvm
		fi
		echo $accel >"$cache/accel"
	fi
	cat "$cache/accel"
}

install() {
	[[ $(uname -m) == x86_64 ]] || die "the guest is an x86-64 machine, and this is $(uname -m)"
	install_programs
	install_kernel
	accelerator >/dev/null
}

# quote prints words for a shell, a space before each but the first.
quote() {
	local q="'\\''" w space=
	for w in "$@"; do
		printf "%s'%s'" "$space" "${w//\'/$q}"
		space=' '
	done
}

# make_root fills the directory that becomes the guest's root file system.
make_root() {
	local root=$1 applet n=0
	mkdir -p "$root"/{bin,dev,etc,home/navvy,mnt,proc,root,run,sys,tests,tmp,usr/local,var}
	ln -s ../bin "$root/usr/bin"
	ln -s bin "$root/sbin"
	ln -s ../bin "$root/usr/sbin"
	ln -s ../../bin "$root/usr/local/bin"
	cp "$(command -v busybox)" "$root/bin/busybox"
	for applet in $(busybox --list); do
		[[ $applet == busybox ]] || ln -sf busybox "$root/bin/$applet"
	done
	printf 'root:x:0:0:root:/root:/bin/sh\nnavvy:x:1000:1000::/home/navvy:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n' >"$root/etc/passwd"
	printf 'root:x:0:\nnavvy:x:1000:\nnogroup:x:65534:\n' >"$root/etc/group"
	printf '127.0.0.1 localhost\n' >"$root/etc/hosts"
	cp "$here/vm-guest.sh" "$root/bin/vm-guest"
	chmod 755 "$root/bin/vm-guest"
	for binary in "${binaries[@]}"; do
		n=$((n + 1))
		install_file "$binary" "$root/tests/$(printf %02d $n)-$(basename "$binary")"
	done
	for f in "${files[@]}"; do
		install_file "${f%%:*}" "$root/${f#*:}"
	done
	{
		echo "vm_cgroup=$cgroup vm_user=$user vm_group=$(quote "$group") vm_shell=$shell"
		echo "export NAVVY_TEST_VM=$cgroup${CI:+ CI=$(quote "$CI")}"
		for e in "${environment[@]}"; do
			echo "export ${e%%=*}=$(quote "${e#*=}")"
		done
		echo "set -- $(quote "${args[@]}")"
	} >"$root/etc/vm.conf"
}

install_file() {
	[[ -e $1 ]] || die "no such file: $1"
	mkdir -p "$(dirname "$2")"
	cp -rL "$1" "$2"
}

# make_initrd makes what finds the root disk.
make_initrd() {
	local dir=$1 out=$2 m file
	mkdir -p "$dir"/{bin,dev,mod,root}
	cp "$(command -v busybox)" "$dir/bin/busybox"
	{
		echo '#!/bin/busybox sh'
		for m in $modules; do
			file=$(find "$cache"/kernel/lib/modules -name "$m.ko*" | head -n 1)
			case $file in
			'') continue ;; # built in
			*.xz) xz -dc "$file" >"$dir/mod/$m.ko" ;;
			*) cp "$file" "$dir/mod/$m.ko" ;;
			esac
			echo "/bin/busybox insmod /mod/$m.ko"
		done
		echo '/bin/busybox mount -t devtmpfs dev /dev'
		echo '/bin/busybox mount -t ext4 /dev/vdc /root'
		echo '/bin/busybox umount /dev'
		echo 'exec /bin/busybox switch_root /root /bin/vm-guest'
	} >"$dir/init"
	chmod 755 "$dir/init"
	# Not compressed: unpacking is what an emulated processor is slow at.
	(cd "$dir" && find . | cpio -o -H newc --quiet) >"$out"
}

# verdict shows what the guest prints, without the progress of tests if $1 is
# empty, and ends with 0 if each binary ran tests and all was well; with 75 if the
# machine was at fault: it did not come up, or its kernel says that it stood still.
verdict() {
	awk -v verbose="$1" '
		{ sub(/\r+$/, "") }
		/^navvy-vm: begin / { up = 1; name = $3; begun = $4; passed = skipped = failed = 0 }
		/^--- PASS/ { passed++ }
		/^--- SKIP/ { skipped++ }
		/^--- FAIL/ { failed++ }
		/^navvy-vm: end / {
			printf "vm.sh: %s: %d passed, %d skipped, %d failed, exit code %d (%d s, booted in %d s)\n", name, passed, skipped, failed, $3, $4 - begun, begun
			ended++
			if ($3 != 0) bad = 1
			if (passed + failed == 0) { print "vm.sh: " name " ran no test"; bad = 1 }
		}
		/^navvy-vm: stalled / { stalled = 1; sub(/^navvy-vm: stalled /, "vm.sh: the kernel says: ") }
		/^navvy-vm: done / { done = $3 }
		/^navvy-vm: (begin|end|done) |^\[ *[0-9.]+\] reboot: / { next }
		/^(=== |PASS$| *--- PASS)/ { if (verbose == "") next }
		{ print; fflush() }
		END {
			if (!up) { print "vm.sh: the guest did not come up"; exit 75 }
			if (stalled && bad) { print "vm.sh: a processor of the guest stood still"; exit 75 }
			if (done == "") { print "vm.sh: the guest died or ran out of time"; exit 125 }
			exit bad || done != ended
		}
	'
}

boot() {
	local cgroup=v2 user='' group='' cpus=2 memory=2048 timeout=300 verbose='' shell='' loglevel=1
	local environment=() files=() binaries=() args=()
	[[ $1 == run ]] || shell=yes
	shift
	while [[ $# -gt 0 ]]; do
		case $1 in
		--user) user=yes && shift && continue ;;
		--kernel-log) loglevel=7 && shift && continue ;;
		--) shift && args=("$@") && break ;;
		--*) [[ $# -gt 1 ]] || usage ;;
		*) binaries+=("$1") && shift && continue ;;
		esac
		case $1 in
		--cgroup) cgroup=$2 ;;
		--group) group=$2 ;;
		--env) environment+=("$2") ;;
		--file) files+=("$2") ;;
		--cpus) cpus=$2 ;;
		--memory) memory=$2 ;;
		--timeout) timeout=$2 ;;
		*) usage ;;
		esac
		shift 2
	done
	[[ $cgroup =~ ^(v1|v2|hybrid|systemd-v1|systemd-hybrid)$ ]] || usage
	[[ -n $shell || ${#binaries[@]} -gt 0 ]] || usage
	[[ " ${args[*]} " != *' -test.v'* ]] || verbose=yes
	[[ -e $cache/kernel/boot && -z $(missing) ]] || die 'not installed: run scripts/vm.sh install'
	start_guest
}

start_guest() {
	local accel dir limit=(timeout "$timeout")
	accel=$(accelerator)
	dir=$(mktemp -d "${TMPDIR:-/tmp}/navvy-vm.XXXXXX")
	# shellcheck disable=SC2064 # the directory as it is now
	trap "rm -rf '$dir'" EXIT
	make_root "$dir/root"
	make_initrd "$dir/initrd" "$dir/initrd.img"
	truncate -s 512M "$dir"/{blank,mnt,root}.img
	mke2fs -q -t ext4 "$dir/mnt.img"
	mke2fs -q -t ext4 -E root_owner=0:0 -d "$dir/root" "$dir/root.img"
	local append="console=ttyS0 loglevel=$loglevel panic=-1 mitigations=off tsc=reliable random.trust_cpu=on"
	[[ $cgroup != v2 ]] || append+=' cgroup_no_v1=all'
	local qemu=(qemu-system-x86_64 -M q35 -accel "$accel" -cpu max -smp "$cpus" -m "$memory"
		-nodefaults -no-reboot -display none
		-kernel "$cache"/kernel/boot/vmlinuz-* -initrd "$dir/initrd.img" -append "$append")
	for d in blank mnt root; do
		qemu+=(-drive "file=$dir/$d.img,format=raw,if=none,id=$d,cache=unsafe" -device "virtio-blk-pci,drive=$d")
	done
	if [[ -n $shell ]]; then
		"${qemu[@]}" -serial mon:stdio
		return
	fi
	local code
	for _ in 1 2; do
		code=0
		watched "$dir/log" "${limit[@]}" "${qemu[@]}" -serial stdio </dev/null 2>&1 | tee "$dir/log" | verdict "$verbose" || code=$?
		[[ $code -eq 75 ]] || break
	done
	return $code
}

# watched runs a guest and ends it if it has not come up after a minute: an
# emulated processor now and then stands still while the kernel boots.
watched() {
	local log=$1 pid
	shift
	: >"$log"
	"$@" &
	pid=$!
	trap 'kill $pid 2>/dev/null || true' EXIT
	for _ in {1..60}; do
		sleep 1
		if ! kill -0 $pid 2>/dev/null || grep -q '^navvy-vm: begin' "$log"; then
			wait $pid
			return
		fi
	done
	kill $pid
	wait $pid
}

case ${1:-} in
install) install ;;
run | shell) boot "$@" ;;
*) usage ;;
esac
