package api

import (
	"context"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/navvy-run/navvy"
)

// sentinels are those of package navvy by their names.
var sentinels = map[string]error{
	"ErrNotFound": navvy.ErrNotFound, "ErrExists": navvy.ErrExists, "ErrInvalid": navvy.ErrInvalid, "ErrConflict": navvy.ErrConflict,
	"ErrLeaseLost": navvy.ErrLeaseLost, "ErrUnavailable": navvy.ErrUnavailable, "ErrUnsupported": navvy.ErrUnsupported, "ErrDenied": navvy.ErrDenied,
	"ErrExhausted": navvy.ErrExhausted, "ErrCorrupt": navvy.ErrCorrupt, "ErrClosed": navvy.ErrClosed,
}

func unlisted(err error) string { return "request 17: " + err.Error() }

// The sentinels that are tested are those that the root package declares.
func TestAllSentinels(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "../errors.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		for _, name := range spec.Names {
			found++
			if sentinels[name.Name] == nil {
				t.Errorf("%s is not tested", name)
			}
		}
		return true
	})
	if found != len(sentinels) {
		t.Errorf("%d sentinels are declared, %d are tested", found, len(sentinels))
	}
}

// Each sentinel survives the wire, with its message, and as nothing else.
func TestSentinels(t *testing.T) {
	t.Parallel()
	for name, sentinel := range sentinels {
		sent := fmt.Errorf("job 7k2: %w", fmt.Errorf("what it was: %w", sentinel))
		got := FromWire(ToWire(sent, unlisted))
		for other, e := range sentinels {
			if errors.Is(got, e) != (other == name) {
				t.Errorf("%s came back as %v; is it %s?", name, got, other)
			}
		}
		again := FromWire(ToWire(got, unlisted))
		if !errors.Is(again, sentinel) || got.Error() != sent.Error() || again.Error() != sent.Error() {
			t.Errorf("%s came back as %v, over two hops as %v", name, got, again)
		}
		testCodes(t, name, sent, got)
	}
}

// testCodes compares the codes of an error before and behind the wire.
func testCodes(t *testing.T, name string, sent, got error) {
	t.Helper()
	if ErrorCode(got) != ErrorCode(sent) || ErrorCodes()[ErrorCode(got)] != HTTPStatus(got) || ErrorCode(got) == ErrorCode(errors.New("another")) {
		t.Errorf("%s: called %s, over the wire %s", name, ErrorCode(sent), ErrorCode(got))
	}
	if ExitCode(got) != ExitCode(sent) || ExitCode(got) == ExitOK || ExitCode(got) == ExitInternal {
		t.Errorf("%s: exit code %d, over the wire %d", name, ExitCode(sent), ExitCode(got))
	}
	const closedRequest = 499 // of nginx; the standard has none
	if code := HTTPStatus(got); code != HTTPStatus(sent) || code < 400 || http.StatusText(code) == "" && code != closedRequest {
		t.Errorf("%s: HTTP status %d, over the wire %d", name, HTTPStatus(sent), code)
	}
}

// The table has each sentinel and each code once.
func TestTable(t *testing.T) {
	t.Parallel()
	errs, codes, names := map[error]bool{}, map[codes.Code]bool{}, map[string]bool{}
	for _, row := range table {
		if errs[row.err] || codes[row.code] || names[row.name] || row.name == "" {
			t.Errorf("%v, %s, %q is there twice", row.err, row.code, row.name)
		}
		errs[row.err], codes[row.code], names[row.name] = true, true, true
	}
	for name, e := range sentinels {
		if !errs[e] {
			t.Errorf("%s is not in the table", name)
		}
	}
}

func TestOtherErrors(t *testing.T) {
	t.Parallel()
	if err := ToWire(nil, unlisted); err != nil {
		t.Errorf("nil became %v", err)
	}
	if err := FromWire(nil); err != nil || ExitCode(nil) != ExitOK {
		t.Errorf("nil became %v", err)
	}
	secret := errors.New("disk on fire")
	got := FromWire(ToWire(secret, func(error) string { return "see request 17" }))
	if got.Error() != "see request 17" || ExitCode(got) != ExitInternal || HTTPStatus(got) != http.StatusInternalServerError {
		t.Errorf("%v, %d", got, ExitCode(got))
	}
	for name, e := range sentinels {
		if errors.Is(got, e) {
			t.Errorf("an unknown error is %s", name)
		}
	}
}

func TestErrorsOfTheWire(t *testing.T) {
	t.Parallel()
	plain := errors.New("no status")
	if got := FromWire(plain); !errors.Is(got, plain) {
		t.Errorf("%v", got)
	}
	// What somebody gave up is closed, wherever it was.
	for _, err := range []error{context.Canceled, fmt.Errorf("read: %w", context.Canceled), status.Error(codes.Canceled, "gone")} {
		if got := FromWire(ToWire(err, unlisted)); !errors.Is(got, navvy.ErrClosed) {
			t.Errorf("%v came back as %v", err, got)
		}
	}
	// What the wire itself has said is passed on; it is nothing to look into.
	broken := fmt.Errorf("receive: %w", status.Error(codes.Unavailable, "transport is closing"))
	if got := FromWire(ToWire(broken, func(error) string { t.Error("it was logged"); return "" })); !errors.Is(got, navvy.ErrUnavailable) || !strings.Contains(got.Error(), "transport is closing") {
		t.Errorf("%v", got)
	}
	if got := FromWire(ToWire(context.DeadlineExceeded, unlisted)); !errors.Is(got, context.DeadlineExceeded) || ExitCode(got) != ExitUnavailable {
		t.Errorf("%v", got)
	}
}
