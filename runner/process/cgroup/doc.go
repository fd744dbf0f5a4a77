// Package cgroup puts processes into Linux control groups that bound and measure
// what they use, on hosts with version 2 of the interface, with version 1, and
// with both. It can be used alone:
//
//	tree := cgroup.Open(&cgroup.Options{Name: "mine"})
//	defer tree.Close()
//	group, err := tree.New("one", &navvy.Limits{Memory: 64 << 20}, "/")
//	err = group.Fork(&attr, func() error { pid, err = syscall.ForkExec(…) })
//
// A group is a directory in each hierarchy that it takes part in. In version 2
// there is one hierarchy, and the kernel gives birth to a process inside
// (CLONE_INTO_CGROUP). In version 1 each controller may have one of its own; a
// thread steps into the directories, forks there, and steps back. Either way the
// process never runs outside. A host with version 1 may have an empty hierarchy
// of version 2 beside (hybrid): groups take part in that as well, because it can
// tell when a group is empty and can kill all of it at once.
//
// What is enforced is found by trying, when the tree is opened. The interface
// is that of cgroups(7), and of Documentation/admin-guide/cgroup-v2.rst and
// cgroup-v1/ in the kernel's source.
package cgroup
