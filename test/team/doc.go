// Package team is the crash harness of a team's navvy with real processes: a server,
// workers and clients that are killed, frozen, cut off from each other and started
// again, and tasks that leave traces of what they do. Its tests say how a failure is
// repeated.
package team
