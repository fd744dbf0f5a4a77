package local

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// DismissAll has the server forget all who have joined as a worker of the cluster, wherever they
// are, and let them in no more: for one that nobody reaches, so that its identity is not to be
// had. Nil if there is no server. One that does not answer has their certificates still: the
// record of what is removed is kept until it was asked, or is gone.
func (s *Site) DismissAll(ctx context.Context, worker string) error {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	err := s.s.withServer(ctx, func(c *client.Client) error {
		names := map[string]bool{} // whether one of its certificates is still good
		for cert, err := range c.Certificates(ctx, "") {
			if err != nil {
				return err
			}
			if cert.Role == string(auth.RoleWorker) && joinedAs(cert.Name, s.Name()+"-"+worker) {
				names[cert.Name] = names[cert.Name] || cert.Revoked.IsZero()
			}
		}
		for name, good := range names {
			err := c.RemoveWorker(ctx, name)
			if errors.Is(err, navvy.ErrNotFound) { // it has joined, and was never seen
				if err = nil; good {
					_, err = c.Revoke(ctx, client.RevokeOptions{Name: name, Why: "its host was given up"})
				}
			}
			if err != nil {
				return fmt.Errorf("the server does not forget worker %s: %w", name, err)
			}
		}
		return nil
	})
	return s.s.withoutServer(err)
}

// joinedAs tells whether the server calls somebody so who has joined with --name.
func joinedAs(name, wish string) bool {
	rest, is := strings.CutPrefix(name, wish+"-")
	return is && !strings.Contains(rest, "-")
}
