package storagequeue

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/queue/driver"
)

// TestFailed has answers that the emulator never gives.
func TestFailed(t *testing.T) {
	t.Parallel()
	s := &settings{name: "requests"}
	for _, c := range []struct {
		status int
		code   string
		want   error
	}{
		{http.StatusServiceUnavailable, "ServerBusy", navvy.ErrExhausted},
		{http.StatusInternalServerError, "OperationTimedOut", navvy.ErrExhausted},
		{http.StatusTooManyRequests, "TooManyRequests", navvy.ErrExhausted},
		{http.StatusInternalServerError, "InternalError", navvy.ErrUnavailable},
		{http.StatusConflict, "QueueBeingDeleted", navvy.ErrUnavailable},
		{http.StatusConflict, "QueueDisabled", navvy.ErrConflict},
		{http.StatusNotFound, "MessageNotFound", navvy.ErrLeaseLost},
		{http.StatusBadRequest, "PopReceiptMismatch", navvy.ErrLeaseLost},
		{http.StatusNotFound, "QueueNotFound", navvy.ErrNotFound},
		{http.StatusForbidden, "AuthorizationPermissionMismatch", navvy.ErrDenied},
		{http.StatusUnauthorized, "", navvy.ErrDenied},
		{http.StatusRequestEntityTooLarge, "RequestBodyTooLarge", navvy.ErrInvalid},
	} {
		err := s.failed(t.Context(), "try", &azcore.ResponseError{StatusCode: c.status, ErrorCode: c.code})
		if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.code) {
			t.Errorf("%d %s: %v, want %v", c.status, c.code, err, c.want)
		}
	}
	err := s.failed(t.Context(), "try", &url.Error{Op: "Get", URL: "https://a.example/requests?sig=secret", Err: errors.New("refused")})
	if !errors.Is(err, navvy.ErrUnavailable) || strings.Contains(err.Error(), "secret") || !strings.Contains(err.Error(), "a.example: refused") && !strings.Contains(err.Error(), "a.example cannot be reached: refused") {
		t.Errorf("no connection: %v", err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cause := errors.New("enough")
	cancel(cause)
	if err := s.failed(ctx, "try", ctx.Err()); !errors.Is(err, cause) || errors.Is(err, navvy.ErrUnavailable) {
		t.Errorf("a call that was ended: %v", err)
	}
}

func TestURLs(t *testing.T) {
	t.Parallel()
	const connection = "AccountName=mine;AccountKey=c2VjcmV0"
	for raw, want := range map[string]string{
		"azqueue://mine/requests":                             "",
		"azqueue:///requests":                                 "",
		"azqueue://mine/requests?interval=2s&encoding=base64": "",
		"azqueue://mine/" + strings.Repeat("a", 58):           "",
		"azqueue://mine/" + strings.Repeat("a", 58) + "-dead": "",
		"azqueue://mine/" + strings.Repeat("a", 59):           "no room for -dead",
		"azqueue://mine/" + strings.Repeat("a", 60) + "-dead": "no name of a queue",
		"azqueue://mine/ab":                                   "no name of a queue",
		"azqueue://mine/Requests":                             "no name of a queue",
		"azqueue://mine/a--b":                                 "no name of a queue",
		"azqueue://mine/a/b":                                  "no name of a queue",
		"azqueue://mine":                                      "name of the queue is missing",
		"azqueue://other/requests":                            "is that of the account mine",
		"azqueue://M-ine/requests":                            "no name of a storage account",
		"azqueue://me:secret@mine/requests":                   "do not belong into the URL",
		"azqueue://mine/requests?interval=1":                  "option interval",
		"azqueue://mine/requests?interval=1ms":                "option interval",
		"azqueue://mine/requests?encoding=xml":                "option encoding",
		"azqueue://mine/requests?interval=2s&interval=3s":     "stands twice",
	} {
		u, err := url.Parse(raw)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Driver(&Options{ConnectionString: connection})(u, &driver.Options{Lease: time.Minute})
		switch {
		case want == "" && err != nil:
			t.Errorf("%s: %v", raw, err)
		case want != "" && (!errors.Is(err, navvy.ErrInvalid) || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret")):
			t.Errorf("%s: %v, want %q", raw, err, want)
		}
	}
}

// TestConnectionStrings has some that are wrong: nothing of them is told.
func TestConnectionStrings(t *testing.T) {
	t.Parallel()
	u := &url.URL{Scheme: "azqueue", Host: "mine", Path: "/requests"}
	for _, connection := range []string{"secret", "AccountName=mine", "AccountName=mine;AccountKey=secret!", "AccountKey=secret"} {
		_, err := Driver(&Options{ConnectionString: connection})(u, &driver.Options{Lease: time.Minute})
		if !errors.Is(err, navvy.ErrInvalid) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", connection, err)
		}
	}
	u.Host = ""
	if _, err := Driver(nil)(u, &driver.Options{Lease: time.Minute}); !errors.Is(err, navvy.ErrInvalid) {
		t.Errorf("no account: %v", err)
	}
}
