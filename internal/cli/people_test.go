package cli

import "testing"

// TestOwnName: a server's start writes over what servers have made, and never over
// what somebody has added.
func TestOwnName(t *testing.T) {
	t.Parallel()
	made := func(address, data string) serverContext {
		return serverContext{Server: address, Cert: data + "/me.crt", Key: data + "/me.key", CA: data + "/ca.crt", Data: data}
	}
	added := func(c serverContext) serverContext {
		c.Data = ""
		return c
	}
	ours := made("localhost:7433", "/a")
	for name, test := range map[string]struct {
		there map[string]serverContext
		want  string
	}{
		"none":                         {nil, "localhost"},
		"it is there":                  {map[string]serverContext{"a": added(ours), "z": ours}, "z"},
		"its address has changed":      {map[string]serverContext{"mine": made("localhost:9000", "/a")}, "mine"},
		"somebody has added the same":  {map[string]serverContext{"team": added(ours)}, "team"},
		"another server was there":     {map[string]serverContext{"other": made("127.0.0.1:7433", "/b")}, "other"},
		"another server is elsewhere":  {map[string]serverContext{"other": made("localhost:9000", "/b")}, "localhost"},
		"somebody has added the name":  {map[string]serverContext{"localhost": added(made("localhost:7433", "/b"))}, "localhost-2"},
		"somebody has added our files": {map[string]serverContext{"team": added(made("build1:7433", "/a"))}, "localhost"},
	} {
		f := contextsFile{Contexts: test.there}
		if got := f.ownName(ours); got != test.want {
			t.Errorf("%s: the context is written as %q, want %q", name, got, test.want)
		}
	}
}
