package service

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/navvy-run/navvy/parcel"
)

// Whoever waits for a package that somebody else has begun to fetch, and given up, fetches
// it; those who come then share it, and it goes with the last of them.
func TestTreesGivenUp(t *testing.T) {
	t.Parallel()
	source, archive := t.TempDir(), filepath.Join(t.TempDir(), "packed")
	f, err := os.Create(archive)
	if err := errors.Join(err, os.WriteFile(filepath.Join(source, "x"), nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	_, err = parcel.Pack(t.Context(), f, source, nil)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	trees := &trees{dir: filepath.Join(t.TempDir(), "packages")}
	ctx, cancel := context.WithCancel(t.Context())
	begun, failed := make(chan struct{}), make(chan error)
	go func() {
		_, err := trees.take(ctx, "k", func(ctx context.Context) (*os.File, error) {
			close(begun)
			<-ctx.Done()
			return nil, ctx.Err()
		})
		failed <- err
	}()
	<-begun
	waited := make(chan *tree)
	go func() {
		second, err := trees.take(t.Context(), "k", func(context.Context) (*os.File, error) { return os.Open(archive) })
		if err != nil {
			t.Error(err)
		}
		waited <- second
	}()
	cancel()
	if err := <-failed; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	second := <-waited
	third, err := trees.take(t.Context(), "k", nil)
	if err != nil || third != second {
		t.Fatalf("it is not shared: %v", err)
	}
	if err := trees.give("k", second); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(third.path, "x")); err != nil {
		t.Errorf("it went while it was in use: %v", err)
	}
	if err := trees.give("k", third); err != nil {
		t.Error(err)
	}
	if there, err := os.ReadDir(trees.dir); err != nil || len(there) != 0 {
		t.Errorf("there are %v, %v", there, err)
	}
}
