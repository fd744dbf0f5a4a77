package worker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"testing"

	"github.com/navvy-run/navvy"
)

// A worker without a cache has the package that the job was accepted with, and no other.
func TestFetchedIsThePackage(t *testing.T) {
	t.Parallel()
	sum := sha256.Sum256([]byte("archive"))
	p := &navvy.Package{Name: "ocr", Version: "1.2", SHA256: hex.EncodeToString(sum[:])}
	send := func(text string) func(context.Context, io.Writer) error {
		return func(_ context.Context, w io.Writer) error {
			_, err := io.WriteString(w, text)
			return err
		}
	}
	f, err := fetched(t.Context(), p, send("archive"))
	if err != nil {
		t.Fatal(err)
	}
	text := make([]byte, 99)
	if n, err := f.ReadAt(text, 0); string(text[:n]) != "archive" || !errors.Is(err, io.EOF) {
		t.Errorf("it is %q, %v", text[:n], err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	for _, text := range []string{"another", "arch", ""} {
		if f, err := fetched(t.Context(), p, send(text)); !errors.Is(err, navvy.ErrCorrupt) || f != nil {
			t.Errorf("%q is taken for it: %v", text, err)
		}
	}
}
