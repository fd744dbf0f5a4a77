package enginetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/moby/moby/client"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

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

// loadContainerd gives containerd its images, where a kubelet would look for them.
func loadContainerd(ctx context.Context, e *Engine) error {
	if _, err := os.Stat(e.Socket); err != nil {
		return err
	}
	archive, err := kubetest.Archive()
	if err != nil {
		return err
	}
	at := filepath.Join(e.Dir, "images.tar")
	if err := os.WriteFile(at, archive, 0o600); err != nil {
		return err
	}
	// It unpacks by mounts, which only the engine has.
	said, err := exec.CommandContext(ctx, "ctr", "-a", e.Socket, "-n", "k8s.io", "images", "import", "--no-unpack", at).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%w: %s", err, said)
	}
	conn, err := grpc.NewClient("unix://"+e.Socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	for _, image := range []string{Image, kubetest.Pause} { // its interface for kubelets is told later
		r, err := cri.NewImageServiceClient(conn).ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: image}})
		if err != nil {
			return err
		}
		if r.Image == nil {
			return fmt.Errorf("image %s is not there yet", image)
		}
	}
	return nil
}
