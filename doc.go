// Package navvy is the domain of navvy, which runs the same piece of work over
// any number of inputs and never loses an answer: jobs and their specs, tasks,
// attempts, results, states and the errors that every part of the house shares.
//
// It holds plain values and the rules that make them valid, imports the
// standard library only, and does no I/O. All types are values: they may be
// read by any number of goroutines, and nobody changes one that was handed over.
package navvy
