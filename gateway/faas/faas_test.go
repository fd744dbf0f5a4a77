package faas_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/gateway/faas"
	"github.com/navvy-run/navvy/gateway/jobid"
)

// A function is registered, called, asked after, and its value comes back as it is.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	input := []byte("\x80\x04K\x02\x85\x94}\x94\x86\x94.")
	for _, payload := range []string{wrapped(input), strings.ReplaceAll(wrapped(input), "\n", ""), strings.ReplaceAll(wrapped(input), "\n", "\r\n") + " \t"} {
		task := w.execute(t, w.register(t, "echo"), payload)
		if status, value := w.result(t, task); status != "COMPLETED" || !bytes.Equal(value, input) {
			t.Errorf("%s: %q", status, value)
		}
		code, answer, _ := w.call(t, "GET", "/status/"+task, "")
		if want := map[string]any{"task_id": task, "status": "COMPLETED"}; code != http.StatusOK || !reflect.DeepEqual(answer, want) {
			t.Errorf("status: %d %v", code, answer)
		}
		// The same task by other names of its UUID.
		for _, name := range []string{strings.ToUpper(task), strings.ReplaceAll(task, "-", ""), "urn:uuid:" + task, "%7B" + task + "%7D"} {
			if code, answer, _ := w.call(t, "GET", "/status/"+name, ""); code != http.StatusOK || text(answer, "task_id") != task {
				t.Errorf("status of %s: %d %v", name, code, answer)
			}
		}
	}
}

// A value that is too long for a message is streamed, in the same form.
func TestLarge(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	task := w.execute(t, w.register(t, "large"), none)
	if status, value := w.result(t, task); status != "COMPLETED" || !bytes.Equal(value, bytes.Repeat([]byte("v"), large)) {
		t.Errorf("%s: %d bytes", status, len(value))
	}
}

// A task that has failed gives what was raised, or an exception that says why.
func TestFailures(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for _, tt := range []struct{ name, status, want string }{
		{"raise", "FAILED", "\x80\x04N."},
		{"die", "FAILED", "\x80\x02cbuiltins\nRuntimeError\nX\x1d\x00\x00\x00worker process died: signal 9\x85R."},
		{"late", "FAILED", "\x80\x02cbuiltins\nTimeoutError\nX\x13\x00\x00\x00timed out after 1 s\x85R."},
		{"unloadable", "FAILED", "\x80\x04N."},
		// The beginning of a value is none.
		{"partly", "FAILED", "\x80\x02cbuiltins\nTimeoutError\nX\x13\x00\x00\x00timed out after 1 s\x85R."},
		{"largely", "FAILED", "\x80\x02cbuiltins\nTimeoutError\nX\x13\x00\x00\x00timed out after 1 s\x85R."},
		{"empty", "COMPLETED", "\x80\x02N."},
	} {
		task := w.execute(t, w.register(t, tt.name), none)
		if status, value := w.result(t, task); status != tt.status || string(value) != tt.want {
			t.Errorf("%s: %s %q", tt.name, status, value)
		}
		if code, answer, _ := w.call(t, "GET", "/status/"+task, ""); code != http.StatusOK || text(answer, "status") != tt.status {
			t.Errorf("status of %s: %d %v", tt.name, code, answer)
		}
	}
}

// A task that goes on has no result yet, which is told after a moment; one that is
// stopped has failed.
func TestStopped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &faas.Options{Wait: time.Millisecond})
	task := w.execute(t, w.register(t, "wait"), none)
	for seen := ""; seen != "RUNNING"; {
		code, answer, _ := w.call(t, "GET", "/result/"+task, "")
		if seen = text(answer, "status"); code != http.StatusOK || seen != "RUNNING" && seen != "QUEUED" || answer["result"] != "" {
			t.Fatalf("result: %d %v", code, answer)
		}
	}
	id, err := jobid.FaaS.Job(task)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.inside().Stop(t.Context(), id, "enough"); err != nil {
		t.Fatal(err)
	}
	if status, value := w.result(t, task); status != "FAILED" || !bytes.Contains(value, []byte("RuntimeError\n")) || !bytes.Contains(value, []byte("enough")) {
		t.Errorf("%s: %q", status, value)
	}
	if err := w.inside().Remove(t.Context(), id, true); err != nil {
		t.Fatal(err)
	}
	if code, answer, _ := w.call(t, "GET", "/result/"+task, ""); code != http.StatusNotFound {
		t.Errorf("removed: %d %v", code, answer)
	}
}

// A task is queued while nobody can take it, and its result is waited for.
func TestWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &faas.Options{Wait: time.Minute})
	task := w.execute(t, w.register(t, "echo"), none)
	code, answer, _ := w.call(t, "GET", "/result/"+task, "")
	if code != http.StatusOK || text(answer, "status") != "COMPLETED" {
		t.Errorf("at the first asking: %d %v", code, answer)
	}
}

// Both forms of each path work: the one with a slash leads to the other.
func TestSlashes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for _, tt := range []struct{ method, path, to string }{
		{"POST", "/register_function/", "/register_function"},
		{"POST", "/execute_function/?a=b", "/execute_function?a=b"},
		{"GET", "/status/6ba7b810-9dad-11d1-80b4-00c04fd430c8/", "/status/6ba7b810-9dad-11d1-80b4-00c04fd430c8"},
		{"GET", "/result/%41%0d/", "/result/%41%0d"},
	} {
		code, _, header := w.call(t, tt.method, tt.path, "")
		if code != http.StatusTemporaryRedirect || header.Get("Location") != tt.to {
			t.Errorf("%s: %d to %s", tt.path, code, header.Get("Location"))
		}
	}
	// A client that follows sends its body again, however long.
	follow := *w.http.Client()
	follow.CheckRedirect = nil
	body := object("name", "echo", "payload", wrapped([]byte("\x80\x04B\x00\x00\x08\x00"+strings.Repeat("b", 8<<16)+".")))
	resp, err := follow.Post(w.http.URL+"/register_function/", "application/json", strings.NewReader(body)) //nolint:noctx // it has no other way to give a body twice
	if err != nil || resp.StatusCode != http.StatusCreated {
		t.Fatalf("%v, %v", resp, err)
	}
	_ = resp.Body.Close()
}

// What is wrong with a request is told as FastAPI does.
func TestErrors(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	const nobody = "6ba7b810-9dad-11d1-80b4-00c04fd430c8"
	field := func(loc, msg, kind string) string {
		return fmt.Sprintf(`{"detail":[{"loc":%s,"msg":%q,"type":%q}]}`, loc, msg, kind)
	}
	for _, tt := range []struct {
		method, path, body string
		status             int
		want               string // all of the answer, or a part
	}{
		{"POST", "/register_function", `{"name": "f"}`, 422, field(`["body","payload"]`, "field required", "value_error.missing")},
		{"POST", "/register_function", `{"payload": ""}`, 422, field(`["body","name"]`, "field required", "value_error.missing")},
		{"POST", "/register_function", `{}`, 422, `"loc":["body","name"],"msg":"field required","type":"value_error.missing"},{`},
		{"POST", "/register_function", `{"name": "f", "payload": 5}`, 422, field(`["body","payload"]`, "str type expected", "type_error.str")},
		{"POST", "/register_function", `{"name": ["f"], "payload": ""}`, 422, field(`["body","name"]`, "str type expected", "type_error.str")},
		{"POST", "/register_function", `{"name": null, "payload": ""}`, 422, field(`["body","name"]`, "none is not an allowed value", "type_error.none.not_allowed")},
		{"POST", "/register_function", ``, 422, field(`["body"]`, "field required", "value_error.missing")},
		{"POST", "/register_function", `null`, 422, field(`["body"]`, "field required", "value_error.missing")},
		{"POST", "/register_function", `["name"]`, 422, field(`["body"]`, "value is not a valid dict", "type_error.dict")},
		{"POST", "/register_function", `{"name": "f"`, 422, `"loc":["body",12],"msg":"Expecting value: line 1 column 13 (char 12)","type":"value_error.jsondecode"`},
		{"POST", "/register_function", "{\n\"näme\": x}", 422, `Expecting value: line 2 column 9 (char 10)`},
		{"POST", "/register_function", "{\"name\": \"\xff\"}", 422, `There was an error parsing the body`},
		{"POST", "/register_function", object("name", "hello", "payload", "payload"), 400, `{"detail":"the payload is no serialized object: it is not base 64"}`},
		{"POST", "/register_function", object("name", "hello", "payload", "aGVsbG8="), 400, `no serialized object`},
		{"POST", "/register_function", object("name", "hello", "payload", ""), 400, `no serialized object`},
		{"POST", "/execute_function", object("payload", none), 422, field(`["body","function_id"]`, "field required", "value_error.missing")},
		{"POST", "/execute_function", object("function_id", "seven", "payload", none), 422, field(`["body","function_id"]`, "value is not a valid uuid", "type_error.uuid")},
		{"POST", "/execute_function", `{"function_id": 7, "payload": ""}`, 422, field(`["body","function_id"]`, "value is not a valid uuid", "type_error.uuid")},
		{"POST", "/execute_function", object("function_id", nobody, "payload", none), 404, `{"detail":"`},
		{"POST", "/execute_function", object("function_id", nobody, "payload", "payload"), 400, `no serialized object`},
		{"GET", "/status/seven", "", 422, field(`["path","task_id"]`, "value is not a valid uuid", "type_error.uuid")},
		{"GET", "/result/seven", "", 422, field(`["path","task_id"]`, "value is not a valid uuid", "type_error.uuid")},
		{"GET", "/status/" + nobody, "", 404, `{"detail":"there is no task ` + nobody + `"}`},
		{"GET", "/result/" + nobody, "", 404, `{"detail":"there is no task ` + nobody + `"}`},
		{"GET", "/result/" + jobid.FaaS.UUID("0123456789ab"), "", 404, `{"detail":"there is no task `},
		{"GET", "/status/" + jobid.FaaS.UUID("0123456789ab"), "", 404, `{"detail":"there is no task `},
		{"GET", "/register_function", "", 405, `{"detail":"Method Not Allowed"}`},
		{"POST", "/result/" + nobody, "{}", 405, `{"detail":"Method Not Allowed"}`},
		{"GET", "/", "", 404, `{"detail":"Not Found"}`},
		{"GET", "/status", "", 404, `{"detail":"Not Found"}`},
		{"GET", "/status/a/b", "", 404, `{"detail":"Not Found"}`},
		{"POST", "/register_function/x", "{}", 404, `{"detail":"Not Found"}`},
	} {
		code, answer, header := w.call(t, tt.method, tt.path, tt.body)
		got, _ := json.Marshal(answer)
		if code != tt.status || !strings.Contains(string(got), tt.want) {
			t.Errorf("%s %s %s: %d %s\nwant %d %s", tt.method, tt.path, tt.body, code, got, tt.status, tt.want)
		}
		if code == http.StatusMethodNotAllowed && header.Get("Allow") == "" {
			t.Errorf("%s %s: it does not say which method", tt.method, tt.path)
		}
	}
}

// A web page of another origin, and a form, which need nobody's leave to send, have no access.
func TestForeign(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	body := object("name", "echo", "payload", none)
	if code, answer, _ := w.call(t, "POST", "/register_function", body, "Origin", "http://elsewhere.example"); code != http.StatusForbidden || text(answer, "detail") == "" {
		t.Errorf("another origin: %d %v", code, answer)
	}
	if code, answer, _ := w.call(t, "POST", "/register_function", body, "Content-Type", "text/plain"); code != http.StatusUnprocessableEntity {
		t.Errorf("a form: %d %v", code, answer)
	}
}

// What is too long is refused with a reason.
func TestTooLarge(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	long := wrapped([]byte("\x80\x04B\x00\x00\x20\x00" + strings.Repeat("b", 2<<20) + "."))
	if code, answer, _ := w.call(t, "POST", "/register_function", object("name", "f", "payload", long)); code != http.StatusRequestEntityTooLarge || text(answer, "detail") == "" {
		t.Errorf("a function: %d %v", code, answer)
	}
	id := w.register(t, "echo")
	if status, value := w.result(t, w.execute(t, id, long)); status != "COMPLETED" || len(value) != 2<<20+8 {
		t.Errorf("2 MiB: %s, %d bytes", status, len(value))
	}
	if code, answer, _ := w.call(t, "POST", "/execute_function", object("function_id", id, "payload", strings.Repeat("A", 18<<20))); code != http.StatusRequestEntityTooLarge || text(answer, "detail") == "" {
		t.Errorf("18 MiB: %d %v", code, answer)
	}
}

// Functions and tasks are their owner's.
func TestOwners(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	id := w.register(t, "echo", "Test-Name", "ann")
	task := w.execute(t, id, none, "Test-Name", "ann")
	if code, _, _ := w.call(t, "GET", "/status/"+task, "", "Test-Name", "ann"); code != http.StatusOK {
		t.Errorf("ann's own: %d", code)
	}
	for _, path := range []string{"/status/", "/result/"} {
		if code, _, _ := w.call(t, "GET", path+task, "", "Test-Name", "bob"); code != http.StatusNotFound {
			t.Errorf("%s of ann's for bob: %d", path, code)
		}
	}
	if code, _, _ := w.call(t, "POST", "/execute_function", object("function_id", id, "payload", none), "Test-Name", "bob"); code != http.StatusNotFound {
		t.Errorf("ann's function for bob: %d", code)
	}
}

// Any name is good; a task is an ordinary job, named after its function.
func TestNames(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	for name, want := range map[string]string{"my function\n": "my_function_", "": "_", strings.Repeat("ä", 150): strings.Repeat("ä", 100), "<lambda>": "<lambda>"} {
		id := w.register(t, name)
		f, err := w.inside().Function(t.Context(), id, 0, true)
		if err != nil || f.Name != want || string(f.Code) != "\x80\x04N." {
			t.Errorf("%q has become %+v, %v", name, f, err)
		}
	}
	task := w.execute(t, w.register(t, "echo"), none)
	job, err := jobid.FaaS.Job(task)
	if err != nil {
		t.Fatal(err)
	}
	w.result(t, task)
	if j, err := w.inside().Get(t.Context(), job); err != nil || j.Name != "echo" || !j.Detached || j.Status.State() != navvy.Succeeded {
		t.Errorf("%+v, %v", j, err)
	}
}

// Many clients at once get each its own.
func TestMany(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	id := w.register(t, "echo")
	var all sync.WaitGroup
	for n := range 8 {
		all.Go(func() {
			for i := range 50 {
				want := fmt.Appendf(nil, "\x80\x04K%cK%c\x86.", n, i)
				if status, value := w.result(t, w.execute(t, id, wrapped(want))); status != "COMPLETED" || !bytes.Equal(value, want) {
					t.Errorf("%d, %d: %s %q", n, i, status, value)
				}
			}
		})
	}
	all.Wait()
}

func BenchmarkExecute(b *testing.B) {
	w := newWorld(b, nil)
	id := w.register(b, "echo")
	b.Run("alone", func(b *testing.B) {
		for b.Loop() {
			w.result(b, w.execute(b, id, none))
		}
	})
	b.Run("together", func(b *testing.B) {
		b.SetParallelism(4)
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				w.result(b, w.execute(b, id, none))
			}
		})
	})
}
