package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/navvy-run/navvy/cluster"
	"github.com/navvy-run/navvy/internal/cli/format"
)

// previewObject is what the provider says of a change, as -o json shows it.
type previewObject struct {
	Kind    string   `json:"kind"`
	Name    string   `json:"name"`
	Changes []string `json:"changes"`
	Error   string   `json:"error,omitempty"`
}

// add adds what the provider says of a plan.
func (o *planObject) add(list []cluster.Preview, left int) {
	o.NotAsked = left
	for i := range list {
		p := &list[i]
		one := previewObject{Kind: p.Kind, Name: p.Name, Changes: p.Lines}
		if p.Lines == nil {
			one.Changes = []string{}
		}
		if p.Err != nil {
			one.Error = p.Err.Error()
		}
		o.Provider = append(o.Provider, one)
	}
}

// writePreviews draws what the provider says of a plan, beneath that; nothing if it says nothing.
func writePreviews(w io.Writer, list []cluster.Preview, left int) error {
	var b strings.Builder
	for i := range list {
		p := &list[i]
		if p.Err == nil && len(p.Lines) == 0 {
			continue
		}
		if b.Len() == 0 {
			b.WriteString("\nthe provider says of it:\n")
		}
		fmt.Fprintf(&b, "\n  %s", format.Printable(p.ID.String()))
		if p.Err != nil {
			fmt.Fprintf(&b, ": %s", format.Printable(p.Err.Error()))
		}
		b.WriteByte('\n')
		for _, line := range p.Lines {
			fmt.Fprintf(&b, "      %s\n", format.Printable(line))
		}
	}
	if b.Len() > 0 && left > 0 {
		fmt.Fprintf(&b, "\n  and it was not asked about %s more\n", count(int64(left), "change"))
	}
	_, err := io.WriteString(w, b.String())
	return err
}
