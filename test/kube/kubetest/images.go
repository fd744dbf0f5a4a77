package kubetest

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"os/exec"
	"strings"
)

// Image is an image that the node has: a shell and the usual small programs.
const Image = "local.test/busybox:1"

// pause is the image of what holds the namespaces of a pod.
const pause = "local.test/pause:1"

// Scripts are images whose own command is a shell script, by what they are called: the node
// has local.test/NAME:1 of each.
var Scripts = map[string]string{
	"hello": "echo hello; echo error >&2",
	"exit3": "echo out; exit 3",
	"oom":   "echo begun; tail /dev/zero",
	"hang":  "trap 'exit 0' TERM; echo begun; sleep 1000000 & wait",
	"slow":  "echo begun; sleep 10; echo done",
}

// images makes a tar archive, as docker save does, of the images that the node has: both are
// Debian's static busybox, and do different things when nothing is said.
func images() ([]byte, error) {
	layer, err := busyboxLayer()
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(layer)
	files := map[string][]byte{"layer.tar": layer}
	type manifest struct {
		Config   string
		RepoTags []string
		Layers   []string
	}
	var manifests []manifest
	commands := map[string][]string{
		Image: {"/bin/sh"},
		pause: {"/bin/sleep", "1000000000"},
	}
	for name, script := range Scripts {
		commands["local.test/"+name+":1"] = []string{"/bin/sh", "-c", script}
	}
	for ref, command := range commands {
		config, err := json.Marshal(map[string]any{
			"architecture": "amd64", "os": "linux",
			"config": map[string]any{"Cmd": command, "Env": []string{"PATH=/bin"}},
			"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hex.EncodeToString(sum[:])}},
		})
		if err != nil {
			return nil, err
		}
		name := hex.EncodeToString([]byte(ref)) + ".json"
		files[name] = config
		manifests = append(manifests, manifest{name, []string{ref}, []string{"layer.tar"}})
	}
	if files["manifest.json"], err = json.Marshal(manifests); err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for name, text := range files {
		if err := add(w, &tar.Header{Name: name, Mode: 0o644}, text); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}

// busyboxLayer is the file system of the images.
func busyboxLayer() ([]byte, error) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return nil, err
	}
	program, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	list, err := exec.Command(path, "--list").Output()
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, dir := range []string{"bin/", "etc/", "tmp/"} {
		if err := add(w, &tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o777}, nil); err != nil {
			return nil, err
		}
	}
	if err := add(w, &tar.Header{Name: "bin/busybox", Mode: 0o755}, program); err != nil {
		return nil, err
	}
	if err := add(w, &tar.Header{Name: "etc/passwd", Mode: 0o644}, []byte("root:x:0:0:root:/:/bin/sh\n")); err != nil {
		return nil, err
	}
	for name := range strings.FieldsSeq(string(list)) {
		if name == "busybox" {
			continue
		}
		if err := add(w, &tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox", Mode: 0o777}, nil); err != nil {
			return nil, err
		}
	}
	return b.Bytes(), w.Close()
}

func add(w *tar.Writer, h *tar.Header, text []byte) error {
	if h.Typeflag == 0 {
		h.Typeflag = tar.TypeReg
	}
	h.Size = int64(len(text))
	if err := w.WriteHeader(h); err != nil {
		return err
	}
	_, err := w.Write(text)
	return err
}
