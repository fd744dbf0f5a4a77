package cli

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster"
	clusterdriver "github.com/navvy-run/navvy/cluster/driver"
)

// What a provider says of a plan stands beneath it, and in its JSON.
func TestPreviews(t *testing.T) {
	t.Parallel()
	id := func(kind, name string) clusterdriver.ID { return clusterdriver.ID{Kind: kind, Name: name} }
	list := []cluster.Preview{
		{ID: id("queue", "in")},
		{ID: id("worker", "w-1"), Lines: []string{"modify a/b", "  image: x → y\x1b[2J"}},
		{ID: id("worker", "w-2"), Err: fmt.Errorf("no cores are left: %w", navvy.ErrExhausted)},
	}
	var b strings.Builder
	if err := writePreviews(&b, list, 3); err != nil {
		t.Fatal(err)
	}
	const want = "\nthe provider says of it:\n\n  worker w-1\n      modify a/b\n        image: x → y\\x1b[2J\n\n  worker w-2: no cores are left: exhausted\n" +
		"\n  and it was not asked about 3 changes more\n"
	if b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
	b.Reset()
	if err := writePreviews(&b, list[:1], 0); err != nil || b.Len() > 0 {
		t.Errorf("of nothing it says %q, %v", b.String(), err)
	}
	o := newPlanObject(&cluster.Plan{Cluster: "c"})
	o.add(list, 3)
	text, err := json.Marshal(o)
	const object = `{"cluster":"c","same":0,"changes":[],"provider":[{"kind":"queue","name":"in","changes":[]},` +
		`{"kind":"worker","name":"w-1","changes":["modify a/b","  image: x → y\u001b[2J"]},` +
		`{"kind":"worker","name":"w-2","changes":[],"error":"no cores are left: exhausted"}],"not_asked":3}`
	if err != nil || string(text) != object {
		t.Errorf("%s, want %s, %v", text, object, err)
	}
}
