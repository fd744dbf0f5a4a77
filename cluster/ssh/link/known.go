package link

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/knownhosts"

	"github.com/navvy-run/navvy"
)

// known is what the files of known hosts have of a host.
type known struct {
	host  Host
	files []string
	ask   ssh.HostKeyCallback // of all files
	// The lines of the host: with keys of its own, and with those of authorities.
	own, authorities []knownhosts.KnownKey
}

// known reads the files. The error wraps navvy.ErrInvalid.
func (o *Options) known(h Host) (*known, error) {
	there := slices.DeleteFunc(slices.Clone(o.KnownHosts), func(path string) bool {
		_, err := os.Stat(path)
		return errors.Is(err, fs.ErrNotExist)
	})
	ask, err := knownhosts.New(there...)
	if err != nil {
		return nil, fmt.Errorf("known_hosts: %w: %w", err, navvy.ErrInvalid)
	}
	k := &known{host: h, files: o.KnownHosts, ask: ask}
	all, is := errors.AsType[*knownhosts.KeyError](ask(h.Address(), &net.TCPAddr{IP: net.IPv4zero}, noKey{}))
	if !is {
		return k, nil
	}
	for _, line := range all.Want { // package knownhosts does not say which is of an authority
		if ofAuthority(line) {
			k.authorities = append(k.authorities, line)
		} else {
			k.own = append(k.own, line)
		}
	}
	return k, nil
}

// noKey is a key that nobody has.
type noKey struct{}

func (noKey) Type() string                        { return "none" }
func (noKey) Marshal() []byte                     { return []byte("none") }
func (noKey) Verify([]byte, *ssh.Signature) error { return errors.New("it is none") }

// ofAuthority tells whether a line has the key of an authority, which certifies those of hosts.
func ofAuthority(k knownhosts.KnownKey) bool {
	text, err := os.ReadFile(k.Filename)
	if err != nil {
		return false // it is gone by now
	}
	lines := strings.Split(string(text), "\n")
	return k.Line <= len(lines) && strings.HasPrefix(strings.TrimSpace(lines[k.Line-1]), "@cert-authority")
}

// algorithms are the kinds of keys that the host is to be asked for; nil for all. Of one that
// has several another one than the known may be shown otherwise.
func (k *known) algorithms() (list []string) {
	if len(k.own) == 0 { // certificates are asked for first
		return nil
	}
	if len(k.authorities) > 0 {
		list = append(list, ssh.CertAlgoED25519v01, ssh.CertAlgoECDSA256v01, ssh.CertAlgoECDSA384v01, ssh.CertAlgoECDSA521v01,
			ssh.CertAlgoRSASHA512v01, ssh.CertAlgoRSASHA256v01)
	}
	for _, line := range k.own {
		list = append(list, signatures(line.Key.Type())...)
	}
	return list
}

// signatures are those that a key of a type can make: of RSA none with SHA-1.
func signatures(keyType string) []string {
	if keyType == ssh.KeyAlgoRSA {
		return []string{ssh.KeyAlgoRSASHA512, ssh.KeyAlgoRSASHA256}
	}
	return []string{keyType}
}

// KeyError says that a host is not known, or is not the one that is known.
type KeyError struct {
	Host    Host
	Changed bool // another key is known, or this one was revoked
	text    string
}

// Error implements error.
func (e *KeyError) Error() string { return e.text }

// Unwrap makes it a navvy.ErrDenied.
func (e *KeyError) Unwrap() error { return navvy.ErrDenied }

// check is an ssh.HostKeyCallback, with errors that say why a key is not trusted and what to do.
// A certificate counts if one of the host's authorities has signed it; another one is no more
// than the key that it is of, as for ssh.
func (k *known) check(address string, remote net.Addr, key ssh.PublicKey) error {
	shown := key.Type() + " " + ssh.FingerprintSHA256(key)
	cert, certified := key.(*ssh.Certificate)
	if !certified {
		return k.plain(shown, key, k.ask(address, remote, key))
	}
	by := cert.SignatureKey
	shown += ", certified by " + by.Type() + " " + ssh.FingerprintSHA256(by)
	// Of a certificate package knownhosts does not say where its authority was revoked.
	for _, of := range []ssh.PublicKey{cert.Key, by} {
		if err := k.ask(address, remote, of); revoked(err) != nil {
			return k.plain(shown, cert.Key, err)
		}
	}
	if !slices.ContainsFunc(k.authorities, func(a knownhosts.KnownKey) bool { return ssh.FingerprintSHA256(a.Key) == ssh.FingerprintSHA256(by) }) {
		return k.plain(shown, cert.Key, k.ask(address, remote, cert.Key))
	}
	if err := k.ask(address, remote, cert); err != nil {
		return &KeyError{k.host, false, fmt.Sprintf("its host certificate (%s) is not good: %v", shown, err)}
	}
	return nil
}

func revoked(err error) *knownhosts.RevokedError {
	is, _ := errors.AsType[*knownhosts.RevokedError](err)
	return is
}

// plain says why a key of its own is not trusted.
func (k *known) plain(shown string, key ssh.PublicKey, err error) error {
	if is := revoked(err); is != nil {
		return &KeyError{k.host, true, fmt.Sprintf("the host key that it shows (%s) WAS REVOKED in %s:%d: nothing was sent", shown, is.Revoked.Filename, is.Revoked.Line)}
	}
	if err == nil && k.has(key) {
		return nil
	}
	if _, is := errors.AsType[*knownhosts.KeyError](err); err != nil && !is {
		return &KeyError{k.host, false, fmt.Sprintf("its host key (%s): %v", shown, err)}
	}
	if len(k.own) > 0 {
		at := k.own[0]
		return &KeyError{k.host, true, fmt.Sprintf("THE HOST KEY HAS CHANGED: it shows %s, and %s:%d has %s %s. Somebody may be in between: nothing was sent. "+
			"If the machine was made anew, remove that line", shown, at.Filename, at.Line, at.Key.Type(), ssh.FingerprintSHA256(at.Key))}
	}
	also := ""
	if len(k.authorities) > 0 {
		at := k.authorities[0]
		also = fmt.Sprintf(", and not certified by %s %s of %s:%d", at.Key.Type(), ssh.FingerprintSHA256(at.Key), at.Filename, at.Line)
	}
	return &KeyError{k.host, false, fmt.Sprintf("its host key is not known: %s%s; is it that of the machine? Then sign in once (%s), or add it to %s",
		shown, also, k.host.Command(), strings.Join(k.files[:min(1, len(k.files))], ""))}
}

// has tells whether a key is one of the host's own: that of an authority is none.
func (k *known) has(key ssh.PublicKey) bool {
	return slices.ContainsFunc(k.own, func(line knownhosts.KnownKey) bool { return string(line.Key.Marshal()) == string(key.Marshal()) })
}
