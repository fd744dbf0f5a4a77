package local

import (
	"errors"
	"testing"

	"github.com/navvy-run/navvy"
)

func FuzzMark(f *testing.F) {
	f.Add([]byte(`{"version":1,"name":"a","config":{"name":"a"},"salt":"AAAA","supervisor":"navvy","ports":{"grpc":1}}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		m, err := parseMark(text)
		if err != nil && !errors.Is(err, navvy.ErrCorrupt) || err == nil && m.Version != markVersion {
			t.Errorf("%+v, %v", m, err)
		}
	})
}
