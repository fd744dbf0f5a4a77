package server

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
)

var recordTime = time.Date(2026, 11, 22, 8, 0, 0, 5, time.UTC)

// What earlier builds have registered, this one reads. A text is never changed: a
// new version of a record gets a new one.
var goldenRecords = []struct {
	kind   engine.Kind
	text   string
	decode func(*engine.Entry) (any, error)
	encode func() ([]byte, error)
	want   any
}{
	{
		engine.KindCertificate,
		`{"version":1,"name":"ann","role":"user","issued":"2026-11-22T08:00:00.000000005Z","expires":"2026-11-22T08:00:00.000000005Z","by":"root","via":"renew","renews":"ab12"}`,
		func(e *engine.Entry) (any, error) { return decodeRecord[issued](e) },
		func() ([]byte, error) { return encodeRecord(&goldenIssued) }, &goldenIssued,
	},
	{
		engine.KindRevocation,
		`{"version":1,"at":"2026-11-22T08:00:00.000000005Z","by":"root","why":"lost","expires":"2026-11-22T08:00:00.000000005Z"}`,
		func(e *engine.Entry) (any, error) { return decodeRecord[revoked](e) },
		func() ([]byte, error) { return encodeRecord(&goldenRevoked) }, &goldenRevoked,
	},
	{
		engine.KindToken,
		`{"version":1,"by":"root","created":"2026-11-22T08:00:00.000000005Z","expires":"2026-11-22T08:00:00.000000005Z","uses":3}`,
		func(e *engine.Entry) (any, error) { return decodeRecord[token](e) },
		func() ([]byte, error) { return encodeRecord(&goldenToken) }, &goldenToken,
	},
	{
		engine.KindQueue,
		`{"version":1,"paused":true,"concurrency":2,"rate":0.5,"created":"2026-11-22T08:00:00.000000005Z","by":"root"}`,
		func(e *engine.Entry) (any, error) { return decodeRecord[queueRecord](e) },
		func() ([]byte, error) { return encodeRecord(&goldenQueue1) }, &goldenQueue1,
	},
	{
		engine.KindQueue,
		`{"version":2,"paused":true,"concurrency":2,"rate":0.5,"created":"2026-11-22T08:00:00.000000005Z","by":"root","dispatch":"push"}`,
		func(e *engine.Entry) (any, error) { return decodeRecord[queueRecord](e) },
		func() ([]byte, error) { return encodeRecord(&goldenQueue) }, &goldenQueue,
	},
	{
		engine.KindQueue,
		`{"version":5,"paused":false,"concurrency":0,"rate":0,"created":"2026-11-22T08:00:00.000000005Z","by":"root","pods":{"Namespace":"science","ServiceAccount":"runner","NodeSelector":{"disk":"fast"},"Tolerations":["gpu=yes:NoSchedule"],"PullSecrets":["registry"],"Template":"e30="}}`,
		func(e *engine.Entry) (any, error) { return decodeRecord[queueRecord](e) },
		func() ([]byte, error) { return encodeRecord(&goldenQueue5) }, &goldenQueue5,
	},
	{
		engine.KindAPIToken,
		`{"version":1,"owner":"ann","role":"user","serial":"ab12","created":"2026-11-22T08:00:00.000000005Z","expires":"2026-11-22T08:00:00.000000005Z"}`,
		func(e *engine.Entry) (any, error) { return decodeRecord[apiToken](e) },
		func() ([]byte, error) { return encodeRecord(&goldenAPIToken) }, &goldenAPIToken,
	},
	{
		engine.KindFunction,
		`{"version":1,"owner":"ann","name":"score","number":7,"form":"pickle","python":"3.11","pickler":"dill 0.3.6","created":"2026-11-22T08:00:00.000000005Z","size":4,"code_hash":"b7c2"}`,
		func(e *engine.Entry) (any, error) { return decodeRecord[functionRecord](e) },
		func() ([]byte, error) { return encodeRecord(&goldenFunction) }, &goldenFunction,
	},
}

var (
	goldenIssued   = issued{Version: 1, Name: "ann", Role: "user", Issued: recordTime, Expires: recordTime, By: "root", Via: viaRenew, Renews: "ab12"}
	goldenRevoked  = revoked{Version: 1, At: recordTime, By: "root", Why: "lost", Expires: recordTime}
	goldenAPIToken = apiToken{Version: 1, Owner: "ann", Role: "user", Serial: "ab12", Created: recordTime, Expires: recordTime}
	goldenFunction = functionRecord{Version: 1, Owner: "ann", Name: "score", Number: 7, Form: "pickle", Python: "3.11", Pickler: "dill 0.3.6", Created: recordTime, Size: 4, CodeHash: "b7c2"}
	goldenToken    = token{Version: 1, By: "root", Created: recordTime, Expires: recordTime, Uses: 3}
	goldenQueue1   = queueRecord{Version: 1, Paused: true, Concurrency: 2, Rate: 0.5, Created: recordTime, By: "root"}
	goldenQueue    = queueRecord{Version: 2, Paused: true, Concurrency: 2, Rate: 0.5, Created: recordTime, By: "root", Dispatch: "push"}
	goldenQueue5   = queueRecord{Version: 5, Created: recordTime, By: "root", Pods: &navvy.Pods{
		Namespace: "science", ServiceAccount: "runner", NodeSelector: map[string]string{"disk": "fast"},
		Tolerations: []string{"gpu=yes:NoSchedule"}, PullSecrets: []string{"registry"}, Template: []byte("{}"),
	}}
)

func TestGoldenIdentityRecords(t *testing.T) {
	t.Parallel()
	for _, g := range goldenRecords {
		got, err := g.decode(&engine.Entry{Kind: g.kind, Name: "x", Value: []byte(g.text)})
		if diff := cmp.Diff(g.want, got); err != nil || diff != "" {
			t.Errorf("%s: %v; want -, got +:\n%s", g.kind, err, diff)
		}
		if text, err := g.encode(); err != nil || string(text) != g.text {
			t.Errorf("%s is written as %s, %v", g.kind, text, err)
		}
		for _, bad := range []string{"", "{}", "null", `{"version":0}`, `{"version":9}`, g.text[:len(g.text)-1], g.text + "{}", `{"version":1,"unheard":1}`} {
			if _, err := g.decode(&engine.Entry{Kind: g.kind, Name: "x", Value: []byte(bad)}); !errors.Is(err, navvy.ErrCorrupt) {
				t.Errorf("%s %q: %v", g.kind, bad, err)
			}
		}
	}
}

// FuzzIdentityRecords gives foreign bytes to the decoders.
func FuzzIdentityRecords(f *testing.F) {
	for i, g := range goldenRecords {
		f.Add(byte(i), []byte(g.text))
	}
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		g := goldenRecords[int(kind)%len(goldenRecords)]
		if _, err := g.decode(&engine.Entry{Kind: g.kind, Name: "x", Value: b}); err != nil && !errors.Is(err, navvy.ErrCorrupt) {
			t.Fatal(err)
		}
	})
}
