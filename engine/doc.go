// Package engine is the durable truth of navvy: it accepts jobs and their
// inputs, accepts one result for each task, keeps output, holds the order of
// service, and carries out hold, stop, retry and remove as atomic steps.
//
// It stands on a driver.Store and keeps nothing in memory but the batch that is
// being committed. docs/engine.md fixes the keys, the records and the steps.
package engine
