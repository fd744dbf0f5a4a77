package enginetest

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/moby/moby/client"

	"github.com/navvy-run/navvy/test/kube/kubetest"
)

// Image is the image that each engine has: a shell and the usual small programs.
const Image = kubetest.Image

// loadDocker gives Docker its images.
func loadDocker(ctx context.Context, e *Engine) error {
	c, err := client.New(client.WithHost("unix://" + e.Socket))
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	archive, err := kubetest.Archive()
	if err != nil {
		return err
	}
	answer, err := c.ImageLoad(ctx, bytes.NewReader(archive))
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, answer)
	return errors.Join(err, answer.Close())
}
