// Package fleet tests servers and workers that lose each other: over real
// connections on loopback, with real processes as tasks, servers that die and come
// back on the same store, workers that die, freeze and return, and networks that are
// cut and healed.
package fleet
