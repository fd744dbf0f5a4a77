package cli

import (
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/navvy-run/navvy/engine/driver"
	"github.com/navvy-run/navvy/internal/holder"
)

// damageJob makes the stored state of a job unreadable.
func damageJob(t *testing.T, data, id string) {
	t.Helper()
	dir, err := holder.OpenDir(data)
	if err != nil {
		t.Fatal(err)
	}
	store, err := openStore(t.Context(), "", dir, slog.New(slog.DiscardHandler), func(bool) {}, func(error) {})
	if err != nil {
		t.Fatal(err)
	}
	key := []byte("s" + id)
	stored, err := store.Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	var b driver.Batch
	b.Put(key, append([]byte{stored[0] ^ 0x80}, stored[1:]...))
	if err := errors.Join(store.Apply(t.Context(), &b), store.Close()); err != nil {
		t.Fatal(err)
	}
}

// A job whose record is damaged is told of, hides no other, and can be removed.
func TestDamagedJob(t *testing.T) {
	t.Parallel()
	data := t.TempDir() + "/data"
	var ids []string
	for _, name := range []string{"first", "second", "third"} {
		run(t, data, "map", "-o", "jsonl", "--noop", "--name", name, ":::", "x").expect(t, 0)
		var job struct{ ID string }
		if err := json.Unmarshal([]byte(run(t, data, "ls", "-n", "1", "-o", "jsonl").stdout), &job); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, job.ID)
	}
	bad := ids[1]
	damageJob(t, data, bad)

	r := run(t, data, "ls")
	r.expect(t, 65, "job "+bad+" is damaged: ", "damaged jobs: 1", "hint: navvy verify says what is wrong, navvy rm --force ID removes")
	for _, word := range []string{"first", "third", bad + "         damaged"} {
		if !strings.Contains(r.stdout, word) {
			t.Errorf("the list does not show %q:\n%s", word, r.stdout)
		}
	}
	var jobs []struct{ ID, State, Error string }
	r = run(t, data, "ls", "-o", "json")
	r.expect(t, 65)
	if err := json.Unmarshal([]byte(r.stdout), &jobs); err != nil || len(jobs) != 3 {
		t.Fatalf("%d jobs in %s: %v", len(jobs), r.stdout, err)
	}
	if j := jobs[1]; j.ID != bad || j.State != "damaged" || !strings.Contains(j.Error, "corrupt") {
		t.Errorf("the damaged job is shown as %+v", j)
	}

	for _, verb := range []string{"status", "results", "logs", "resume", "retry", "stop", "why", "wait", "rm"} {
		run(t, data, verb, bad).expect(t, 65, "job "+bad+": ", "corrupt", "hint: navvy verify")
		if verb != "rm" && verb != "retry" && verb != "logs" {
			run(t, data, verb, ids[0]).expect(t, 0)
		}
	}
	run(t, data, "verify").expect(t, 65, "job "+bad)
	run(t, data, "map", "-o", "jsonl", "--noop", ":::", "x").expect(t, 0)

	run(t, data, "rm", "--force", bad).expect(t, 0, "removed job "+bad)
	run(t, data, "ls").expect(t, 0)
	run(t, data, "status", bad).expect(t, 1)
	run(t, data, "verify").expect(t, 0)
}
