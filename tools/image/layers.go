package main

import (
	"archive/tar"
	"bytes"
	"encoding/pem"
	"io"
	"io/fs"
	"os"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"golang.org/x/crypto/x509roots/fallback/bundle"
)

// The account that navvy runs as; a number, so that a cluster can see that it is not root.
const (
	account = 65532
	passwd  = "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n"
	group   = "root:x:0:\nnonroot:x:65532:\n"
	program = "usr/local/bin/navvy"
)

// entry is a file or directory of a layer.
type entry struct {
	name  string
	mode  fs.FileMode
	owner int
	text  []byte // nil for a directory
}

// base is what every architecture has. /data is for a volume, which begins with its owner.
func base() []entry {
	const private, public, shared = 0o700, 0o755, 0o1777
	return []entry{
		{name: "data/", mode: private, owner: account},
		{name: "etc/", mode: public},
		{name: "etc/group", mode: 0o644, text: []byte(group)},
		{name: "etc/passwd", mode: 0o644, text: []byte(passwd)},
		{name: "etc/ssl/", mode: public},
		{name: "etc/ssl/certs/", mode: public},
		{name: "etc/ssl/certs/ca-certificates.crt", mode: 0o644, text: authorities()},
		{name: "home/", mode: public},
		{name: "home/nonroot/", mode: private, owner: account},
		{name: "tmp/", mode: shared},
	}
}

// authorities are the roots that Mozilla trusts without conditions. Those that are trusted
// for older certificates only are left out: a file of certificates cannot say so.
func authorities() []byte {
	var b bytes.Buffer
	for root := range bundle.Roots() {
		if root.Constraint == nil {
			_ = pem.Encode(&b, &pem.Block{Type: "CERTIFICATE", Bytes: root.Certificate}) // a buffer takes it
		}
	}
	return b.Bytes()
}

// binaryLayer is navvy itself.
func binaryLayer(path string) ([]entry, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	const mode = 0o755
	return []entry{
		{name: "usr/", mode: mode}, {name: "usr/local/", mode: mode}, {name: "usr/local/bin/", mode: mode},
		{name: program, mode: mode, text: text},
	}, nil
}

// layer packs entries, all of one time.
func layer(entries []entry, at time.Time) (v1.Layer, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := &tar.Header{
			Typeflag: tar.TypeReg, Name: e.name, Mode: int64(e.mode), Uid: e.owner, Gid: e.owner,
			Size: int64(len(e.text)), ModTime: at, Format: tar.FormatUSTAR,
		}
		if e.text == nil {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.text); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil }
	return tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
}
