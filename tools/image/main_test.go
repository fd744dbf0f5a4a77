package main

import (
	"archive/tar"
	"bytes"
	"crypto/x509"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// build makes an archive of two architectures.
func build(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	s := settings{out: filepath.Join(dir, "image.tar"), ref: "registry.example/navvy:1.2", version: "1.2", revision: "abc", created: time.Unix(1_700_000_000, 0).UTC()}
	for _, arch := range []string{"amd64", "arm64"} {
		path := filepath.Join(dir, arch)
		if err := os.WriteFile(path, []byte("the binary for "+arch), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := s.add([]string{arch + "=" + path}); err != nil {
			t.Fatal(err)
		}
	}
	if err := s.write(); err != nil {
		t.Fatal(err)
	}
	return s.out
}

func TestSameBytes(t *testing.T) {
	t.Parallel()
	one, err := os.ReadFile(build(t))
	if err != nil {
		t.Fatal(err)
	}
	other, err := os.ReadFile(build(t))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(one, other) {
		t.Error("the same arguments have given other bytes")
	}
}

// As Docker reads it.
func TestDocker(t *testing.T) {
	t.Parallel()
	path := build(t)
	img, err := tarball.ImageFromPath(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Error(err)
	}
	manifest, err := tarball.LoadManifest(func() (io.ReadCloser, error) { return os.Open(path) })
	if err != nil || len(manifest) != 1 || !slices.Equal(manifest[0].RepoTags, []string{"registry.example/navvy:1.2"}) {
		t.Errorf("the manifest says %+v, %v", manifest, err)
	}
	checkImage(t, img, "amd64")
}

// As the OCI's layout says.
func TestLayout(t *testing.T) {
	t.Parallel()
	dir := unpack(t, build(t))
	top, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	outer, err := top.IndexManifest()
	if err != nil || len(outer.Manifests) != 1 {
		t.Fatalf("the layout has %+v, %v", outer, err)
	}
	if a := outer.Manifests[0].Annotations; a[annotationRef] != "1.2" || a[annotationName] != "registry.example/navvy:1.2" {
		t.Errorf("it is named by %v", a)
	}
	index, err := top.ImageIndex(outer.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	inner, err := index.IndexManifest()
	if err != nil || len(inner.Manifests) != 2 {
		t.Fatalf("the index has %+v, %v", inner, err)
	}
	for i, arch := range []string{"amd64", "arm64"} {
		if p := inner.Manifests[i].Platform; p == nil || p.Architecture != arch || p.OS != "linux" {
			t.Errorf("image %d is for %v", i, p)
		}
		img, err := index.Image(inner.Manifests[i].Digest)
		if err != nil {
			t.Fatal(err)
		}
		checkImage(t, img, arch)
	}
}

// checkImage checks what is in an image, and how it is run.
func checkImage(t *testing.T, img v1.Image, arch string) {
	t.Helper()
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	if config.Architecture != arch || config.OS != "linux" || config.Config.User != "65532:65532" || !slices.Equal(config.Config.Entrypoint, []string{"/usr/local/bin/navvy"}) {
		t.Errorf("it is run as %+v", config)
	}
	files := contents(t, img)
	if got := files["usr/local/bin/navvy"]; got != "the binary for "+arch {
		t.Errorf("navvy is %q", got)
	}
	pool := x509.NewCertPool()
	const fewest = 50
	if roots := files["etc/ssl/certs/ca-certificates.crt"]; !pool.AppendCertsFromPEM([]byte(roots)) || strings.Count(roots, "BEGIN CERTIFICATE") < fewest {
		t.Errorf("there are %d certificates", strings.Count(roots, "BEGIN CERTIFICATE"))
	}
}

// contents are the files of an image, which are all of one time.
func contents(t *testing.T, img v1.Image) map[string]string {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, l := range layers {
		r, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		for in := tar.NewReader(r); ; {
			h, err := in.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(in)
			if err != nil {
				t.Fatal(err)
			}
			files[h.Name] = string(text)
			if h.ModTime.Unix() != 1_700_000_000 {
				t.Errorf("%s is of %s", h.Name, h.ModTime)
			}
			if h.Name == "data/" && h.Uid != account {
				t.Errorf("%s is of user %d", h.Name, h.Uid)
			}
		}
		_ = r.Close()
	}
	return files
}

func unpack(t *testing.T, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	dir := t.TempDir()
	for in := tar.NewReader(f); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return dir
		}
		if err != nil {
			t.Fatal(err)
		}
		at := filepath.Join(dir, filepath.FromSlash(h.Name))
		if h.Typeflag == tar.TypeDir {
			err = os.MkdirAll(at, 0o750)
		} else {
			var text []byte
			if text, err = io.ReadAll(in); err == nil {
				err = os.WriteFile(at, text, 0o600)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// What has no host is Docker Hub's, for those who run it.
func TestFullName(t *testing.T) {
	t.Parallel()
	for ref, want := range map[string]string{
		"navvy:1": "docker.io/library/navvy:1", "someone/navvy:1": "docker.io/someone/navvy:1",
		"registry.example/navvy:1": "registry.example/navvy:1", "localhost/navvy:1": "localhost/navvy:1", "host:5000/navvy": "host:5000/navvy",
	} {
		if got := fullName(ref); got != want {
			t.Errorf("%s is %s, want %s", ref, got, want)
		}
	}
}
