package cli

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/process/isolate"
)

// TestMain makes this binary the commands of the scripts: navvy itself, which
// starts itself again for what is detached, and rc.
func TestMain(m *testing.M) {
	testscript.Main(leakFree{m}, map[string]func(){
		"navvy": func() { os.Exit(Main("test")) },
		"rc":    rc,
		"fetch": fetch,
	})
}

// leakFree runs the tests and fails if a goroutine is left.
type leakFree struct{ m *testing.M }

func (l leakFree) Run() int {
	code := l.m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

// fetch is the command "fetch URL [NAME: VALUE]… [cert=FILE key=FILE ca=FILE]": it
// prints what HTTP answers, and ends with 22 if that is an error.
func fetch() {
	req, err := http.NewRequest(http.MethodGet, os.Args[1], nil)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	files := map[string]string{}
	for _, arg := range os.Args[2:] {
		if name, value, ok := strings.Cut(arg, ": "); ok && name == "Host" {
			req.Host = value
		} else if ok {
			req.Header.Set(name, value)
		} else if name, value, ok := strings.Cut(arg, "="); ok {
			files[name] = value
		}
	}
	config := &tls.Config{}
	if text, err := os.ReadFile(files["ca"]); err == nil {
		config.RootCAs = x509.NewCertPool()
		config.RootCAs.AppendCertsFromPEM(text)
	}
	if pair, err := tls.LoadX509KeyPair(files["cert"], files["key"]); err == nil {
		config.Certificates = []tls.Certificate{pair}
	}
	resp, err := (&http.Client{Transport: &http.Transport{TLSClientConfig: config}}).Do(req)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_, err = io.Copy(os.Stdout, resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil || resp.StatusCode >= http.StatusBadRequest {
		os.Exit(22)
	}
}

// rc is the command "rc FILE PROGRAM ARGS": it runs the program, hands signals on
// to it, and writes its exit code to the file.
func rc() {
	cmd := exec.Command(os.Args[2], os.Args[3:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	if err := cmd.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	_ = cmd.Wait() // the code says it
	code := cmd.ProcessState.ExitCode()
	if ws := cmd.ProcessState.Sys().(syscall.WaitStatus); ws.Signaled() {
		code = 128 + int(ws.Signal())
	}
	if err := os.WriteFile(os.Args[1], fmt.Appendf(nil, "%d\n", code), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// patience bounds each wait of a script for something that happens anyway.
const scriptPatience = 30 * time.Second

// helpers are further commands, for tasks. "gate FILE" ends when there is such a
// file, or with an error after a minute. "gone FILE" tells whether the process whose id the file holds has ended.
var helpers = map[string]string{
	"gate": `n=0; while ! test -e "$1"; do n=$((n+1)); test $n -lt 6000 || exit 1; sleep 0.01; done`,
	"gone": `case "$(cut -d' ' -f3 /proc/$(cat "$1")/stat 2>/dev/null)" in Z|"") ;; *) exit 1 ;; esac`,
}

// TestScripts runs testdata/script. Each file is a documented use.
func TestScripts(t *testing.T) {
	t.Parallel()
	runScripts(t, "testdata/script", func(*testscript.Env) error { return nil })
}

// runScripts runs the scripts of a directory; more adds to what each of them finds.
func runScripts(t *testing.T, dir string, more func(*testscript.Env) error) {
	t.Helper()
	docs, err := filepath.Abs("../../docs")
	if err != nil {
		t.Fatal(err)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 dir,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") != "",
		Setup: func(env *testscript.Env) error {
			bin := filepath.Join(env.WorkDir, ".bin")
			env.Setenv("NAVVY_DATA", filepath.Join(env.WorkDir, "data"))
			env.Setenv("HOME", env.WorkDir)
			env.Setenv("TERM", "dumb")
			env.Setenv("DOCS", docs)
			env.Setenv("GORACE", "atexit_sleep_ms=0") // there are hundreds of processes
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Defer(func() { cleanUp(env.T(), env.WorkDir) })
			if err := os.Mkdir(bin, 0o700); err != nil {
				return err
			}
			for name, text := range helpers {
				if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"+text+"\n"), 0o700); err != nil {
					return err
				}
			}
			return more(env)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": exits, "waitfor": waitFor, "until": until, "newest": newest, "jsonfield": jsonField, "address": address, "outside": outsideTmp,
		},
		Condition: func(name string) (bool, error) {
			switch name {
			case "apart":
				return keepsApart(), nil
			case "ci":
				return os.Getenv("CI") != "", nil
			}
			return false, fmt.Errorf("there is no condition %q", name)
		},
	})
}

// keepsApart tells whether tasks can be isolated here, with users of their own: the condition "apart".
var keepsApart = sync.OnceValue(func() bool {
	abilities := isolate.Open().Abilities()
	return slices.Contains(abilities, navvy.AbilityIsolate) && slices.Contains(abilities, navvy.AbilityUser)
})

// outsideTmp is "outside NAME": it makes a directory that is not below /tmp, which isolated
// tasks have for themselves, and sets NAME to it.
func outsideTmp(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: outside NAME")
	}
	dir, err := os.MkdirTemp("/run", "navvy-script-")
	ts.Check(err)
	ts.Defer(func() { ts.Check(os.RemoveAll(dir)) })
	ts.Check(os.Chmod(dir, 0o755)) // what is in it guards itself
	ts.Setenv(args[0], dir)
}

// cleanUp ends what a script has left running: of one that has passed that must
// be nothing, soon.
func cleanUp(t testscript.T, work string) {
	failed, ok := t.(interface{ Failed() bool })
	if ok && !failed.Failed() && poll(func() bool { return len(processesOf(work)) == 0 }) {
		return
	}
	for pid, command := range processesOf(work) {
		t.Log("still running:", pid, command)
		_ = unix.Kill(pid, unix.SIGKILL)
	}
	if ok && !failed.Failed() {
		t.Fatal("the script has left processes behind")
	}
}

// processesOf gives the processes with the environment of a script, by their ids.
func processesOf(work string) map[int]string {
	found := map[int]string{}
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		return nil
	}
	for _, file := range files {
		env, err := os.ReadFile(file)
		if err != nil || !bytes.Contains(env, []byte("\x00WORK="+work+"\x00")) && !bytes.HasPrefix(env, []byte("WORK="+work+"\x00")) {
			continue // it has ended, or is none of ours
		}
		dir := filepath.Dir(file)
		if pid, err := strconv.Atoi(filepath.Base(dir)); err == nil {
			command, _ := os.ReadFile(filepath.Join(dir, "cmdline")) // for people
			found[pid] = strings.ReplaceAll(string(command), "\x00", " ")
		}
	}
	return found
}

// poll asks again until the answer is yes, or patience is over.
func poll(yes func() bool) bool {
	ctx, cancel := context.WithTimeout(context.Background(), scriptPatience)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !yes() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// exits is "exits CODE PROGRAM ARGS": the program must end with this code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE PROGRAM ARGS")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}

// waitFor is "waitfor FILE [PATTERN]": it returns when the file exists and holds
// something that matches.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: waitfor FILE [PATTERN]")
	}
	pattern := regexp.MustCompile("")
	if len(args) == 2 {
		pattern = regexp.MustCompile("(?m)" + args[1])
	}
	var last []byte
	if !poll(func() (ok bool) {
		var err error
		last, err = os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && pattern.Match(last)
	}) {
		ts.Fatalf("%s does not come to match %q: %q", args[0], pattern, last)
	}
}

// until is "until PATTERN PROGRAM ARGS": it runs the program again and again
// until its standard output matches.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: until PATTERN PROGRAM ARGS")
	}
	pattern := regexp.MustCompile("(?m)" + args[0])
	if !poll(func() bool {
		_ = ts.Exec(args[1], args[2:]...) // what it prints counts
		return pattern.MatchString(ts.ReadFile("stdout"))
	}) {
		ts.Fatalf("%q does not come to print %q", args[1:], args[0])
	}
}

// address is "address VAR FILE": the address of the server that has written the file
// as its standard output becomes the value of the variable, once it serves.
func address(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: address VAR FILE")
	}
	pattern := regexp.MustCompile(`(?m)^connect: navvy --server (\S+)`)
	if !poll(func() bool {
		text, err := os.ReadFile(ts.MkAbs(args[1]))
		found := pattern.FindSubmatch(text)
		if err == nil && found != nil {
			ts.Setenv(args[0], string(found[1]))
		}
		return found != nil
	}) {
		ts.Fatalf("the server does not come to serve")
	}
}

// newest is "newest VAR [NAME]": the id of the newest job, or of the newest one
// of that name, becomes the value of the variable.
func newest(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: newest VAR [NAME]")
	}
	var job struct{ ID, Name string }
	if !poll(func() bool {
		ts.Check(ts.Exec("navvy", "ls", "-o", "jsonl"))
		for line := range strings.Lines(ts.ReadFile("stdout")) {
			ts.Check(json.Unmarshal([]byte(line), &job))
			if len(args) == 1 || job.Name == args[1] {
				return true
			}
		}
		return false
	}) {
		ts.Fatalf("there is no such job")
	}
	ts.Setenv(args[0], job.ID)
}

// jsonField is "jsonfield NAME VALUE": the last standard output is JSON, an
// object or one a line, and in the first of them the field has this value.
func jsonField(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: jsonfield NAME VALUE")
	}
	var object map[string]any
	ts.Check(json.NewDecoder(strings.NewReader(ts.ReadFile("stdout"))).Decode(&object))
	if got := fmt.Sprint(object[args[0]]); got != args[1] {
		ts.Fatalf("%s is %q, want %q", args[0], got, args[1])
	}
}
