// Package worker is the host of runners: it leases tasks from a server, runs
// each in its runner, reports how it ended, and forgets an attempt only when
// the server says that its report is durable.
package worker
