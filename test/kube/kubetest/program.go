package kubetest

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Path is that of a file in the cluster's directory, which goes when the cluster ends.
func (c *Cluster) Path(name string) string { return filepath.Join(c.dir, name) }

// AddProgram gives the node an image that holds a program alone, which needs no libraries and
// is run as user 65532 when nothing is said.
func (c *Cluster) AddProgram(t testing.TB, ref, path string) {
	t.Helper()
	archive, err := programImage(ref, path)
	if err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := os.WriteFile(filepath.Join(c.dir, "images.tar"), archive, 0o600); err != nil {
		t.Fatal(err)
	}
	c.Start(t, "ctr")
}

// programImage makes a tar archive, as docker save does.
func programImage(ref, path string) ([]byte, error) {
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	if err := add(w, &tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o1777}, nil); err != nil {
		return nil, err
	}
	if err := add(w, &tar.Header{Name: "program", Mode: 0o755}, program); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	sum := sha256.Sum256(layer.Bytes())
	config, err := json.Marshal(map[string]any{
		"architecture": "amd64", "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/program"}, "User": "65532:65532"},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
	})
	if err != nil {
		return nil, err
	}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{ref}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w = tar.NewWriter(&b)
	for name, text := range map[string][]byte{"config.json": config, "layer.tar": layer.Bytes(), "manifest.json": manifest} {
		if err := add(w, &tar.Header{Name: name, Mode: 0o644}, text); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}

// Expose lets pods reach a server of the test: what connects to the address that it returns,
// which is the node's, comes to the server's. It ends with the test.
func (c *Cluster) Expose(t testing.TB, server string) (address string) {
	t.Helper()
	var l net.Listener
	var err error
	if e := c.within(func() { l, err = new(net.ListenConfig).Listen(t.Context(), "tcp", nodeIP+":0") }); e != nil {
		t.Fatal(e)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	all.Go(func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { join(ctx, near, server) })
		}
	})
	t.Cleanup(func() {
		cancel()
		_ = l.Close()
		all.Wait()
	})
	return l.Addr().String()
}

// join copies both ways between a connection and a server until either ends.
func join(ctx context.Context, near net.Conn, server string) {
	defer func() { _ = near.Close() }()
	far, err := new(net.Dialer).DialContext(ctx, "tcp", server)
	if err != nil {
		return
	}
	stop := context.AfterFunc(ctx, func() { _, _ = near.Close(), far.Close() })
	defer stop()
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(near, far)
		_ = near.Close()
	})
	_, _ = io.Copy(far, near)
	_ = far.Close()
	back.Wait()
}
