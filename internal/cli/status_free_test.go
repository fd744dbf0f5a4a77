package cli

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
)

// The free space is shown also when there is none, and left out where nobody knows it.
func TestStatusFree(t *testing.T) {
	t.Parallel()
	none := uint64(0)
	for _, c := range []struct {
		free  *uint64
		row   []string
		field string
	}{
		{&none, []string{"free", "0 B"}, `"free_bytes":0,`},
		{nil, nil, ""},
	} {
		o := overviewObject{Free: c.free}
		rows := o.glance()
		at := slices.IndexFunc(rows, func(row []string) bool { return row[0] == "free" })
		if (at >= 0) != (c.row != nil) || at >= 0 && !slices.Equal(rows[at], c.row) {
			t.Errorf("%v", rows)
		}
		b, err := json.Marshal(&o)
		if err != nil || !strings.Contains(string(b), c.field) || c.field == "" && strings.Contains(string(b), "free_bytes") {
			t.Errorf("%s, %v", b, err)
		}
	}
}
