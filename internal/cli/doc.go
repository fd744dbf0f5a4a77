// Package cli is the command line of navvy: one file a verb. Flags and the
// environment are read here and nowhere else. Whatever a verb does, it does as a
// client of the API, in this process or through the socket of another.
package cli
