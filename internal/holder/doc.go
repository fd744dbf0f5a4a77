// Package holder is what a process does that holds the data directory: it takes
// the lock, opens the store, runs engine, manager, server and worker, and serves
// the API on a unix socket; and how another process finds it there.
// docs/holding.md describes it.
package holder
