package cli

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/navvy-run/navvy/internal/holder"
	"github.com/navvy-run/navvy/internal/pause"
	"github.com/navvy-run/navvy/server/auth"
)

// people are the certificates of a server: its authority's, its own, and those of
// the first two people that it lets in.
type people struct {
	dir       string
	keyType   auth.KeyType
	authority *auth.Authority // nil: an outside one issues
	pool      *x509.CertPool
	hosts     []string // that the server is reached by
	user      string   // the standard user
	outside   [2]string
	current   atomic.Pointer[tls.Certificate]

	record  func(*x509.Certificate) error
	revoked func(serial string) bool
	first   bool     // the authority was made just now
	made    []string // files, with whom they are for
}

// Where certificates lie in a server's data directory.
const (
	caDir      = "ca"
	tlsDir     = "tls"
	clientsDir = "clients"
	caFile     = "ca.crt"
	adminName  = "admin"
)

// openPeople opens the authority, or what flags say in its place.
func (a *app) openPeople(f *serverFlags, dir *holder.Dir) (*people, error) {
	t, err := auth.ParseKeyType(f.keyType)
	if err != nil {
		return nil, &usageError{err}
	}
	p := &people{dir: dir.Path(), keyType: t, user: userName(owner()), outside: [2]string{f.cert, f.key}}
	if f.cert != "" || f.key != "" || f.ca != "" {
		return p, p.openOutside(f)
	}
	if p.authority, p.first, err = auth.OpenAuthority(filepath.Join(p.dir, caDir), &auth.AuthorityOptions{KeyType: t}); err != nil {
		return nil, err
	}
	p.pool, p.hosts = p.authority.Pool(), serverHosts(f)
	return p, nil
}

// openOutside reads what an outside authority has issued.
func (p *people) openOutside(f *serverFlags) error {
	for _, one := range []struct{ flag, file string }{{"tls-cert", f.cert}, {"tls-key", f.key}, {"tls-ca", f.ca}} {
		if one.file == "" {
			return withHint(usagef("--%s is missing", one.flag), "--tls-cert, --tls-key and --tls-ca go together; without them navvy makes an authority of its own")
		}
	}
	if len(f.hosts) > 0 {
		return usagef("--host goes with a certificate that navvy makes, not with --tls-cert")
	}
	var err error
	if p.pool, err = auth.LoadPool(f.ca); err == nil {
		err = p.loadOutside()
	}
	if errors.Is(err, fs.ErrNotExist) {
		err = withHint(&usageError{err}, "--tls-cert, --tls-key and --tls-ca name it")
	}
	return err
}

func (p *people) loadOutside() error {
	pair, err := auth.LoadPair(p.outside[0], p.outside[1])
	if err == nil {
		p.current.Store(pair)
	}
	return err
}

// userName makes of an account's name one that a certificate can carry.
func userName(account string) string {
	name := strings.TrimLeft(strings.Map(func(r rune) rune {
		if r < 0x80 && auth.ValidateName("a"+string(r)) == nil {
			return r
		}
		return '-'
	}, account), ".@+-")
	if name = name[:min(len(name), 64)]; name == adminName || auth.ValidateName(name) != nil {
		return "user"
	}
	return name
}

// serverHosts are the names and addresses in the server's own certificate.
func serverHosts(f *serverFlags) []string {
	hosts := []string{"localhost", "127.0.0.1", "::1"}
	if name, err := os.Hostname(); err == nil && name != "" {
		hosts = append(hosts, strings.ToLower(name))
	}
	if host, _, err := net.SplitHostPort(f.listen); err == nil && host != "" {
		if ip := net.ParseIP(host); ip == nil || !ip.IsUnspecified() {
			hosts = append(hosts, strings.ToLower(host))
		}
	}
	for _, host := range f.hosts {
		hosts = append(hosts, strings.ToLower(strings.TrimSpace(host)))
	}
	var list []string
	for _, host := range hosts {
		if host != "" && !slices.Contains(list, host) {
			list = append(list, host)
		}
	}
	return list
}

// prepare makes certificates that are missing or near their end.
func (p *people) prepare(record func(*x509.Certificate) error, revoked func(serial string) bool) error {
	p.record, p.revoked = record, revoked
	if p.authority == nil {
		return nil
	}
	return p.ensure()
}

func (p *people) file(name string) string { return filepath.Join(p.dir, clientsDir, name) }

func (p *people) ensure() error {
	o := &auth.PairOptions{KeyType: p.keyType, Record: p.record, Revoked: p.revoked}
	host, err := os.Hostname()
	if err != nil {
		host = "server"
	}
	ours := filepath.Join(p.dir, tlsDir, "server")
	pair, made, err := p.authority.EnsurePair(ours+".crt", ours+".key", auth.Subject{Name: userName(host), Server: true, Hosts: p.hosts}, o)
	if err != nil {
		return err
	}
	p.current.Store(pair)
	if made {
		p.made = append(p.made, fmt.Sprintf("%s.crt for this server: %s", ours, strings.Join(p.hosts, ", ")))
	}
	for _, s := range []auth.Subject{{Name: adminName, Role: auth.RoleAdmin}, {Name: p.user, Role: auth.RoleUser}} {
		cert := p.file(s.Name + ".crt")
		_, made, err := p.authority.EnsurePair(cert, p.file(s.Name+".key"), s, o)
		if err != nil {
			return err
		}
		if made {
			p.made = append(p.made, fmt.Sprintf("%s for %s, role %s", cert, s.Name, s.Role))
		}
	}
	ca := p.file(caFile)
	if text, err := os.ReadFile(ca); err != nil || !bytes.Equal(text, p.authority.CertPEM()) {
		return auth.WriteFile(ca, p.authority.CertPEM())
	}
	return nil
}

// certificate is the server's own, for each connection.
func (p *people) certificate() (*tls.Certificate, error) {
	if pair := p.current.Load(); pair != nil {
		return pair, nil
	}
	return nil, errors.New("the server has no certificate yet")
}

// renewEvery is how often a server looks which of its certificates are near their end.
const renewEvery = time.Hour

// renew renews certificates that come near their end, until ctx ends.
func (p *people) renew(ctx context.Context, log *slog.Logger) {
	for pause.For(ctx, renewEvery) == nil {
		p.made = nil
		var err error
		if p.authority == nil {
			err = p.loadOutside()
		} else {
			err = p.ensure()
		}
		if err != nil {
			log.Error("certificates cannot be renewed", "error", err)
		}
		for _, made := range p.made {
			log.Info("certificate renewed", "file", made)
		}
	}
}

// gateways says where other systems' clients are served, and whom.
func gateways(f *serverFlags, h *holder.Holder) (lines []string) {
	for _, g := range []struct {
		what, address string
		at            net.Addr
	}{{"functions", f.faas.Address, h.FaaS()}, {"images of MSTC clients", f.mstc.Address, h.MSTC()}} {
		switch {
		case g.at == nil:
		case strings.HasPrefix(g.address, "https://"):
			lines = append(lines, fmt.Sprintf("%s, for whoever has a certificate, on https://%s", g.what, g.at))
		default:
			lines = append(lines, fmt.Sprintf("%s, for anybody who reaches it, on http://%s", g.what, g.at))
		}
	}
	if at := h.NetRPC(); at != nil {
		lines = append(lines, fmt.Sprintf("net/rpc, for anybody on this machine, on %s", at))
	}
	return lines
}

// welcome says what was made and how to connect, and writes the context of this account.
func (a *app) welcome(f *serverFlags, h *holder.Holder, p *people) error {
	port, http, health := h.Addresses()
	_, number, err := net.SplitHostPort(port.String())
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	here := reachedHere(f.listen, number)
	context, wrote := a.ownContext(p, here)
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	if p.first {
		line("made %s, the authority %s", filepath.Join(p.dir, caDir, caFile), p.authority.Fingerprint())
	}
	for _, made := range p.made {
		line("made %s", made)
	}
	if wrote {
		line("made context %s, for %s", context, p.user)
	}
	line("navvy %s serves %s", a.version, p.dir)
	line("  gRPC with certificates on %s", port)
	if http != nil {
		line("  HTTP on %s%s", cmp.Or(strings.TrimSuffix(f.http, strings.TrimPrefix(f.http, "https://")), "http://"), http)
	}
	if health != nil {
		line("  health on http://%s", health)
	}
	for _, gateway := range gateways(f, h) {
		line("  %s", gateway)
	}
	if at := h.Scaler(); at != nil {
		line("  how much there is to do, for KEDA, on %s", at)
	}
	switch {
	case p.authority == nil:
		line("connect: navvy --server %s --cert FILE --key FILE --ca FILE ls", here)
	case context == "":
		line("connect: navvy --server %s --cert %s --key %s --ca %s ls", here, p.file(p.user+".crt"), p.file(p.user+".key"), p.file(caFile))
	default:
		line("connect: navvy --server %s ls", here)
	}
	if p.authority != nil && f.slots == 0 {
		line("add a worker: navvy token create --data %s > token; navvy worker start --join %s --token-file token", p.dir, here)
	}
	_, err = a.out.Write([]byte(b.String()))
	return err
}

// reachedHere is how the server is reached from its own machine.
func reachedHere(listen, port string) string {
	host, _, err := net.SplitHostPort(listen)
	if ip := net.ParseIP(host); err != nil || host == "" || ip != nil && (ip.IsUnspecified() || ip.IsLoopback()) {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}

// ownContext writes the context with which the account that has started a server is
// its standard user, if it is missing or its address has changed. It gives the name
// of the context, and whether it was written. That no context can be written is said,
// and is no error: a service's account may have no home.
func (a *app) ownContext(p *people, address string) (name string, wrote bool) {
	if p.authority == nil {
		return "", false
	}
	c := serverContext{Server: address, Cert: p.file(p.user + ".crt"), Key: p.file(p.user + ".key"), CA: p.file(caFile), Data: p.dir}
	err := a.changeContexts(func(f *contextsFile) error {
		name = f.ownName(c)
		old, there := f.Contexts[name]
		if there && old == c {
			return errUnchanged
		}
		f.Contexts[name], wrote = c, !there || !old.like(c)
		return nil
	})
	if err != nil && !errors.Is(err, errUnchanged) {
		a.say("no context was written: %v", err)
		return "", false
	}
	return name, wrote
}

// errUnchanged ends a change of the contexts that changes nothing.
var errUnchanged = errors.New("nothing has changed")

// ownName is the name of the context that a server's start writes: of the one that
// says the same already, that an earlier start has made, or that another server has
// made which was at this address before it; else one that nobody has. What somebody
// has added stays as it is.
func (f *contextsFile) ownName(c serverContext) string {
	names := slices.Sorted(maps.Keys(f.Contexts))
	for _, fits := range []func(old serverContext) bool{
		func(old serverContext) bool { return old == c },
		func(old serverContext) bool { return old.Data == c.Data },
		func(old serverContext) bool { return old.like(c) },
		func(old serverContext) bool { return old.Data != "" && sameServer(old.Server, c.Server) },
	} {
		if i := slices.IndexFunc(names, func(name string) bool { return fits(f.Contexts[name]) }); i >= 0 {
			return names[i]
		}
	}
	host, port, err := net.SplitHostPort(c.Server)
	if err != nil || checkContextName(host) != nil {
		host = "server"
	}
	if port != defaultPort {
		host += "-" + port
	}
	for n, name := 2, host; ; n++ {
		if _, ok := f.Contexts[name]; !ok {
			return name
		}
		name = fmt.Sprintf("%s-%d", host, n)
	}
}
