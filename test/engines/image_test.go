package engines

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/moby/moby/client"
)

// imageName is that of the image which image makes.
const imageName = "navvy:test"

// image makes an image of navvy for two architectures, as make image does, and gives its archive.
func image(t *testing.T, navvy string) string {
	t.Helper()
	archive := filepath.Join(t.TempDir(), "image.tar")
	args := []string{"-C", "../../tools", "run", "./image", "-out", archive, "-ref", imageName, "-version", "test", runtime.GOARCH + "=" + navvy}
	for _, arch := range []string{"amd64", "arm64"} {
		if arch != runtime.GOARCH { // nobody runs it
			args = append(args, arch+"="+navvy)
		}
	}
	if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return archive
}

// load gives an engine the images of an archive, as docker load and ctr images import do.
func (p *place) load(archive string) {
	p.t.Helper()
	if p.kind == "containerd" {
		out, err := exec.CommandContext(p.t.Context(), "ctr", "-a", p.at.Socket, "-n", "k8s.io", "images", "import", "--no-unpack", archive).CombinedOutput()
		if err != nil {
			p.t.Fatalf("%v: %s", err, out)
		}
		p.until("containerd tells kubelets of the image", func() bool { return containerdHas(p.t, p.at, imageName) })
		return
	}
	c, err := client.New(client.WithHost("unix://" + p.at.Socket))
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	in, err := os.Open(archive)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = in.Close() }()
	answer, err := c.ImageLoad(p.t.Context(), in)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = answer.Close() }()
	if said, err := io.ReadAll(answer); err != nil || !strings.Contains(string(said), imageName) {
		p.t.Fatalf("it has loaded %s, %v", said, err)
	}
}

// TestImage gives engines navvy's own image, which was made without them, and runs it.
func TestImage(t *testing.T) {
	each(t, func(p *place) {
		p.load(image(p.t, p.navvy))
		if out := p.run(0, "run", "--image", imageName, "--", "version"); !strings.HasPrefix(out, "navvy ") {
			p.t.Errorf("navvy version says %q", out)
		}
	})
}

// TestImageLayout has navvy's own image read, and wholly copied, by skopeo, as an archive of the
// OCI's and as one of Docker's.
func TestImageLayout(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("skopeo"); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("CI must not skip this: %v", err)
		}
		t.Skip(err)
	}
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	archive := image(t, path)
	skopeo := func(args ...string) []byte {
		cmd := exec.CommandContext(t.Context(), "skopeo", append([]string{"--insecure-policy", "--tmpdir", t.TempDir()}, args...)...)
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("%s: %v: %s", cmd, err, words(err))
		}
		return out
	}
	for _, transport := range []string{"oci-archive:", "docker-archive:"} {
		var is struct {
			Os, Architecture string
			Layers           []string
			Labels           map[string]string
		}
		if err := json.Unmarshal(skopeo("inspect", transport+archive), &is); err != nil {
			t.Fatal(err)
		}
		if is.Os != "linux" || is.Architecture != runtime.GOARCH || len(is.Layers) == 0 || is.Labels["org.opencontainers.image.version"] != "test" {
			t.Errorf("as %s it is %+v", transport, is)
		}
		skopeo("copy", transport+archive, "dir:"+t.TempDir()) // which checks each digest
	}
	var index struct {
		Manifests []struct{ Platform struct{ Architecture string } }
	}
	if err := json.Unmarshal(skopeo("inspect", "--raw", "oci-archive:"+archive), &index); err != nil {
		t.Fatal(err)
	}
	var archs []string
	for _, m := range index.Manifests {
		archs = append(archs, m.Platform.Architecture)
	}
	if slices.Sort(archs); !slices.Equal(archs, []string{"amd64", "arm64"}) {
		t.Errorf("it is for %v", archs)
	}
}

// words are what a program that failed has said.
func words(err error) string {
	if e, ok := err.(*exec.ExitError); ok { //nolint:errorlint // as exec gives it
		return string(e.Stderr)
	}
	return ""
}
