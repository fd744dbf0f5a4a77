// Package manager decides which worker gets which task. It holds what is soft
// about navvy, and can be rebuilt from the engine at any time: the window of
// jobs that are served next, running attempts and their leases, tasks that wait
// for a retry, live output, and who is attached to which job.
//
// A Manager is a passive state machine: events come in as method calls, work
// goes out through each Session, and Run only waits for the next event or the
// next instant at which something is due. A test that calls Settle and Tick
// itself, with a clock of its own, needs no goroutine. docs/holding.md says
// what is kept and how large it gets.
package manager
