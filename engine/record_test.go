package engine

import (
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/navvy-run/navvy"
)

var update = flag.Bool("update", false, "write golden files of records that have none")

var (
	sampleTime = time.Unix(1_700_000_000, 123_456_789).UTC()
	sampleJob  = &navvy.Job{
		ID: "0123456789ab", Name: "scores", Owner: "ann", Queue: "default", Priority: -3, Accepted: sampleTime,
		Format: navvy.InputFields, Parallelism: 8, MaxFails: &navvy.MaxFails{Count: 4, Percent: 2.5},
		Delay: time.Second, Shuffle: 99, Detached: true, IdempotencyKey: "once",
		Spec: navvy.Spec{
			Timeout: time.Hour, Grace: 2 * time.Second, Retry: navvy.Retry{Max: 3, Backoff: time.Second, BackoffMax: time.Minute},
			Command: &navvy.Command{
				Args: []string{"echo", "{1}", "\xff"}, Literal: true, Shell: true, Stdin: true,
				Columns: []string{"a", "b"}, Env: []string{"A=1"}, Dir: "/tmp",
			},
		},
	}
	sampleLimits = navvy.Limits{
		CPUs: 1500, CPUShares: 512, Memory: 512 << 20, PIDs: 64, ReadBPS: 1, WriteBPS: 2, ReadIOPS: 3, WriteIOPS: 4, Output: 1 << 30,
		Ulimits: []navvy.Ulimit{{Name: "nofile", Soft: 1024, Hard: navvy.Unlimited}, {Name: "core"}},
	}
	sampleAttempt = navvy.Attempt{
		ID: navvy.AttemptID{Number: 2, Epoch: 7}, Outcome: navvy.OutcomeFailed, Reason: navvy.ReasonExit, Message: "exit code 3",
		Exit: navvy.Exit{Code: 3, Signal: 9}, Worker: "host", Slot: 4, Started: sampleTime, Finished: sampleTime.Add(time.Second),
		Usage:  navvy.Usage{User: time.Millisecond, System: 2 * time.Millisecond, MaxMemory: 1 << 20},
		Output: navvy.Output{Inline: []byte("frames"), Logged: true, Length: 6, CRC: 0xdeadbeef, Stdout: 1, Stderr: 2},
	}
	sampleUsage = navvy.Usage{
		User: time.Millisecond, System: 2 * time.Millisecond, MaxMemory: 1 << 20,
		Read: 1 << 33, Written: 4096, Throttled: time.Second, MaxPIDs: 3, OOMKills: 1,
	}
	sampleTask   = navvy.TaskID{Job: "0123456789ab", Index: 17}
	sampleResult = &navvy.Result{Task: sampleTask, State: navvy.Failed, Attempts: 2, Round: 1, Attempt: sampleAttempt}
	sampleState  = State{
		Open: true, Held: true, Stopped: true, Cut: true, Read: true, Attached: 5, Parallelism: 3,
		Total: 10, Succeeded: 4, Failed: 2, Round: 1, Bytes: 4096, Why: "because", Finished: sampleTime, Expires: sampleTime.Add(time.Hour),
	}
	sampleStateUsage = func() State {
		s := sampleState
		s.Attempts, s.Usage = 12, sampleUsage
		return s
	}()
	sampleStateLetters = func() State {
		s := sampleStateUsage
		s.Letters = 3
		return s
	}()
	sampleChunk = &Chunk{First: 5, Inputs: [][]byte{[]byte("a"), {}, []byte("c\x00")}}
	sampleEntry = Entry{Kind: KindToken, Name: "ab12", Value: []byte("{}"), Changed: sampleTime}
	sampleValue = Value{Key: "a/b", Bytes: []byte("x\x00y"), Version: 300, Changed: sampleTime}
	sampleShelf = Shelf{Version: 300, Deleted: 299, Keys: 2, Bytes: 1 << 20}
	sampleFile  = File{
		Name: "in/a", Size: 1 << 20, SHA256: [32]byte{1, 2, 31: 255}, Changed: sampleTime, Note: []byte("{}"),
		Content: ContentID{Epoch: 7, Number: 300}, Logged: true,
	}
	sampleRetry = RetrySelection{Indexes: []int64{1, 5}, Failed: true}
)

// sampleJobLimits is sampleJob with what only a newer record has.
func sampleJobLimits() *navvy.Job {
	j := *sampleJob
	j.Spec.Limits, j.Spec.Isolate, j.Spec.Network = sampleLimits, true, navvy.NetworkNone
	return &j
}

// sampleJobPlacement is sampleJobLimits with what only a newer record has.
func sampleJobPlacement() *navvy.Job {
	j := sampleJobLimits()
	j.Spec.Labels = map[string]string{"zone": "b", "gpu": "a100", "empty": ""}
	j.Spec.Resources = map[string]int64{"gpu": 2, "licence/x": 1}
	return j
}

// sampleJobDefault is sampleJobPlacement with what only the newest record has.
func sampleJobDefault() *navvy.Job {
	j := sampleJobPlacement()
	j.Spec.IsolateByDefault = true
	return j
}

// sampleJobFunction is sampleJobDefault for a function.
func sampleJobFunction() *navvy.Job {
	j := sampleJobDefault()
	j.Spec.Command = nil
	j.Spec.Function = &navvy.Function{ID: "0c8a5e1e-8f0a-4f4e-9d6f-3b9f5f1f1a11", Name: "score", Version: 7, Encoding: navvy.EncodingJSON, Batch: true, Path: []string{"/srv/app"}, Modules: "1f"}
	return j
}

// sampleJobService is sampleJobDefault for messages to a service.
func sampleJobService() *navvy.Job {
	j := sampleJobDefault()
	j.Spec.Command, j.Format, j.Responses = nil, navvy.InputMessage, true
	j.Spec.Service = &navvy.Service{Form: "lines:./score -v", Env: []string{"A=1", "B="}, Dir: "/srv"}
	return j
}

// sampleJobStage is sampleJobDefault with files.
func sampleJobStage() *navvy.Job {
	j := sampleJobDefault()
	j.Responses = true
	j.Spec.Stage = navvy.Stage{
		In:  []navvy.StagedInput{{From: "data/{}", To: "x"}, {From: "\xff"}},
		Out: []navvy.StagedOutput{{Pattern: "{.}.*", To: "runs/1", Optional: true}},
	}
	return j
}

// sampleJobContainer is a job of version 10.
func sampleJobContainer() *navvy.Job {
	j := sampleJobPackage()
	j.Spec.Service = nil
	j.Spec.Container = &navvy.Container{
		Image: "registry.example/tools/align:1.2", Name: "align", Entrypoint: []string{"/bin/align", "-q"},
		Command: navvy.Command{Args: []string{"{1}", "{2}"}, Columns: []string{"a", "b"}, Env: []string{"A=1"}, Dir: "/work"},
		Pending: 5 * time.Minute,
	}
	return j
}

// sampleJobBuckets is a job of version 11.
func sampleJobBuckets() *navvy.Job {
	j := sampleJobContainer()
	c := *j.Spec.Container
	c.Namespace, c.Template, c.Pack = "science", []byte(`{"spec":{"serviceAccountName":"someone"}}`), 50
	c.Buckets = navvy.Buckets{Input: "in", Output: "out", Prefix: "p-", InputDir: "/in", OutputDir: "/out"}
	j.Spec.Container = &c
	return j
}

// sampleJobTransfer is sampleJobStage with what is copied for it.
func sampleJobTransfer() *navvy.Job {
	j := sampleJobStage()
	j.Spec.Stage.Transfer, j.Spec.Stage.Cleanup = "k4", true
	return j
}

// sampleJobPackage is sampleJobService with a package.
func sampleJobPackage() *navvy.Job {
	j := sampleJobService()
	j.Spec.Service.Dir = ""
	j.Spec.Service.Package = &navvy.Package{Name: "ocr", Version: "1.2", Owner: "ops", SHA256: strings.Repeat("0f", 32)}
	return j
}

// sampleJobMounts is sampleJobStage with folders.
func sampleJobMounts() *navvy.Job {
	j := sampleJobStage()
	j.Spec.Stage.Mounts = []navvy.StagedFolder{{From: "ref/{}", To: "ref"}, {From: "\xfe"}}
	return j
}

func sampleAttemptUsage() *navvy.Attempt {
	a := sampleAttempt
	a.Usage = sampleUsage
	return &a
}

func sampleResultUsage() *navvy.Result {
	r := *sampleResult
	r.Attempt = *sampleAttemptUsage()
	return &r
}

var samplePrinted = printed{parts: 2, indexes: []byte("bitmap")}

// records are all kinds of stored values: how a sample is written, and read; encode
// is nil for a version that is only read.
var records = []struct {
	name   string
	encode func() []byte
	decode func([]byte) (any, error)
	want   any
}{
	{"job-v1", nil, func(b []byte) (any, error) { return decodeJob(b) }, sampleJob},
	{"job-v2", nil, func(b []byte) (any, error) { return decodeJob(b) }, sampleJobLimits()},
	{"job-v3", nil, func(b []byte) (any, error) { return decodeJob(b) }, sampleJobPlacement()},
	{"job-v11", func() []byte { return encodeJob(sampleJobBuckets()) }, func(b []byte) (any, error) { return decodeJob(b) }, sampleJobBuckets()},
	{"job-v10", nil, func(b []byte) (any, error) { return decodeJob(b) }, sampleJobContainer()},
	{"job-v7", nil, func(b []byte) (any, error) { return decodeJob(b) }, sampleJobStage()},
	{"job-v8", nil, func(b []byte) (any, error) { return decodeJob(b) }, sampleJobTransfer()},
	{"job-v9", nil, func(b []byte) (any, error) { return decodeJob(b) }, sampleJobPackage()},
	{"job-v9-mounts", nil, func(b []byte) (any, error) { return decodeJob(b) }, sampleJobMounts()},
	{"job-v6", nil, func(b []byte) (any, error) { return decodeJob(b) }, sampleJobService()},
	{"job-v5", nil, func(b []byte) (any, error) { return decodeJob(b) }, sampleJobFunction()},
	{"job-v4", nil, func(b []byte) (any, error) { return decodeJob(b) }, sampleJobDefault()},
	{"state-v1", nil, func(b []byte) (any, error) { return decodeState(b) }, sampleState},
	{"state-v3", func() []byte { return encodeState(&sampleStateLetters) }, func(b []byte) (any, error) { return decodeState(b) }, sampleStateLetters},
	{"letter-v1", func() []byte { return encodeLetter(300) }, func(b []byte) (any, error) { return decodeLetter(b) }, uint32(300)},
	{"state-v2", nil, func(b []byte) (any, error) { return decodeState(b) }, sampleStateUsage},
	{"result-v1", nil, func(b []byte) (any, error) { return decodeResult(sampleTask, b) }, sampleResult},
	{"result-v2", func() []byte { return appendResult(nil, sampleResultUsage()) }, func(b []byte) (any, error) { return decodeResult(sampleTask, b) }, sampleResultUsage()},
	{"attempt-v1", nil, func(b []byte) (any, error) { return decodeAttempt(sampleTask, b) }, &sampleAttempt},
	{"attempt-v2", func() []byte { return encodeAttempt(sampleAttemptUsage()) }, func(b []byte) (any, error) { return decodeAttempt(sampleTask, b) }, sampleAttemptUsage()},
	{"input-v1", func() []byte { return encodeChunk(sampleChunk.Inputs) }, func(b []byte) (any, error) {
		c, _, err := decodeChunk("0123456789ab", 5, b)
		return c, err
	}, sampleChunk},
	{"input-logged-v1", func() []byte { return encodeLoggedChunk(loggedChunk{length: 9, crc: 8}) }, func(b []byte) (any, error) {
		_, l, err := decodeChunk("0123456789ab", 5, b)
		if l == nil {
			l = &loggedChunk{}
		}
		return *l, err
	}, loggedChunk{length: 9, crc: 8}},
	{"printed-v1", func() []byte { return encodePrinted(samplePrinted) }, func(b []byte) (any, error) { return decodePrinted("0123456789ab", b) }, samplePrinted},
	{"size-v1", func() []byte { return encodeSize(12345) }, func(b []byte) (any, error) { return decodeSize(b) }, int64(12345)},
	{"registry-v1", func() []byte { return encodeEntry(sampleTime, sampleEntry.Value) }, func(b []byte) (any, error) { return decodeEntry(sampleEntry.Kind, sampleEntry.Name, b) }, sampleEntry},
	{"value-v1", func() []byte { return encodeValue(&sampleValue) }, func(b []byte) (any, error) { return decodeValue(sampleValue.Key, b) }, sampleValue},
	{"shelf-v1", func() []byte { return encodeShelf(&sampleShelf) }, func(b []byte) (any, error) { return decodeShelf("ann", b) }, sampleShelf},
	{"file-v1", func() []byte { return encodeFile(&sampleFile) }, func(b []byte) (any, error) { return decodeFile(sampleFile.Name, b) }, sampleFile},
	{"content-v1", func() []byte { return encodeContent([]byte("x\x00y")) }, func(b []byte) (any, error) { return decodeContent(sampleFile.Content, b) }, []byte("x\x00y")},
	{"retry-v1", func() []byte { return encodeRetry(sampleRetry) }, func(b []byte) (any, error) { return decodeRetry(b) }, sampleRetry},
}

// golden reads the file of a record; with -update it makes one that is missing.
func golden(t testing.TB, name string, encode func() []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", "records", name+".hex")
	text, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) && *update && encode != nil {
		text = []byte(hex.EncodeToString(encode()) + "\n")
		err = os.WriteFile(path, text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
	stored, err := hex.DecodeString(strings.TrimSpace(string(text)))
	if err != nil {
		t.Fatal(err)
	}
	return stored
}

// TestGoldenRecords reads the records that earlier builds have written. A file is
// never changed: a new version of a record gets a new one.
func TestGoldenRecords(t *testing.T) {
	t.Parallel()
	for _, r := range records {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			stored := golden(t, r.name, r.encode)
			got, err := r.decode(stored)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(r.want, got, cmp.AllowUnexported(printed{}, loggedChunk{})); diff != "" {
				t.Fatalf("want -, got +:\n%s", diff)
			}
			if r.encode == nil {
				return
			}
			if encoded := r.encode(); string(encoded) != string(stored) {
				t.Errorf("the newest version is written as %x, and the file has %x", encoded, stored)
			}
		})
	}
}

func TestBadRecordsAreRefused(t *testing.T) {
	t.Parallel()
	for _, r := range records {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			good := golden(t, r.name, r.encode)
			newer := append([]byte{}, good...)
			newer[1] = 99
			other := append([]byte{}, good...)
			other[0]++
			for what, b := range map[string][]byte{
				"a newer version": newer, "another kind": other, "nothing": nil, "one byte": good[:1],
				"more than a record": append(append([]byte{}, good...), 0),
			} {
				if _, err := r.decode(b); !errors.Is(err, navvy.ErrCorrupt) {
					t.Errorf("%s: got %v, want ErrCorrupt", what, err)
				}
			}
			for n := 2; n < len(good); n++ {
				if _, err := r.decode(good[:n]); !errors.Is(err, navvy.ErrCorrupt) {
					t.Errorf("cut after %d of %d bytes: got %v, want ErrCorrupt", n, len(good), err)
				}
			}
		})
	}
}

// The version after the newest is refused, not only some far one.
func TestNextVersionsAreRefused(t *testing.T) {
	t.Parallel()
	for _, r := range records {
		if r.encode == nil {
			continue
		}
		next := r.encode()
		next[1]++
		if _, err := r.decode(next); !errors.Is(err, navvy.ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", r.name, err)
		}
	}
}

// FuzzRecords gives foreign bytes to every decoder: each refuses them or
// understands them, and what it understands it can write and read again.
func FuzzRecords(f *testing.F) {
	for i, r := range records {
		f.Add(byte(i), golden(f, r.name, r.encode))
	}
	f.Fuzz(func(t *testing.T, kind byte, b []byte) {
		r := records[int(kind)%len(records)]
		if _, err := r.decode(b); err != nil && !errors.Is(err, navvy.ErrCorrupt) {
			t.Fatalf("%s: %v is not ErrCorrupt", r.name, err)
		}
	})
}
