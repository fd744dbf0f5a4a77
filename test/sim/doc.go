// Package sim is the crash harness in process: engine, manager and workers on a
// disk whose power can fail at any write, driven by one goroutine from one seed.
// Its tests say how a failure is repeated.
package sim
