// Package server is the API of navvy: it turns the calls of package api into
// calls of the manager and the engine. The same services stand behind a channel
// in this process, a unix socket, and later a port.
package server
