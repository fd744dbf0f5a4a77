package service_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/service"
)

// cgiAnswer is the contract's, written down once more.
type cgiAnswer struct {
	ExitCode  *int    `json:"ExitCode"`
	Stdout    string  `json:"Stdout"`
	Stderr    string  `json:"Stderr"`
	Exception *string `json:"Exception"`
}

func cgiAsk(t *testing.T, s service.Service, body string) cgiAnswer {
	t.Helper()
	var a cgiAnswer
	if err := json.Unmarshal([]byte(ask(t, s, body)), &a); err != nil {
		t.Fatal(err)
	}
	return a
}

func TestCGI(t *testing.T) {
	t.Parallel()
	s := opened(t, `cgi:sh -c 'cat; printf "<&>" >&2; exit 3'`, service.Options{})
	const want = `{"ExitCode":3,"Stdout":"a\nb","Stderr":"<&>","Exception":null}`
	if got := ask(t, s, "a\nb"); got != want {
		t.Errorf("answered %s, want %s", got, want)
	}
	many(t, s, 20, strconv.Itoa, func(i int) string {
		return `{"ExitCode":3,"Stdout":"` + strconv.Itoa(i) + `","Stderr":"<&>","Exception":null}`
	})
	closes(t, s)

	s = opened(t, "cgi:sh -c 'kill -9 $$'", service.Options{})
	if a := cgiAsk(t, s, ""); a.ExitCode == nil || *a.ExitCode != 137 || a.Exception != nil {
		t.Errorf("killed: %+v", a)
	}
	s = opened(t, "cgi:no-such-program-at-all", service.Options{})
	if a := cgiAsk(t, s, ""); a.ExitCode != nil || a.Exception == nil || !strings.Contains(*a.Exception, "command not found in PATH") {
		t.Errorf("no program: %+v", a)
	}
	s = opened(t, `cgi-raw:sh -c 'printf "\377\000"'`, service.Options{})
	if got := ask(t, s, ""); got != "\xff\x00" {
		t.Errorf("raw answer: %q", got)
	}
	s = opened(t, `cgi:sh -c 'echo $NAVVY_REQUEST $NAVVY_ATTEMPT $A'`, service.Options{Env: []string{"A=b"}})
	if a := cgiAsk(t, s, ""); a.Stdout != "r1 1 b\n" {
		t.Errorf("environment: %+v", a)
	}
}

func TestCGIRawFails(t *testing.T) {
	t.Parallel()
	s := opened(t, `cgi-raw:sh -c 'cat; echo why not >&2; exit 3'`, service.Options{})
	fails(t, s, "x", "exit code 3: why not")
	s = opened(t, "cgi-raw:no-such-program-at-all", service.Options{})
	fails(t, s, "x", "command not found in PATH")
	s = opened(t, "cgi-raw:true", service.Options{})
	if got := ask(t, s, "x"); got != "" {
		t.Errorf("answered %q", got)
	}
}

// TestCGIBounds has programs that take too long or write too much, and leave nothing behind.
func TestCGIBounds(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	o := service.Options{Timeout: time.Second, Grace: 100 * time.Millisecond, Dir: dir}
	s := opened(t, `cgi:sh -c 'trap "" TERM; echo begun; setsid sleep 1000 & echo $! > pid; wait; sleep 1000'`, o)
	if a := cgiAsk(t, s, ""); a.ExitCode != nil || a.Exception == nil || !strings.Contains(*a.Exception, "longer than 1s") || a.Stdout != "begun\n" {
		t.Errorf("too long: %+v", a)
	}
	pid, err := os.ReadFile(filepath.Join(dir, "pid"))
	if err != nil {
		t.Fatal(err)
	}
	there := exists(filepath.Join("/proc", strings.TrimSpace(string(pid))))
	until(t, func() bool { return !there() }) // it is dead; somebody else takes its exit
	s = opened(t, "cgi:yes", service.Options{MaxAnswer: 1000})
	if a := cgiAsk(t, s, ""); a.Exception == nil || !strings.Contains(*a.Exception, "more than 1000 bytes") || len(a.Stdout) != 1000 {
		t.Errorf("too much: %+v", a)
	}
	s = opened(t, "cgi-raw:yes", service.Options{Limits: navvy.Limits{Output: 10}})
	fails(t, s, "", "more than 10 bytes")
}

func TestCGICancelled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := opened(t, `cgi:sh -c 'trap "touch told; exit" TERM; sleep 1000 & touch begun; wait'`, service.Options{Dir: dir})
	cancels(t, s, "", exists(filepath.Join(dir, "begun")))
	if !exists(filepath.Join(dir, "told"))() {
		t.Error("the program was not asked to end")
	}
}

// TestCGIClosed closes a service while a program runs.
func TestCGIClosed(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := opened(t, `cgi:sh -c 'touch begun; exec sleep 1000'`, service.Options{Dir: dir})
	ended := make(chan error, 1)
	go func() {
		_, err := s.Invoke(t.Context(), &service.Request{})
		ended <- err
	}()
	until(t, exists(filepath.Join(dir, "begun")))
	if err := s.Close(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-ended; !errors.Is(err, navvy.ErrClosed) {
		t.Errorf("ended with %v", err)
	}
}

// TestLeftovers ends what a dead navvy of the same name has left of its service.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	name := "test-leftovers-" + strconv.Itoa(os.Getpid())
	first := opened(t, `cgi:sh -c 'touch begun; exec sleep 1000'`, service.Options{Name: name, Dir: dir})
	ended := make(chan string, 1)
	go func() { ended <- ask(t, first, "") }()
	until(t, exists(filepath.Join(dir, "begun")))
	opened(t, "cgi:true", service.Options{Name: name})
	if got := <-ended; !strings.Contains(got, `"ExitCode":137`) {
		t.Errorf("ended as %s", got)
	}
}
