// Package work is what providers of clusters have in common of the work that a cluster does,
// wherever its workers are: the environment of its service, its queue on a navvy server, its
// queues with a broker.
package work
