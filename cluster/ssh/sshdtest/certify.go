package sshdtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// Authority certifies the keys of hosts.
type Authority struct {
	Public string // as known_hosts has it

	file string
}

// NewAuthority makes one, with its key in a directory.
func NewAuthority(t testing.TB, dir, name string) *Authority {
	t.Helper()
	a := &Authority{file: filepath.Join(dir, name)}
	a.Public = strings.TrimSpace(string(ssh.MarshalAuthorizedKey(writeKey(t, a.file))))
	return a
}

// Certify has an authority certify the host's key for a name, as long as ssh-keygen -V says. The
// host is to be started again.
func (h *Host) Certify(t testing.TB, a *Authority, name, valid string) {
	t.Helper()
	write(t, h.keyFile()+".pub", ssh.MarshalAuthorizedKey(h.key))
	out, err := exec.Command("ssh-keygen", "-q", "-s", a.file, "-I", "host", "-h", "-n", name, "-V", valid, h.keyFile()+".pub").CombinedOutput()
	if err != nil {
		t.Fatalf("ssh-keygen: %v: %s", err, out)
	}
}

// certificate is the line of the configuration for one that there is.
func (h *Host) certificate() string {
	path := h.keyFile() + "-cert.pub"
	if _, err := os.Stat(path); err != nil {
		return ""
	}
	return "HostCertificate " + path + "\n"
}
