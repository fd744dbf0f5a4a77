// Command instant speaks as the MPCS FaaS does, answers at once and runs nothing: what a
// client in Python reaches against it is the client's own limit (scripts/bench_python.py).
package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"time"
)

const id = "00000000-0000-4000-8000-000000000000"

// serve answers each path of the contract. The result is a pickled None, in base 64.
func serve(w http.ResponseWriter, r *http.Request) {
	answer, status := `{"task_id":"`+id+`","status":"COMPLETED","result":"gAROLg==\n"}`, http.StatusOK
	if r.Method == http.MethodPost {
		answer, status = `{"function_id":"`+id+`","task_id":"`+id+`"}`, http.StatusCreated
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return // the client has gone
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, answer) // if that fails the client has gone
}

// run serves on a free port of loopback, which it tells, until standard input ends.
func run() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("instant: %w", err)
	}
	if _, err := fmt.Fprintln(os.Stdout, l.Addr()); err != nil {
		return fmt.Errorf("instant: %w", err)
	}
	server := &http.Server{Handler: http.HandlerFunc(serve), ReadHeaderTimeout: time.Minute}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		_ = server.Close()
	}()
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("instant: %w", err)
	}
	return nil
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
