package server_test

import (
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/server/auth"
)

// hasCopied is a job that has ended, for which files were copied.
func hasCopied(t *testing.T, c *client.Client, name string) navvy.JobID {
	t.Helper()
	ctx := t.Context()
	stage := navvy.Stage{Transfer: name, In: []navvy.StagedInput{{From: "transfer/" + name + "/x", To: "x"}}}
	for _, key := range []string{stage.TransferFolder() + "x", stage.TransferFolder() + "deep/y", stage.ReturnFolder() + "1/z"} {
		if _, err := c.Files().Put(ctx, key, strings.NewReader(key), client.PutFileOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	id, err := trySubmit(ctx, c, navvy.Job{Spec: navvy.Spec{Command: &navvy.Command{Args: []string{"true"}}, Stage: stage}, Detached: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Stop(ctx, id, "enough"); err != nil {
		t.Fatal(err)
	}
	return id
}

// What was copied for a job goes with it, whoever removes it, and nothing else goes.
func TestCopiedGoes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	ctx := t.Context()
	ann, bob := w.as(t, "ann", auth.RoleUser), w.as(t, "bob", auth.RoleUser)
	removed, expired, kept := hasCopied(t, ann, "k1"), hasCopied(t, ann, "k2"), hasCopied(t, ann, "k3")
	hasCopied(t, bob, "k1")
	if err := ann.Remove(ctx, removed, false); err != nil {
		t.Fatal(err)
	}
	const rest = "return/k2/1/z return/k3/1/z transfer/k2/deep/y transfer/k2/x transfer/k3/deep/y transfer/k3/x"
	if got := fileNames(t, ann.Files(), ""); got != rest {
		t.Errorf("after one was removed: %s", got)
	}
	// It expires, and the server dies before it removes anything.
	if err := w.eng.Remove(ctx, expired); err != nil {
		t.Fatal(err)
	}
	if got := fileNames(t, ann.Files(), ""); got != rest {
		t.Errorf("the engine removes files: %s", got)
	}
	background(t, w.mgr.Run, w.srv.PublishFiles)
	const last = "return/k3/1/z transfer/k3/deep/y transfer/k3/x"
	patience := time.After(30 * time.Second)
	for len(strings.Fields(fileNames(t, ann.Files(), ""))) > 3 {
		select {
		case <-patience:
			t.Fatalf("what was copied stays: %s", fileNames(t, ann.Files(), ""))
		case <-time.After(5 * time.Millisecond):
		}
	}
	if got := fileNames(t, ann.Files(), ""); got != last {
		t.Errorf("after the other one had expired: %s", got)
	}
	if got := fileNames(t, bob.Files(), ""); got != "return/k1/1/z transfer/k1/deep/y transfer/k1/x" {
		t.Errorf("bob has %s", got)
	}
	list, _, err := w.eng.Registry().List(ctx, engine.KindCopied, "", "", 10)
	for err == nil && len(list) > 0 { // the entry goes after the files
		list, _, err = w.eng.Registry().List(ctx, engine.KindCopied, "", "", 10)
	}
	if err != nil {
		t.Error(err)
	}
	if err := ann.Remove(ctx, kept, false); err != nil {
		t.Error(err)
	}
	// Its checksums are forgotten as well.
	if _, err := ann.Files().PutKnown(ctx, "again", sumOf("transfer/k3/x")); err == nil {
		t.Error("what is gone is known")
	}
}
