// Package cluster is the control plane: it makes what a file describes, changes it when the
// file changes, mends it when something of it is gone, and removes it again, on any provider.
//
// A provider (package cluster/driver) compiles a file into resources and observes those that
// there are; a Plan is the difference. Nothing is kept between two calls but what the provider
// has: who applies a file again goes on where somebody stopped, or was killed.
package cluster
