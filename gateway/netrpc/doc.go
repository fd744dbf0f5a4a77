// Package netrpc serves Manager over Go's net/rpc, and gives the work that clients of
// that system hand in to its workers. There is no authentication in that protocol:
// it listens on loopback only, and calls workers there only. docs/gateways.md says
// what holds.
package netrpc
