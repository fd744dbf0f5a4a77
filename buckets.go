package navvy

import (
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"
	"unicode"
)

// Bounds of buckets, in bytes: of the URL of one, and of what begins the names of objects.
const (
	maxBucket = 1 << 10
	maxPrefix = 900 // of the 1024 that S3 has for a name
)

// bucketName is what S3 takes as the name of a bucket.
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// Any tells whether there is a bucket at all.
func (b *Buckets) Any() bool { return b.Input != "" || b.Output != "" }

// Staged tells whether objects are copied for the container.
func (b *Buckets) Staged() bool { return b.InputDir != "" || b.OutputDir != "" }

// URLs tells whether buckets are named by URLs.
func (b *Buckets) URLs() bool {
	return strings.Contains(b.Input, "://") || strings.Contains(b.Output, "://")
}

// Target is the bucket for what the container makes; empty if it has none.
func (b *Buckets) Target() string {
	if b.Output == "" {
		return b.Input
	}
	return b.Output
}

// Validate checks buckets whose placeholders have been filled. Its error wraps ErrInvalid.
func (b *Buckets) Validate() error { return b.validate(false) }

// validate checks buckets; with open their names may have placeholders.
func (b *Buckets) validate(open bool) error {
	if *b == (Buckets{}) {
		return nil
	}
	if !b.Any() {
		return fmt.Errorf("spec: a prefix and directories of buckets go with a bucket: %w", ErrInvalid)
	}
	if b.InputDir != "" && b.Input == "" {
		return fmt.Errorf("spec: a directory of inputs goes with a bucket of inputs: %w", ErrInvalid)
	}
	if len(b.Prefix) > maxPrefix || strings.ContainsFunc(b.Prefix, unicode.IsControl) {
		return fmt.Errorf("spec: the prefix %.100q of a bucket's objects: want at most %d bytes, no control characters: %w", b.Prefix, maxPrefix, ErrInvalid)
	}
	for _, name := range []string{b.Input, b.Output} {
		if name == "" {
			continue
		}
		if b.URLs() != strings.Contains(name, "://") {
			return fmt.Errorf("spec: the buckets %.100q and %.100q: want two names or two URLs: %w", hidden(b.Input), hidden(b.Output), ErrInvalid)
		}
		if err := checkBucket(name, open); err != nil {
			return err
		}
	}
	return b.checkDirs()
}

// checkBuckets checks those of a container.
func (c *Container) checkBuckets() error {
	if c.Pack > 1 && c.Buckets.Staged() {
		return fmt.Errorf("spec: nothing is copied for tasks that share a pod: give them no directories of buckets, or a pod each: %w", ErrUnsupported)
	}
	return c.Buckets.validate(!c.Command.Literal)
}

// checkBucket checks the name or URL of a bucket.
func checkBucket(name string, open bool) error {
	if len(name) > maxBucket {
		return fmt.Errorf("spec: the bucket %.100q… has more than %d bytes: %w", hidden(name), maxBucket, ErrInvalid)
	}
	bare := name
	if strings.Contains(name, "://") {
		var err error
		if _, bare, err = SplitBucket(name); err != nil {
			return err
		}
	}
	if open && strings.Contains(bare, "{") {
		return nil
	}
	if !bucketName.MatchString(bare) {
		return fmt.Errorf("spec: %.100q is no name of a bucket: want 3 to 63 small letters, digits, dots and -: %w", bare, ErrInvalid)
	}
	return nil
}

// SplitBucket reads the URL of a bucket, such as "http://host:9000/bucket", into that of its
// server and the bucket's name. The error wraps ErrInvalid, and repeats no password.
func SplitBucket(text string) (server, name string, err error) {
	wrong := fmt.Errorf("spec: the bucket %.100q: want a URL as in http://host:9000/bucket, without credentials: %w", hidden(text), ErrInvalid)
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return "", "", wrong
	}
	name = strings.Trim(u.Path, "/")
	if name == "" || strings.Contains(name, "/") {
		return "", "", wrong
	}
	return u.Scheme + "://" + u.Host, name, nil
}

// hidden is a bucket's URL without what may be a password.
func hidden(text string) string {
	scheme, rest, ok := strings.Cut(text, "://")
	if !ok {
		return text
	}
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		rest = "…" + rest[at:]
	}
	rest, _, _ = strings.Cut(rest, "?")
	return scheme + "://" + rest
}

// checkDirs checks the directories in the container.
func (b *Buckets) checkDirs() error {
	for _, dir := range []string{b.InputDir, b.OutputDir} {
		if dir != "" && (!path.IsAbs(dir) || path.Clean(dir) != dir || dir == "/" || strings.ContainsAny(dir, ":\x00")) {
			return fmt.Errorf("spec: %.100q cannot be a directory of a bucket's files: want a plain absolute path in the container, as in /data: %w", dir, ErrInvalid)
		}
	}
	in, out := b.InputDir+"/", b.OutputDir+"/"
	if b.InputDir != "" && b.OutputDir != "" && (strings.HasPrefix(in, out) || strings.HasPrefix(out, in)) {
		return fmt.Errorf("spec: the directories %.100q of inputs and %.100q of outputs: want two, none in the other: %w", b.InputDir, b.OutputDir, ErrInvalid)
	}
	return nil
}
