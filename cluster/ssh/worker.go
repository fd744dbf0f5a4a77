package ssh

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/local"
	"github.com/navvy-run/navvy/cluster/ssh/link"
	"github.com/navvy-run/navvy/cluster/unit"
	"github.com/navvy-run/navvy/parcel"
)

// workerPart is a worker on a host.
type workerPart struct {
	place   *place
	common  *local.Workers
	server  bool
	program string
	// direct is where it reaches the server without a tunnel; directPort says that a port is
	// in it.
	direct     string
	directPort bool
}

// What a worker has after SIGTERM, as on this machine.
const (
	drainTime   = 30 * time.Second
	workerGrace = drainTime + 45*time.Second
)

func (p *workerPart) put(ctx context.Context, h *hosts, s *local.Site, r *driver.Resource) error {
	data := s.Data()
	if was := data[dataHost]; was != "" && was != p.place.Text {
		if err := h.moveFrom(ctx, s, was, r.Name); err != nil {
			return err
		}
	}
	data[dataHost] = p.place.Text
	if err := s.Save(); err != nil {
		return err
	}
	sum, err := h.program()
	if err != nil {
		return err
	}
	n, err := h.look(ctx, s, p.place, sum)
	if err != nil {
		return err
	}
	if !n.ours || n.units == nil {
		return fmt.Errorf("host %s: what is in %s was changed just now; apply again: %w", p.place.Text, n.dir, navvy.ErrConflict)
	}
	spec := &unit.Spec{
		Name: r.Name, Dir: n.dir + "/workers/" + r.Name, Grace: workerGrace, Env: n.environ(p.common.Env),
		Notes: map[string]string{"navvy": p.program, "needs": r.Properties["requests"] + " " + r.Properties["responses"]},
	}
	spec.Args = []string{
		n.dir + "/" + programName, "worker", "start", "--data", spec.Dir, "-j", cmp.Or(h.o.Slots, strconv.Itoa(p.common.Concurrency)),
		"--drain-timeout", drainTime.String(), "--log-format", "json",
	}
	if _, err := h.run(ctx, p.place, `umask 077; mkdir -p "$1"`, []string{spec.Dir}, nil); err != nil {
		return err
	}
	if p.server {
		err = p.joins(ctx, h, s, n, spec)
	} else {
		err = p.answers(ctx, h, s, n, spec)
	}
	if err != nil {
		return err
	}
	data[dataUnit] = spec.Digest()
	if err := h.putUnit(ctx, p.place, n, spec); err != nil || p.server {
		return err
	}
	return h.dropTrees(ctx, s, p.place, n.dir)
}

// environ is the environment of a unit: what the host says, and more.
func (n *seen) environ(more map[string]string) map[string]string {
	env := maps.Clone(n.env)
	maps.Copy(env, more)
	return env
}

// joins has a worker join the server, with a token of its own where it needs one.
func (p *workerPart) joins(ctx context.Context, h *hosts, s *local.Site, n *seen, spec *unit.Spec) error {
	data := s.Data()
	at, err := p.serverAt(ctx, s)
	if err != nil {
		return err
	}
	admitted := false
	if id := n.workers[spec.Name]; id != nil {
		if admitted, err = s.Admits(ctx, *id); err != nil {
			return err
		}
		if !admitted { // one that is about to join would write what is removed here
			if _, there := n.units[spec.Name]; there {
				err = h.endUnits(ctx, p.place, n, []string{spec.Name})
			}
			if err == nil {
				_, err = h.run(ctx, p.place, strangerScript, []string{n.dir, spec.Name}, nil)
			}
			if err != nil {
				return err
			}
		}
	}
	if !admitted || !n.tokens[spec.Name] || data[dataToken] == "" {
		token, err := s.Token(ctx)
		if err != nil {
			return err
		}
		if err := h.putText(ctx, p.place, n.dir, tokenName(spec.Name), token); err != nil {
			return err
		}
		sum := sha256.Sum256(token)
		data[dataToken] = fmt.Sprintf("%x", sum[:8])
	}
	data[dataPort] = at
	delete(data, dataFiles) // it may have been one without a server
	spec.Notes["token"] = data[dataToken]
	spec.Args = append(spec.Args, "--join", at, "--token-file", n.dir+"/"+tokenName(spec.Name), "--name", s.Name()+"-"+spec.Name)
	for _, name := range slices.Sorted(maps.Keys(p.common.Labels)) {
		spec.Args = append(spec.Args, "--label", name+"="+p.common.Labels[name])
	}
	return nil
}

func tokenName(worker string) string { return "secrets/" + worker + ".token" }

// serverAt is where a worker reaches the server.
func (p *workerPart) serverAt(ctx context.Context, s *local.Site) (string, error) {
	switch {
	case p.direct == "":
		return tunnelAt(ctx, tunnelsDir(s), p.place)
	case p.directPort:
		return p.direct, nil
	}
	return net.JoinHostPort(strings.Trim(p.direct, "[]"), strconv.Itoa(s.ServerPort())), nil
}

// answers has a worker answer over a broker's queues.
func (p *workerPart) answers(ctx context.Context, h *hosts, s *local.Site, n *seen, spec *unit.Spec) error {
	delete(s.Data(), dataPort) // it may have been one of a server
	delete(s.Data(), dataToken)
	files, err := s.Broker()
	if err != nil {
		return err
	}
	for _, flag := range slices.Sorted(maps.Keys(files)) {
		name := "secrets/" + spec.Name + strings.TrimSuffix(strings.Replace(flag, "--", ".", 1), "-file") + ".url"
		if err := h.putText(ctx, p.place, n.dir, name, files[flag]); err != nil {
			return err
		}
		spec.Args = append(spec.Args, flag, n.dir+"/"+name)
	}
	spec.Args = append(spec.Args, p.common.Args...)
	if p.common.Files == "" {
		delete(s.Data(), dataFiles)
		return nil
	}
	tree := strings.TrimPrefix(p.common.Files, "sha256:")
	spec.Dir = n.dir + "/files/" + tree
	if was := s.Data()[dataFiles]; was != "" && was != tree {
		s.Data()[dataWas] = was
	}
	s.Data()[dataFiles] = tree
	if err := s.Save(); err != nil {
		return err
	}
	return h.putTree(ctx, s, p.place, n.dir, p.common.Files, tree)
}

// putTree copies what services find to a host, unless it is there.
func (h *hosts) putTree(ctx context.Context, s *local.Site, p *place, dir, files, tree string) error {
	one := h.treeOf(p) // workers of one host want the same
	one.Lock()
	defer one.Unlock()
	if _, err := h.run(ctx, p, `[ -d "$1" ]`, []string{dir + "/files/" + tree}, nil); err == nil {
		return nil
	} else if _, exit := errors.AsType[*link.ExitError](err); !exit {
		return err
	}
	from, to := io.Pipe()
	go func() {
		_, err := parcel.Pack(ctx, to, s.Files(files), nil)
		_ = to.CloseWithError(err)
	}()
	_, err := h.run(ctx, p, treeScript, []string{dir, tree}, from)
	_ = from.Close() // whoever packs ends, too
	return err
}

// dropTrees removes what no worker of a host works in any more.
func (h *hosts) dropTrees(ctx context.Context, s *local.Site, p *place, dir string) error {
	delete(s.Data(), dataWas) // of the worker that was put
	if err := s.Save(); err != nil {
		return err
	}
	one := h.treeOf(p)
	one.Lock()
	defer one.Unlock()
	records, err := s.Records()
	if err != nil {
		return err
	}
	used := []string{dir}
	for i := range records {
		if r := &records[i]; r.ID.Kind == kindWorker && r.Data[dataHost] == p.Text {
			used = append(used, r.Data[dataFiles], r.Data[dataWas])
		}
	}
	_, err = h.run(ctx, p, dropTreesScript, used, nil)
	return err
}

// putUnit starts a unit on a host, or makes it what spec says.
func (h *hosts) putUnit(ctx context.Context, p *place, n *seen, spec *unit.Spec) error {
	text, err := json.Marshal(spec)
	if err != nil {
		return err
	}
	out, err := h.run(ctx, p, `exec "$1" cluster unit put "$2"`, []string{n.dir + "/" + programName, n.dir + "/" + unitsName}, bytes.NewReader(text))
	return answered(p, out, err)
}

// removeWorker ends a worker where it is, and has the server forget it. What is named NAME on
// HOST nobody has asked for.
func (h *hosts) removeWorker(ctx context.Context, s *local.Site, id driver.ID) error {
	name, host := id.Name, s.Data()[dataHost]
	worker, at, beside := strings.Cut(id.Name, besideText)
	if beside {
		name, host = worker, at
	}
	if host == "" {
		return nil // it was never begun
	}
	err := h.leave(ctx, s, host, name)
	switch {
	case !errors.Is(err, errForgotten):
		return stays(s, host, err, nil)
	case beside: // the worker itself may be elsewhere
		return nil
	}
	return s.DismissAll(ctx, name)
}

// besideText is between the name of a worker that nobody has asked for and its host.
const besideText = " on "

// errForgotten says that nobody knows the way to a host any more.
var errForgotten = errors.New("the host is not known any more")

// leave ends a worker on a host.
func (h *hosts) leave(ctx context.Context, s *local.Site, host, name string) error {
	record, err := hostRecord(s, host)
	if err != nil {
		return err
	}
	p, n, err := h.lookToEnd(ctx, s, record)
	if err != nil || !n.ours {
		return err
	}
	if _, there := n.units[name]; there {
		err = h.endUnits(ctx, p, n, []string{name})
	}
	if err == nil && n.workers[name] != nil {
		err = s.Dismiss(ctx, *n.workers[name])
	}
	if err == nil {
		_, err = h.run(ctx, p, forgetScript, []string{n.dir, name}, nil)
	}
	return err
}

// moveFrom ends a worker on a host, to be put on another one. On a host that is away it stays,
// and is found when that is back, but the server lets it in no more; one that was cleared or
// forgotten meanwhile has nothing to end.
func (h *hosts) moveFrom(ctx context.Context, s *local.Site, host, name string) error {
	err := h.leave(ctx, s, host, name)
	if away(err) || errors.Is(err, errForgotten) {
		return s.DismissAll(ctx, name)
	}
	return err
}

// hostRecord is what is kept of a host.
func hostRecord(s *local.Site, host string) (*local.Record, error) {
	list, err := s.Records()
	for i := range list {
		if list[i].ID == (driver.ID{Kind: kindHost, Name: host}) {
			return &list[i], nil
		}
	}
	return nil, errors.Join(err, errForgotten)
}
