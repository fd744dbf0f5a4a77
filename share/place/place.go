// Package place reads how people write where a file is in a share, and says what can be
// the name of one. It knows nothing of the stores themselves.
package place

import (
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/navvy-run/navvy"
)

// Schemes are the schemes of the URLs of shares, in order.
func Schemes() []string { return []string{"azblob", "file", "s3"} }

// invalid is an error of what was asked.
func invalid(format string, a ...any) error {
	return fmt.Errorf("%s: %w", fmt.Sprintf(format, a...), navvy.ErrInvalid)
}

// Place is where something is: a share, by name or by URL, and a path in it.
type Place struct {
	Name string // of a share; empty if there is a URL
	URL  string
	// Path is a key, or a folder; empty for the whole share.
	Path string
	// Folder tells that the path ends with a slash, or is empty.
	Folder bool
}

var shareName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// CheckName refuses what cannot name a share. The error wraps navvy.ErrInvalid.
func CheckName(name string) error {
	if !shareName.MatchString(name) {
		return invalid("%q is no name of a share: want up to 64 letters, digits and . _ -", name)
	}
	return nil
}

// Is tells whether a word is meant as a place and not as a file of this machine: it
// has a scheme.
func Is(text string) bool {
	scheme, _, ok := strings.Cut(text, "://")
	return ok && scheme != "" && !strings.ContainsAny(scheme, "/. ")
}

// Parse reads a place:
//
//	share://NAME/PATH            what a configured share has there; PATH is as it is written
//	s3://BUCKET/PATH?OPTIONS     the same in a bucket
//	azblob://CONTAINER/PATH      in a container
//	file:///DIR#PATH             in a directory
//
// The error wraps navvy.ErrInvalid, and does not repeat what may be a password.
func Parse(text string) (Place, error) {
	var p Place
	path := ""
	if rest, ok := strings.CutPrefix(text, "share://"); ok {
		p.Name, path, _ = strings.Cut(rest, "/")
		if err := CheckName(p.Name); err != nil {
			return Place{}, err
		}
	} else {
		u, err := url.Parse(text)
		if err != nil {
			return Place{}, invalid("what is given is no place: want share://NAME/PATH, or a URL")
		}
		if !slices.Contains(Schemes(), u.Scheme) || u.Opaque != "" || hasPort(u) {
			return Place{}, invalid("what is given is no place: want share://NAME/PATH, s3://BUCKET/PATH, azblob://CONTAINER/PATH or file:///DIR#PATH")
		}
		switch {
		case u.Scheme == "file":
			path, u.Fragment, u.RawFragment = u.Fragment, "", ""
		case u.Fragment != "":
			return Place{}, invalid("%.80q: a # in a name is written as %%23", Redacted(u))
		default:
			path, u.Path, u.RawPath = strings.TrimPrefix(u.Path, "/"), "", ""
		}
		p.URL = u.String()
	}
	p.Folder = path == "" || strings.HasSuffix(path, "/")
	p.Path = strings.TrimSuffix(path, "/")
	if p.Path == "" && path != "" {
		return Place{}, invalid("the path of a place begins with two slashes")
	}
	if p.Path != "" {
		if err := CheckKey(p.Path); err != nil {
			return Place{}, err
		}
	}
	return p, nil
}

// ParseURL reads the URL of a share. The error wraps navvy.ErrInvalid, and never repeats
// what was given: what cannot be read may be a password anywhere in it.
func ParseURL(text string) (*url.URL, error) {
	u, err := url.Parse(text)
	switch {
	case err != nil || !slices.Contains(Schemes(), u.Scheme) || u.Opaque != "":
		return nil, invalid("what is given is no URL of a share: want one that begins with %s://", strings.Join(Schemes(), "://, "))
	case u.Fragment != "":
		return nil, invalid("the URL of a share has nothing behind a #; in a password it is written as %%23")
	case hasPort(u):
		return nil, invalid("the URL has no host with a port: in a password / is written as %%2F, ? as %%3F and # as %%23")
	}
	return u, nil
}

// hasPort tells whether a bucket or container has a colon behind it, as if it were a host.
// Then it is the key of an account, and a password with a slash in it comes behind.
func hasPort(u *url.URL) bool { return u.Scheme != "file" && strings.Contains(u.Host, ":") }

// String writes the place so that Parse reads it, without the password of its URL.
func (p Place) String() string {
	path := p.Path
	if p.Folder && path != "" {
		path += "/"
	}
	if p.URL == "" {
		return "share://" + p.Name + "/" + path
	}
	u, err := url.Parse(p.URL)
	if err != nil {
		return "a place"
	}
	if u.Scheme == "file" {
		u.Fragment = path
	} else {
		u.Path = "/" + path
	}
	return Redacted(u)
}

// HasPassword tells whether the URL of a share, or of a place, has a password in it, also
// in a URL among its options.
func HasPassword(text string) bool {
	u, err := url.Parse(text)
	if err != nil {
		return false
	}
	_, has := u.User.Password()
	return has || inOptions(u)
}

// inOptions tells whether the options of a URL may have a password in them.
func inOptions(u *url.URL) bool {
	values, err := url.QueryUnescape(u.RawQuery)
	return err != nil || strings.Contains(values, "@")
}

// legible undoes what needs not be escaped in options, and makes URLs there hard to read.
var legible = strings.NewReplacer("%3A", ":", "%3a", ":", "%2F", "/", "%2f", "/")

// Redacted is the URL of a share, or of a place, for people: without what may be a password.
func Redacted(u *url.URL) string {
	shown := *u
	if inOptions(u) {
		shown.RawQuery = "..."
	}
	shown.RawQuery = legible.Replace(shown.RawQuery)
	return shown.Redacted()
}
