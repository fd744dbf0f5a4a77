package mstc

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/output"
)

// maxLog is how much of a log an answer has, in bytes: brokers and clients take messages of
// some megabytes, and JSON makes six bytes of some.
const maxLog = 1 << 20

// tail keeps the end of what it is given.
type tail struct {
	b    []byte
	lost int64
}

func (t *tail) write(p []byte) {
	if len(p) > maxLog {
		t.lost += int64(len(p) - maxLog)
		p = p[len(p)-maxLog:]
	}
	if len(t.b)+len(p) > 2*maxLog {
		t.cut(maxLog - len(p))
	}
	t.b = append(t.b, p...)
}

// cut keeps the last n bytes.
func (t *tail) cut(n int) {
	if more := len(t.b) - n; more > 0 {
		t.lost += int64(more)
		t.b = t.b[:copy(t.b, t.b[more:])]
	}
}

// text is all of it, or from a whole line on what there is of the end, behind a word about the rest.
func (t *tail) text(task navvy.TaskID) string {
	if t.cut(maxLog); t.lost == 0 {
		return strings.ToValidUTF8(string(t.b), "\ufffd")
	}
	if i := bytes.IndexByte(t.b, '\n'); i >= 0 && i+1 < len(t.b) {
		t.cut(len(t.b) - i - 1)
	}
	return fmt.Sprintf("[%d bytes before this are left out: who runs this service has them, as the log of job %s]\n", t.lost, task) + strings.ToValidUTF8(string(t.b), "\ufffd")
}

// log is what a task wrote.
func (g *Gateway) log(ctx context.Context, a *client.Answer) (string, error) {
	var t tail
	write := func(s output.Stream, p []byte) error {
		if s != output.Value {
			t.write(p)
		}
		return nil
	}
	var err error
	if a.Output.Logged {
		err = g.client.Output(ctx, a.Task, client.OutputOptions{Attempt: a.ID}, client.OutputSink{Write: write})
	} else {
		var split output.Decoder
		err = split.Decode(a.Output.Inline, write)
	}
	return t.text(a.Task), err
}
