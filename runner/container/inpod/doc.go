// Package inpod runs tasks one after another inside a pod that they share: what such a pod
// starts in place of the image's own entry point. The tasks are in its arguments, and what
// they write and how they end goes out on its standard output, in frames.
package inpod
