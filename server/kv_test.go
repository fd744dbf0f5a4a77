package server_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

func TestValuesOverTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ctx, kv := t.Context(), w.as(t, "ann", auth.RoleUser).KV()
	one, err := kv.Put(ctx, "a", []byte("\x00\xff"), client.PutOptions{IfAbsent: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := kv.Put(ctx, "a", nil, client.PutOptions{IfAbsent: true}); !errors.Is(err, navvy.ErrExists) {
		t.Errorf("put if absent: %v", err)
	}
	if _, err := kv.Put(ctx, "a", nil, client.PutOptions{IfVersion: one + 1}); !errors.Is(err, navvy.ErrConflict) {
		t.Errorf("put if another version: %v", err)
	}
	if v, err := kv.Get(ctx, "a"); err != nil || string(v.Bytes) != "\x00\xff" || v.Version != one || v.Size != 2 || v.Changed.IsZero() {
		t.Errorf("got %+v, %v", v, err)
	}
	if _, err := kv.Put(ctx, "\xff", nil, client.PutOptions{}); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("a key that is no UTF-8: %v", err)
	}
	if err := kv.Delete(ctx, "a", one+1); !errors.Is(err, navvy.ErrConflict) {
		t.Errorf("delete another version: %v", err)
	}
	if err := kv.Delete(ctx, "a", one); err != nil {
		t.Error(err)
	}
	if _, err := kv.Get(ctx, "a"); !errors.Is(err, navvy.ErrNotFound) {
		t.Errorf("get what was deleted: %v", err)
	}
}

func TestManyValuesOverTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ctx, kv := t.Context(), w.as(t, "ann", auth.RoleUser).KV()
	var want, got []string
	for i := range 1100 { // more than a page
		want = append(want, fmt.Sprintf("k/%04d", i))
		if _, err := kv.Put(ctx, want[i], []byte("v"), client.PutOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	for v, err := range kv.Keys(ctx, "k/") {
		if err != nil || v.Bytes != nil || v.Size != 1 {
			t.Fatalf("%+v, %v", v, err)
		}
		got = append(got, v.Key)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("keys: want -, got +:\n%s", diff)
	}
}

// Values are their owner's alone; an admin who names the owner is written down.
func TestValuesOfOthers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ctx := t.Context()
	ann, bob, root := w.as(t, "ann", auth.RoleUser), w.as(t, "bob", auth.RoleUser), w.as(t, "root", auth.RoleAdmin)
	if _, err := ann.KV().Put(ctx, "secret", []byte("x"), client.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	for who, kv := range map[string]client.KV{"bob": bob.KV(), "root": root.KV()} {
		if _, err := kv.Get(ctx, "secret"); !errors.Is(err, navvy.ErrNotFound) {
			t.Errorf("%s has it, too: %v", who, err)
		}
	}
	for who, c := range map[string]*client.Client{"bob": bob, "a viewer": w.as(t, "eve", auth.RoleViewer), "a worker": w.as(t, "w", auth.RoleWorker)} {
		for what, err := range everyKVCall(ctx, c.KVOf("ann")) {
			if !errors.Is(err, navvy.ErrDenied) {
				t.Errorf("%s: %s: %v", who, what, err)
			}
		}
	}
	for what, err := range everyKVCall(ctx, root.KVOf("ann")) {
		if err != nil {
			t.Errorf("an admin: %s: %v", what, err)
		}
	}
	if lines := w.audit.find(t, "admin action"); len(lines) != 5 || lines[0]["owner"] != "ann" || lines[0]["name"] != "root" {
		t.Errorf("written down: %v", lines)
	}
}

// everyKVCall makes each call about values.
func everyKVCall(ctx context.Context, kv client.KV) map[string]error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	errs := map[string]error{}
	_, errs["put"] = kv.Put(ctx, "mine", nil, client.PutOptions{})
	_, errs["get"] = kv.Get(ctx, "mine")
	errs["delete"] = kv.Delete(ctx, "mine", 0)
	for _, err := range kv.List(ctx, "") {
		errs["list"] = err
	}
	for _, err := range kv.Watch(ctx, "", 0) {
		errs["watch"] = err
		break
	}
	return errs
}

func TestWatchValuesOverTheWire(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ctx, kv := t.Context(), w.as(t, "ann", auth.RoleUser).KV()
	if _, err := kv.Put(ctx, "a/1", []byte("one"), client.PutOptions{}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for changes, err := range kv.Watch(ctx, "a/", 0) {
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range changes.Changes {
			got = append(got, fmt.Sprintf("%s=%s %t", c.Key, c.Bytes, c.Deleted))
		}
		switch len(got) {
		case 1:
			_, err = kv.Put(ctx, "b", nil, client.PutOptions{})
			if err == nil {
				_, err = kv.Put(ctx, "a/1", []byte("two"), client.PutOptions{})
			}
		case 2:
			err = kv.Delete(ctx, "a/1", 0)
		}
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 3 {
			break
		}
	}
	if diff := cmp.Diff([]string{"a/1=one false", "a/1=two false", "a/1= true"}, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}
