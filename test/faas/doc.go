// Package faas tests what clients of the MPCS FaaS do, with the means that they have:
// requests, dill and pytest of Debian's Python, against a real navvy, its workers and
// their Python processes.
package faas
