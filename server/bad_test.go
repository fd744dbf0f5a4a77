package server_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// later is a field of a version to come.
func later() []byte {
	return protowire.AppendVarint(protowire.AppendTag(nil, 987, protowire.VarintType), 1)
}

// What a newer client asks for and this server does not know is refused, and named: it
// is not left out in silence. Nothing of it happens.
func TestUnknownFields(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	conn := w.conn(t, "root", auth.RoleAdmin)
	refused := func(err error, message string) {
		t.Helper()
		if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "field 987 of navvy.v1."+message) {
			t.Errorf("with a field more in %s: %v", message, err)
		}
	}
	set := &navvyv1.QueuesSetRequest{Name: "gpu", Create: true}
	set.ProtoReflect().SetUnknown(later())
	_, err := navvyv1.NewQueuesClient(conn).Set(t.Context(), set)
	refused(err, "QueuesSetRequest")

	job := api.FromJob(&navvy.Job{Spec: navvy.Spec{Noop: &navvy.Noop{}, Limits: navvy.Limits{CPUs: 1000}}, Detached: true})
	job.Spec.Limits.ProtoReflect().SetUnknown(later())
	submit, err := navvyv1.NewJobsClient(conn).Submit(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := submit.Send(&navvyv1.SubmitRequest{Part: &navvyv1.SubmitRequest_Header{Header: &navvyv1.SubmitHeader{Job: job}}}); err != nil {
		t.Fatal(err)
	}
	_, err = submit.Recv()
	refused(err, "Limits")

	c := client.New(conn)
	if q := queuesOf(t, c); len(q) != 0 {
		t.Errorf("there are queues: %v", q)
	}
	for job, err := range c.Jobs(t.Context()) {
		t.Errorf("there is a job: %v, %v", job.ID, err)
	}
}

// A job of no tasks is none.
func TestNoTasks(t *testing.T) {
	t.Parallel()
	c := newWorld(t, auth.Ed25519, false).as(t, "ann", auth.RoleUser)
	for _, stream := range []bool{false, true} {
		sub, err := c.Submit(t.Context(), navvy.Job{Spec: navvy.Spec{Noop: &navvy.Noop{}}, Detached: true}, client.SubmitOptions{Stream: stream})
		if err != nil {
			t.Fatal(err)
		}
		sealed := sub.Seal()
		if _, _, err := sub.Accepted(t.Context()); !errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), "there is no input") {
			t.Errorf("a stream %v: %v, %v", stream, sealed, err)
		}
		sub.Close()
	}
	for job, err := range c.Jobs(t.Context()) {
		t.Errorf("there is a job: %v, %v", job.ID, err)
	}
}

// What is too large is refused by what it says of itself, before it is there; what is no
// message at all is refused, too; and the connection serves the next call.
func TestMalformed(t *testing.T) {
	t.Parallel()
	w := newWorld(t, auth.Ed25519, false)
	config := auth.ClientTLS(auth.Fixed(w.cert(t, w.ca, auth.Subject{Name: "ann", Role: auth.RoleUser}, 0)), w.ca.Pool())
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: true}}
	t.Cleanup(web.CloseIdleConnections)
	message := func(length uint32, content string) io.Reader {
		return io.MultiReader(bytes.NewReader(binary.BigEndian.AppendUint32([]byte{0}, length)), strings.NewReader(content))
	}
	for name, c := range map[string]struct {
		body io.Reader
		code codes.Code
	}{
		"more than there may be": {message(api.MaxMessage+1, ""), codes.ResourceExhausted},
		"more than there can be": {message(1<<32-1, "and so on"), codes.ResourceExhausted},
		"cut":                    {message(100, "short"), codes.Internal},
		"noise":                  {message(4, "\xff\xff\xff\xff"), codes.Internal},
		"no frame":               {strings.NewReader("GET"), codes.Internal},
		"nothing":                {http.NoBody, codes.Internal},
		"right":                  {message(0, ""), codes.OK},
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+w.addr+navvyv1.Identity_Whoami_FullMethodName, c.body)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/grpc")
		req.Header.Set("Te", "trailers")
		resp, err := web.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		_, err = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		got := resp.Header.Get("Grpc-Status") + resp.Trailer.Get("Grpc-Status")
		if got != strconv.Itoa(int(c.code)) || err != nil {
			t.Errorf("%s: status %s, %v", name, got, err)
		}
	}
}
