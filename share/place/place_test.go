package place

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/navvy-run/navvy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]Place{
		"share://data":                     {Name: "data", Folder: true},
		"share://data/":                    {Name: "data", Folder: true},
		"share://data/x.bin":               {Name: "data", Path: "x.bin"},
		"share://data/dir/":                {Name: "data", Path: "dir", Folder: true},
		"share://data/100% a?b#c":          {Name: "data", Path: "100% a?b#c"},
		"file:///dir/of":                   {URL: "file:///dir/of", Folder: true},
		"file:///dir#a/b":                  {URL: "file:///dir", Path: "a/b"},
		"file:///dir#a/b/":                 {URL: "file:///dir", Path: "a/b", Folder: true},
		"s3://bucket":                      {URL: "s3://bucket", Folder: true},
		"s3://bucket/":                     {URL: "s3://bucket", Folder: true},
		"s3://bucket/a/b%20c?region=x":     {URL: "s3://bucket?region=x", Path: "a/b c"},
		"s3://k:s@bucket/a?endpoint=http:": {URL: "s3://k:s@bucket?endpoint=http:", Path: "a"},
		"azblob://container/a/":            {URL: "azblob://container", Path: "a", Folder: true},
	} {
		got, err := Parse(text)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s: %v%s", text, err, diff)
		}
		if !Is(text) {
			t.Errorf("%s is no place", text)
		}
	}
	for _, text := range []string{"", "x", "./a://b", "share://", "share:///x", "share://-x/y", "share://a b/c", "share://d//", "share://d//x", "share://d/../x", "share://d/a//b",
		"http://h/x", "s3://b/a#b", "s3://b//x", "file:///d#../x", "share://d/.navvy/tmp", "mem://x/y", "file:d#x", "s3://k:1/x@b"} {
		if p, err := Parse(text); !errors.Is(err, navvy.ErrInvalid) {
			t.Errorf("%s: %+v, %v", text, p, err)
		}
	}
	for _, text := range []string{"a", "/a/b", "./a://b", "a b://c", "://x", ""} {
		if Is(text) {
			t.Errorf("%s is a place", text)
		}
	}
}

// Passwords are found, and not shown.
func TestPasswords(t *testing.T) {
	t.Parallel()
	if !HasPassword("s3://k:p@b/x") || !HasPassword("s3://b?endpoint=http://u:p@h") || !HasPassword("s3://b?endpoint=http://u:p%40h") || HasPassword("s3://b/x") || HasPassword("s3://k@b") {
		t.Error("passwords")
	}
	for _, text := range []string{"s3://k:hidden@bucket/a", "s3://bucket/a?endpoint=http://u:hidden@h"} {
		p, err := Parse(text)
		if err != nil || strings.Contains(p.String(), "hidden") {
			t.Errorf("%s, %v", p, err)
		}
	}
}

// Errors never repeat what cannot be read.
func TestParseURL(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"file:///d", "s3://k:s@b/f?region=x", "azblob://c"} {
		if u, err := ParseURL(text); err != nil || u.String() != text {
			t.Errorf("%s: %v, %v", text, u, err)
		}
	}
	for _, text := range []string{"hidden", "s3//k:hidden@b", "s3:k:hidden@b", "s4://k@b/hidden", "s3://k:1/hidden@b", "s3://k:1?hidden@b", "s3://k:1#hidden@b", "s3://k:hidden/@b", "hidden://b", "file:///d#hidden"} {
		if _, err := ParseURL(text); !errors.Is(err, navvy.ErrInvalid) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%s: %v", text, err)
		}
	}
}

// What is a place is written so that it is read as the same, and its path is a key.
func FuzzParse(f *testing.F) {
	for _, text := range []string{"share://data/x", "file:///d#a/b", "s3://b/a?region=x", "azblob://c/%20/", "s3://k:p@b/x", "share://d/%"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := Parse(text)
		if err != nil {
			if !errors.Is(err, navvy.ErrInvalid) {
				t.Error(err)
			}
			return
		}
		if p.Path != "" && CheckKey(p.Path) != nil || p.Path == "" && !p.Folder || (p.Name == "") == (p.URL == "") {
			t.Errorf("%+v", p)
		}
		if HasPassword(p.URL) {
			return // is not written
		}
		again, err := Parse(p.String())
		if err != nil || again != p {
			t.Errorf("%+v is written as %s and read as %+v, %v", p, p, again, err)
		}
	})
}
