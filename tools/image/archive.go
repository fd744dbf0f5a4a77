package main

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"maps"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// image makes the image of one architecture.
func (s *settings) image(b binary) (v1.Image, error) {
	entries, err := binaryLayer(b.path)
	if err != nil {
		return nil, err
	}
	created := v1.Time{Time: s.created}
	img := mutate.MediaType(mutate.ConfigMediaType(empty.Image, types.OCIConfigJSON), types.OCIManifestSchema1)
	for _, part := range []struct {
		entries []entry
		what    string
	}{{base(), "certificates of authorities, accounts"}, {entries, "navvy"}} {
		l, err := layer(part.entries, s.created)
		if err != nil {
			return nil, err
		}
		img, err = mutate.Append(img, mutate.Addendum{Layer: l, MediaType: types.OCILayer, History: v1.History{
			Created: created, CreatedBy: "navvy make image", Comment: part.what,
		}})
		if err != nil {
			return nil, err
		}
	}
	return s.configure(img, b.arch)
}

// configure says how the image is run.
func (s *settings) configure(img v1.Image, arch string) (v1.Image, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config = config.DeepCopy()
	config.OS, config.Architecture, config.Created = "linux", arch, v1.Time{Time: s.created}
	config.Config = v1.Config{
		Entrypoint: []string{"/" + program}, User: "65532:65532", WorkingDir: "/home/nonroot",
		Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin", "HOME=/home/nonroot", "SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt"},
		Labels: map[string]string{
			"org.opencontainers.image.title": "navvy", "org.opencontainers.image.licenses": "Apache-2.0",
			"org.opencontainers.image.source":  "https://github.com/navvy-run/navvy",
			"org.opencontainers.image.version": s.version, "org.opencontainers.image.revision": s.revision,
		},
	}
	return mutate.ConfigFile(img, config)
}

// Annotations of the one descriptor of a layout: its name for those who read the OCI's
// layouts, and for containerd.
const (
	annotationRef  = "org.opencontainers.image.ref.name"
	annotationName = "io.containerd.image.name"
)

// fullName is a reference with the host that whoever runs images puts before one that has
// none: containerd finds an image by that name only.
func fullName(ref string) string {
	first, rest, found := strings.Cut(ref, "/")
	switch {
	case !found:
		return "docker.io/library/" + ref
	case rest != "" && (strings.ContainsAny(first, ".:") || first == "localhost"):
		return ref
	}
	return "docker.io/" + ref
}

// archive writes all images as a layout.
func (s *settings) archive(out io.Writer) error {
	files := map[string][]byte{"oci-layout": []byte(`{"imageLayoutVersion":"1.0.0"}`)}
	index := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex}
	for i, b := range s.binaries {
		img, err := s.image(b)
		if err != nil {
			return err
		}
		d, err := s.addImage(files, img, i == 0)
		if err != nil {
			return err
		}
		d.Platform = &v1.Platform{OS: "linux", Architecture: b.arch}
		index.Manifests = append(index.Manifests, d)
	}
	manifest, err := json.Marshal(index)
	if err != nil {
		return err
	}
	digest, _, err := v1.SHA256(bytes.NewReader(manifest))
	if err != nil {
		return err
	}
	files[blob(digest)] = manifest
	top := v1.IndexManifest{SchemaVersion: 2, MediaType: types.OCIImageIndex, Manifests: []v1.Descriptor{{
		MediaType: types.OCIImageIndex, Size: int64(len(manifest)), Digest: digest,
		Annotations: map[string]string{annotationRef: tagOf(s.ref), annotationName: fullName(s.ref)},
	}}}
	if files["index.json"], err = json.Marshal(top); err != nil {
		return err
	}
	return s.pack(out, files)
}

// blob is where a blob lies in a layout.
func blob(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

// docker is an entry of manifest.json, as docker save writes it.
type docker struct {
	Config   string
	RepoTags []string
	Layers   []string
}

// addImage adds the blobs of an image, and with forDocker what names it for Docker. It
// gives what an index says of the image.
func (s *settings) addImage(files map[string][]byte, img v1.Image, forDocker bool) (v1.Descriptor, error) {
	manifest, err := img.RawManifest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	digest, err := img.Digest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	name, err := img.ConfigName()
	if err != nil {
		return v1.Descriptor{}, err
	}
	files[blob(digest)] = manifest
	if files[blob(name)], err = img.RawConfigFile(); err != nil {
		return v1.Descriptor{}, err
	}
	layers, err := addLayers(files, img)
	if err == nil && forDocker {
		files["manifest.json"], err = json.Marshal([]docker{{Config: blob(name), RepoTags: []string{s.ref}, Layers: layers}})
	}
	return v1.Descriptor{MediaType: types.OCIManifestSchema1, Size: int64(len(manifest)), Digest: digest}, err
}

// addLayers adds the layers of an image, and gives where they lie.
func addLayers(files map[string][]byte, img v1.Image) ([]string, error) {
	layers, err := img.Layers()
	if err != nil {
		return nil, err
	}
	var list []string
	for _, l := range layers {
		digest, err := l.Digest()
		if err != nil {
			return nil, err
		}
		if files[blob(digest)], err = compressed(l); err != nil {
			return nil, err
		}
		list = append(list, blob(digest))
	}
	return list, nil
}

func compressed(l v1.Layer) ([]byte, error) {
	r, err := l.Compressed()
	if err != nil {
		return nil, err
	}
	defer func() { _ = r.Close() }() // only read
	return io.ReadAll(r)
}

// pack writes files in the order of their names, all of one time.
func (s *settings) pack(out io.Writer, files map[string][]byte) error {
	w := tar.NewWriter(out)
	for _, dir := range []string{"blobs/", "blobs/sha256/"} {
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeDir, Name: dir, Mode: 0o755, ModTime: s.created, Format: tar.FormatUSTAR}); err != nil {
			return err
		}
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(files[name])), ModTime: s.created, Format: tar.FormatUSTAR}
		if err := w.WriteHeader(h); err != nil {
			return err
		}
		if _, err := w.Write(files[name]); err != nil {
			return err
		}
	}
	return w.Close()
}

// tagOf is the tag in a name.
func tagOf(ref string) string {
	for i := len(ref) - 1; i >= 0 && ref[i] != '/'; i-- {
		if ref[i] == ':' {
			return ref[i+1:]
		}
	}
	return "latest"
}
