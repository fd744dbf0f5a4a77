module github.com/navvy-run/navvy/test/kube/keda

go 1.26.0

// The definitions of its kinds are in it; nothing is built.
require github.com/kedacore/keda/v2 v2.18.1
