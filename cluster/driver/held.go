package driver

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"github.com/navvy-run/navvy"
)

// Error implements error.
func (e *HeldError) Error() string {
	return fmt.Sprintf("%s has it since %s, for %s", e.Who, e.Since.UTC().Format(time.RFC3339), e.What)
}

// Unwrap makes it a navvy.ErrConflict.
func (e *HeldError) Unwrap() error { return navvy.ErrConflict }

// Secret is what stands in Properties for a secret: it changes with the secret and tells
// nothing of it. The salt is one cluster's own, of at least 16 random bytes.
func Secret(salt, secret []byte) string {
	h := hmac.New(sha256.New, salt)
	_, _ = h.Write(secret) // never fails
	return "secret:" + hex.EncodeToString(h.Sum(nil)[:8])
}
