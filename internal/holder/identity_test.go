package holder

import (
	"testing"

	"google.golang.org/grpc"

	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// Whoever calls in the holder's process or over its socket is its owner, and an
// administrator unless the holder says otherwise.
func TestLocalIdentity(t *testing.T) {
	t.Parallel()
	for _, role := range []auth.Role{"", auth.RoleUser} {
		cfg := testConfig(t)
		cfg.LocalRole = role
		h, _ := start(t, cfg)
		want := client.Me{Identity: auth.Identity{Name: "tester", Role: auth.RoleAdmin, Local: true}}
		if role != "" {
			want.Role = role
		}
		for way, conn := range map[string]grpc.ClientConnInterface{"in process": h.Conn(), "over the socket": dial(t, cfg.Dir)} {
			if me, err := client.New(conn).Whoami(t.Context()); err != nil || me != want {
				t.Errorf("%s it is %+v, %v, want %+v", way, me, err, want)
			}
		}
	}
}
