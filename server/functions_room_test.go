package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/memory"
)

// What an owner's functions take is bounded, also where none of them is too large.
func TestFunctionBytes(t *testing.T) {
	t.Parallel()
	eng, err := engine.Open(t.Context(), memory.New(), &engine.Options{Reserve: -1})
	if err != nil {
		t.Fatal(err)
	}
	s := &functions{Server: New(nil, eng, nil)}
	register := func(ctx context.Context, owner string, n, size int) error {
		code := append(bytes.Repeat([]byte("#"), size-20), fmt.Sprintf("%20d", n)...)
		_, err := s.register(ctx, &navvy.FunctionVersion{Owner: owner, Name: "f", Form: navvy.FormSource, Code: code, Entry: "f"})
		return err
	}
	full := maxFunctionBytes / navvy.MaxFunctionCode
	for n := range full {
		if err := register(t.Context(), "ann", n, navvy.MaxFunctionCode); err != nil {
			t.Fatalf("function %d: %v", n, err)
		}
	}
	if err := register(t.Context(), "ann", full, navvy.MaxFunctionCode); !errors.Is(err, navvy.ErrExhausted) {
		t.Errorf("one too many: %v", err)
	}
	if err := register(t.Context(), "ann", full, 1000); err != nil {
		t.Errorf("a small one: %v", err)
	}
	if err := register(t.Context(), "bob", 0, navvy.MaxFunctionCode); err != nil {
		t.Errorf("of somebody else: %v", err)
	}
	if _, err := s.remove(t.Context(), "ann", "f", 1); err != nil {
		t.Fatal(err)
	}
	if err := register(t.Context(), "ann", full+1, navvy.MaxFunctionCode-2000); err != nil {
		t.Errorf("in place of one that is gone: %v", err)
	}
}
