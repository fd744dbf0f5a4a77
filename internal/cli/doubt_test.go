package cli

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// What was copied for a job stays while nobody knows whether the job was accepted. The
// scripts find a way to their server in PROXY, over which a job comes to the server, and
// the server's word of it does not come back.
func TestInDoubt(t *testing.T) {
	t.Parallel()
	runScripts(t, "testdata/doubt", func(env *testscript.Env) error {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		way := &silentWay{server: filepath.Join(env.WorkDir, "server"), cut: filepath.Join(env.WorkDir, "cut")}
		var serving sync.WaitGroup
		serving.Go(func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					return
				}
				serving.Go(func() { way.serve(conn) })
			}
		})
		env.Defer(func() {
			_ = l.Close() // it was only listened to
			way.over.Store(true)
			serving.Wait()
		})
		env.Setenv("PROXY", l.Addr().String())
		return nil
	})
}

// silentWay stands before the server whose address is in a file. It keeps back what the
// server says over a connection that has brought more than manyBytes, until there is the
// file cut: then such a connection breaks, and others are as any.
type silentWay struct {
	server, cut string
	over        atomic.Bool
}

// manyBytes is more than whatever comes before the inputs of a job.
const manyBytes = 20_000

func (w *silentWay) serve(client net.Conn) {
	var bringing sync.WaitGroup
	defer bringing.Wait()
	defer client.Close()
	address, err := os.ReadFile(w.server)
	if err != nil {
		return
	}
	server, err := net.Dial("tcp", strings.TrimSpace(string(address)))
	if err != nil {
		return // it is about to come back
	}
	defer server.Close()
	var brought atomic.Int64
	bringing.Go(func() {
		_, _ = io.Copy(server, io.TeeReader(client, tally{&brought})) // either end may go first
		_ = server.Close()
	})
	buffer := make([]byte, 32<<10)
	for {
		n, err := server.Read(buffer)
		if brought.Load() > manyBytes && !exists(w.cut) {
			poll(func() bool { return exists(w.cut) || w.over.Load() })
			return
		}
		if _, writeErr := client.Write(buffer[:n]); err != nil || writeErr != nil {
			return
		}
	}
}

type tally struct{ n *atomic.Int64 }

func (c tally) Write(p []byte) (int, error) {
	c.n.Add(int64(len(p)))
	return len(p), nil
}
