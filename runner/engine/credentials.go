package engine

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/types"
)

// account is whoever pulls an image from a registry; the zero value for nobody.
type account = types.AuthConfig

// credentialTimeout bounds the wait for a program that keeps credentials.
const credentialTimeout = 30 * time.Second

// hub is the registry of images that name none, hubAccount the name under which its account is kept.
const (
	hub        = "docker.io"
	hubAccount = "https://index.docker.io/v1/"
)

// accountFor reads what Docker's configuration in a directory knows of the registry of an image, as
// docker login writes it, or whoever keeps its secrets tells: a program docker-credential-NAME. Each
// pull reads it anew, as logins change.
func accountFor(ctx context.Context, dir, image string) (account, error) {
	if dir == "" {
		return account{}, nil
	}
	name, err := reference.ParseNormalizedNamed(image)
	if err != nil {
		return account{}, nil //nolint:nilerr // the engine says what is wrong with it
	}
	registry := reference.Domain(name)
	if registry == hub {
		registry = hubAccount
	}
	type answer struct {
		account account
		err     error
	}
	answers := make(chan answer, 1)
	go func() { // programs know no context
		file, err := config.Load(dir)
		if err != nil {
			answers <- answer{err: err}
			return
		}
		found, err := file.GetAuthConfig(registry)
		if found.Username == "" && found.IdentityToken == "" && found.RegistryToken == "" {
			found = account{} // only where it would be
		}
		answers <- answer{found, err}
	}()
	ctx, cancel := context.WithTimeout(ctx, credentialTimeout)
	defer cancel()
	select {
	case a := <-answers:
		return a.account, a.err
	case <-ctx.Done():
		return account{}, fmt.Errorf("what keeps the credentials for %s does not answer: %w", registry, ctx.Err())
	}
}

// stranger tells whether a registry turns away one that it does not know.
func stranger(words string) bool {
	words = strings.ToLower(words)
	for _, part := range []string{"denied", "unauthorized", "no basic auth credentials"} {
		if strings.Contains(words, part) {
			return true
		}
	}
	return false
}
