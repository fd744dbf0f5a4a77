package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"

	"github.com/navvy-run/navvy"
)

// Token is what a worker joins with: whoever has it may ask once, or as often as
// it was made for, for a worker's certificate.
type Token struct {
	// Fingerprint is that of the authority that the server must show before it is
	// told the secret.
	Fingerprint string
	Secret      string
}

const (
	tokenPrefix       = "navvy-join"
	fingerprintLength = 52 // 256 bits
	secretLength      = 26 // 130 bits
)

// NewToken draws a token for the authority with this fingerprint.
func NewToken(fingerprint string) Token {
	return Token{Fingerprint: fingerprint, Secret: strings.ToLower(rand.Text())}
}

// String is the token as people hand it on: navvy-join.FINGERPRINT.SECRET. It is
// a secret.
func (t Token) String() string { return tokenPrefix + "." + t.Fingerprint + "." + t.Secret }

// LogValue keeps the secret out of logs; see slog.LogValuer.
func (t Token) LogValue() slog.Value { return slog.StringValue(TokenID(t.Hash())) }

// Hash is the SHA-256 of the secret in hexadecimal digits: what is stored of it.
func (t Token) Hash() string { return hashSecret(t.Secret) }

func hashSecret(secret string) string {
	sum := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(sum[:])
}

// tokenID is how many characters of the hash name a token, MinTokenID how many of
// them are the least that people may type.
const (
	tokenID    = 12
	MinTokenID = 4
)

// TokenID names the token with this hash and tells nothing of its secret: the
// beginning of the hash.
func TokenID(hash string) string { return hash[:min(tokenID, len(hash))] }

// ParseToken reads what String wrote; white space around it is ignored. The error
// wraps navvy.ErrInvalid and holds nothing of the token.
func ParseToken(text string) (Token, error) {
	parts := strings.Split(strings.TrimSpace(text), ".")
	if len(parts) != 3 || parts[0] != tokenPrefix {
		return Token{}, fmt.Errorf("token: want %s.FINGERPRINT.SECRET, as navvy token create prints it: %w", tokenPrefix, navvy.ErrInvalid)
	}
	for _, part := range []struct {
		what, text string
		length     int
	}{{"fingerprint", parts[1], fingerprintLength}, {"secret", parts[2], secretLength}} {
		if len(part.text) != part.length {
			return Token{}, fmt.Errorf("token: its %s has %d characters, not %d: was it copied whole? %w", part.what, len(part.text), part.length, navvy.ErrInvalid)
		}
		if strings.ContainsFunc(part.text, notBase32) {
			return Token{}, fmt.Errorf("token: its %s has a character that no token has: was it copied whole? %w", part.what, navvy.ErrInvalid)
		}
	}
	return Token{Fingerprint: parts[1], Secret: parts[2]}, nil
}

func notBase32(r rune) bool { return (r < 'a' || r > 'z') && (r < '2' || r > '7') }

// APIToken is what a program calls the API with over HTTP where no certificate says
// who it is.
type APIToken struct{ Secret string }

const apiTokenPrefix = "navvy-api"

// NewAPIToken draws a token.
func NewAPIToken() APIToken { return APIToken{Secret: strings.ToLower(rand.Text())} }

// String is the token as people hand it on: navvy-api.SECRET. It is a secret.
func (t APIToken) String() string { return apiTokenPrefix + "." + t.Secret }

// LogValue keeps the secret out of logs; see slog.LogValuer.
func (t APIToken) LogValue() slog.Value { return slog.StringValue(TokenID(t.Hash())) }

// Hash is the SHA-256 of the secret in hexadecimal digits: what is stored of it.
func (t APIToken) Hash() string { return hashSecret(t.Secret) }

// ParseAPIToken reads what String wrote; white space around it is ignored. The error
// wraps navvy.ErrInvalid and holds nothing of the token.
func ParseAPIToken(text string) (APIToken, error) {
	secret, ok := strings.CutPrefix(strings.TrimSpace(text), apiTokenPrefix+".")
	switch {
	case strings.HasPrefix(text, tokenPrefix+"."):
		return APIToken{}, fmt.Errorf("token: this one is for workers to join with; navvy token create --api makes one for the API: %w", navvy.ErrInvalid)
	case !ok || len(secret) != secretLength || strings.ContainsFunc(secret, notBase32):
		return APIToken{}, fmt.Errorf("token: want %s.SECRET, as navvy token create --api prints it: was it copied whole? %w", apiTokenPrefix, navvy.ErrInvalid)
	}
	return APIToken{Secret: secret}, nil
}
