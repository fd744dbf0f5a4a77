// Package isolate sets Linux processes apart from their host and from each
// other, without a container engine, a shell or any other program.
//
// A Box says how; Host.Plan makes it a list of system calls, which package boot
// makes before the program is executed; and the process is born in its
// namespaces, so that it is never outside. A Plan serves any number of attempts.
//
// An isolated attempt has
//   - processes, mounts, a host name, System V IPC and message queues of its own,
//     and with NetworkNone a loopback interface and nothing else;
//   - an init, which reaps what ends, passes signals on, and whose end is that of all;
//   - an empty /tmp, /var/tmp and /dev/shm, in memory. What the user named below
//     them, the working directory and the program, is there all the same. What it
//     writes there is gone with it, and counts as its memory;
//   - as root a user and a group that no other job has at that time (Users), and
//     a private working directory (WorkDirs);
//   - no capabilities and no way to new rights, so sudo and its like do not work;
//   - a filter of system calls as container engines have it: no mounts, no
//     namespaces, no modules, no bpf, no keys, no 32-bit programs. What is denied
//     fails with EPERM, what the filter does not know with ENOSYS;
//   - the file system of the host otherwise, as far as its user may see it, and
//     its /sys, in which only the host's root may write.
//
// The caller needs root (CAP_SYS_ADMIN) for that. Any other user gets it in a
// user namespace, with the user id that it has: files keep their owner, and
// groups but the first are nobody's. Where the host forbids that too, Host.Lacks
// says why in words. Linux 5.9 is the oldest that has all that is called.
package isolate
