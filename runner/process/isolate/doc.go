// Package isolate sets Linux processes apart from their host and from each other.
package isolate
