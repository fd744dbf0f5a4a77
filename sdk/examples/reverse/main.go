// Command reverse is a service of navvy in Go: it answers a text with its words in reverse
// order. Build it, and start it by hand as a worker:
//
//	./reverse --requests amqp://localhost/requests --responses amqp://localhost/responses
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/navvy-run/navvy/sdk"
)

func main() {
	if err := sdk.Serve(sdk.Func(reverse)); err != nil {
		slog.New(slog.NewTextHandler(os.Stderr, nil)).Error("the service ends", "err", err)
		os.Exit(1)
	}
}

// reverse answers one request. Many run at once; ctx ends when nobody wants the answer.
func reverse(_ context.Context, input []byte) ([]byte, error) {
	if !utf8.Valid(input) {
		return nil, fmt.Errorf("the input is no text: %w", sdk.ErrInvalid)
	}
	words := strings.Fields(string(input))
	slices.Reverse(words)
	return []byte(strings.Join(words, " ")), nil
}
