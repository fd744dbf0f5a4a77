// Package client is what a Go program imports to use navvy: submit work, wait
// for it, read the answers, follow output, steer jobs. The command line, the
// gateways and the workers use it as well; it speaks to a server in the same
// process, behind a unix socket, or elsewhere, alike.
package client
