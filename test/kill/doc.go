// Package kill is the crash harness with real processes: navvy itself, killed at
// any moment while it runs tasks that watch each other, and resumed.
// Its tests say how a failure is repeated.
package kill
