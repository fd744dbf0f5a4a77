package cli

import (
	"testing"

	"github.com/navvy-run/navvy/cluster/config"
)

// A run on many hosts calls no more of them at once than apply does.
func TestHostsAtOnce(t *testing.T) {
	t.Parallel()
	r := &hostsRun{app: &app{env: func(string) string { return "" }}, cluster: &config.Cluster{SSH: &config.SSH{Hosts: make([]string, 1000)}}}
	if o := r.options(); o.AtOnce != 0 {
		t.Errorf("it calls %d at once, and not as many as are the default", o.AtOnce)
	}
}
