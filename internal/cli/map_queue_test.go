package cli

import (
	"slices"
	"testing"

	"github.com/spf13/pflag"
)

// With a broker's queue each flag of map is refused, or is one that does something there.
func TestBrokerGoes(t *testing.T) {
	t.Parallel()
	cmd := newMap(&app{env: func(string) string { return "" }})
	known := map[string]bool{}
	cmd.Flags().VisitAll(func(flag *pflag.Flag) {
		known[flag.Name] = true
		f := &mapFlags{given: []string{flag.Name}}
		if err := f.checkGiven(); (err == nil) != slices.Contains(brokerGoes, flag.Name) {
			t.Errorf("--%s: %v", flag.Name, err)
		}
	})
	for _, name := range brokerGoes {
		if !known[name] {
			t.Errorf("there is no --%s", name)
		}
	}
}
