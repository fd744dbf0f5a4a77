// Command image makes a container image of navvy without Docker, as ko does: the static
// binary, the certificates of public authorities, an account that is not root, and nothing
// else. The same arguments give the same bytes.
//
// The archive is an image layout of the OCI (opencontainers/image-spec, image-layout.md)
// and at once what docker save writes, so that docker load, ctr images import, nerdctl,
// podman, skopeo and crane take it. One image for each architecture is in it; the manifest
// for Docker, which knows no others, names the first.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"time"
)

// binary is navvy for an architecture.
type binary struct{ arch, path string }

// settings are what the command line says.
type settings struct {
	out, ref, version, revision string
	created                     time.Time
	binaries                    []binary
}

func main() {
	s := settings{}
	flag.StringVar(&s.out, "out", "", "the archive to write")
	flag.StringVar(&s.ref, "ref", "", "the image's name, with a tag")
	flag.StringVar(&s.version, "version", "", "the version that labels tell")
	flag.StringVar(&s.revision, "revision", "", "the commit that labels tell")
	created := flag.Int64("time", 0, "when the commit was made, in seconds since 1970: the time of all that is in the image")
	flag.Parse()
	s.created = time.Unix(*created, 0).UTC()
	err := s.add(flag.Args())
	if err == nil {
		err = s.write()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

// add takes what the arguments say, each ARCH=FILE.
func (s *settings) add(args []string) error {
	if s.out == "" || s.ref == "" || len(args) == 0 {
		return errors.New("want -out FILE -ref NAME:TAG and a binary for each architecture, such as amd64=bin/navvy")
	}
	for _, arg := range args {
		arch, path, ok := strings.Cut(arg, "=")
		if !ok || arch == "" || path == "" {
			return fmt.Errorf("%s: want ARCH=FILE", arg)
		}
		s.binaries = append(s.binaries, binary{arch, path})
	}
	return nil
}

// write makes the archive, whole or not at all.
func (s *settings) write() error {
	f, err := os.CreateTemp(dirOf(s.out), ".image-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // if it has not become the archive
	err = s.archive(f)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), s.out)
}

func dirOf(path string) string {
	if i := strings.LastIndexByte(path, '/'); i >= 0 {
		return path[:i+1]
	}
	return "."
}
