package team

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	domain "github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/server/auth"
)

// team is a server, workers and people, all of them processes.
type team struct {
	*testing.T
	dir    string // all that belongs to it
	traces string // where tasks leave traces
	addr   string // of the server
	beat   time.Duration
	args   []string // of the server, beside the usual
	count  int      // processes so far

	server *proc
	crews  map[string]*crew
	conn   *grpc.ClientConn // the administrator's
	admin  *client.Client
}

// options are what a test wants of its team.
type options struct {
	host   string        // where the server listens. Defaults to an address on loopback of its own
	beat   time.Duration // Defaults to 1 s
	server []string      // further arguments
}

// policyText lets tasks of users see the traces of tests.
const policyText = "roles: {user: {isolate: off}}\n"

// newTeam starts a server, with certificates for ann and bob.
func newTeam(t *testing.T, o options) *team {
	t.Helper()
	m := &team{T: t, beat: o.beat, args: o.server, crews: map[string]*crew{}}
	var err error
	if m.dir, err = os.MkdirTemp("", "navvy-team-"); err != nil { //nolint:usetesting // names of sockets are short, and t.TempDir is not
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			m.tell()
		}
		m.bury()
		_ = os.RemoveAll(m.dir)
	})
	m.traces = m.path("traces")
	m.must(os.Mkdir(m.traces, 0o700))
	m.must(os.WriteFile(m.path("policy.yaml"), []byte(policyText), 0o600))
	if m.beat == 0 {
		m.beat = time.Second
	}
	if o.host == "" { // nobody connects from there: the port stays free when the server is dead
		o.host = fmt.Sprintf("127.%d.%d.%d", 1+rand.IntN(250), rand.IntN(250), 1+rand.IntN(250))
	}
	m.addr = freePort(t, o.host)
	m.begin()
	for _, name := range []string{"ann", "bob"} {
		m.do("cert", nil, "--data", m.path("srv"), "cert", "issue", "--name", name, "--out", m.path(name))
	}
	m.conn, m.admin = m.connect("admin")
	t.Cleanup(func() { _ = m.conn.Close() })
	return m
}

func (m *team) must(err error) {
	m.Helper()
	if err != nil {
		m.Fatal(err)
	}
}

func (m *team) path(name ...string) string {
	return filepath.Join(m.dir, filepath.Join(name...))
}

// freePort finds a port that nobody listens on.
func freePort(t *testing.T, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// tell logs what the processes of a team have said.
func (m *team) tell() {
	logs, _ := filepath.Glob(m.path("*.err")) // the pattern is good
	slices.Sort(logs)
	for _, name := range logs {
		if info, err := os.Stat(name); err == nil && info.Size() > 0 {
			m.Logf("%s:\n%s", filepath.Base(name), tail(name))
		}
	}
}

// begin starts the server, on what an earlier one has kept, and waits until it serves.
func (m *team) begin() {
	m.Helper()
	m.boot()
	m.awaitServer()
}

// boot starts the server.
func (m *team) boot() {
	m.Helper()
	m.server = m.start("server", nil, append([]string{
		"server", "--policy", m.path("policy.yaml"), "--data", m.path("srv"), "--listen", m.addr, "--host", "127.0.0.1",
		"--http", "", "--heartbeat", m.beat.String(),
	}, m.args...)...)
}

// awaitServer waits until the server serves.
func (m *team) awaitServer() {
	m.Helper()
	eventually(m, "the server serves", func() bool {
		select {
		case <-m.server.over:
			m.Fatalf("the server ends: %s", tail(m.server.err))
		default:
		}
		out, err := os.ReadFile(m.server.out)
		return err == nil && bytes.Contains(out, []byte("gRPC with certificates"))
	})
	if m.admin != nil {
		eventually(m, "the server answers", func() bool {
			_, err := m.admin.Whoami(m.Context())
			return err == nil
		})
	}
}

// as is the environment of somebody who calls the server.
func (m *team) as(name string) []string {
	dir := m.path(name)
	if name == "admin" {
		dir = m.path("srv/clients")
	}
	return []string{
		"NAVVY_SERVER=" + m.addr, "NAVVY_CA=" + m.path("srv/ca/ca.crt"),
		"NAVVY_CERT=" + filepath.Join(dir, name+".crt"), "NAVVY_KEY=" + filepath.Join(dir, name+".key"),
	}
}

// connect makes a connection of the administrator's.
func (m *team) connect(name string) (*grpc.ClientConn, *client.Client) {
	m.Helper()
	pair, err := auth.LoadPair(m.path("srv/clients", name+".crt"), m.path("srv/clients", name+".key"))
	m.must(err)
	pool, err := auth.LoadPool(m.path("srv/ca/ca.crt"))
	m.must(err)
	conn, _, err := client.Dial(m.Context(), m.addr, auth.ClientTLS(auth.Fixed(pair), pool))
	m.must(err)
	return conn, client.New(conn)
}

// crew is a worker, which may die and begin again on its directory.
type crew struct {
	*proc
	name string // as the server has it
	dir  string
	by   []string // runs it
	args []string
}

// hire lets a worker join at an address, and waits until it is connected.
func (m *team) hire(name, addr string, slots int, args ...string) *crew {
	m.Helper()
	return m.hireBy(nil, name, addr, slots, args...)
}

func (m *team) hireBy(by []string, name, addr string, slots int, args ...string) *crew {
	m.Helper()
	token := m.do("token", nil, "--data", m.path("srv"), "token", "create")
	m.must(os.WriteFile(m.path(name+".token"), []byte(token), 0o600))
	c := &crew{dir: m.path(name), by: by}
	c.args = append([]string{
		"worker", "start", "--join", addr, "--token-file", m.path(name + ".token"), "--name", name, "--data", c.dir, "-j", fmt.Sprint(slots),
	}, args...)
	m.work(c)
	awaitText(m, c.err, "connected to the server", 1)
	for _, w := range m.fleet() {
		if strings.HasPrefix(w.Name, name+"-") {
			c.name = w.Name
		}
	}
	m.crews[name] = c
	return c
}

// work starts a worker, on what an earlier one has kept.
func (m *team) work(c *crew) {
	m.Helper()
	c.proc = m.startIn(slices.Clone(c.by), filepath.Base(c.dir), nil, c.args...)
}

// fleet are the workers that the server knows.
func (m *team) fleet() []client.FleetWorker {
	m.Helper()
	list, err := m.admin.Fleet(m.Context())
	m.must(err)
	return list
}

// submit hands in a job of somebody, with so many inputs, and gives its id.
func (m *team) submit(name string, inputs int, flags []string, command ...string) domain.JobID {
	m.Helper()
	args := append(append([]string{"map", "-d", "--env", taskDir + "=" + m.traces}, flags...), "--")
	args = append(append(args, command...), ":::")
	for n := range inputs {
		args = append(args, fmt.Sprint(n))
	}
	return domain.JobID(strings.TrimSpace(m.do("submit", m.as(name), args...)))
}

// shell hands in a job of ann's that is a shell script.
func (m *team) shell(inputs int, script string) domain.JobID {
	m.Helper()
	return m.submit("ann", inputs, nil, "/bin/sh", "-c", script)
}

// await waits until a job stands as it should, for a server that is there.
func (m *team) await(id domain.JobID, what string, ok func(domain.Counts) bool) {
	m.Helper()
	eventually(m, what, func() bool {
		j, err := m.admin.Get(m.Context(), id)
		m.must(err)
		return ok(j.Status.Counts)
	})
}

// results waits for the end of a job, and gives its results in order.
func (m *team) results(id domain.JobID) (results []domain.Result) {
	m.Helper()
	m.await(id, "all is answered", func(c domain.Counts) bool { return c.Queued+c.Running == 0 })
	for a, err := range m.admin.Results(m.Context(), id, client.ResultsOptions{}) {
		m.must(err)
		results = append(results, a.Result)
	}
	return results
}

// task is all there is to know about a task.
func (m *team) task(id domain.JobID, index int64) client.Task {
	m.Helper()
	task, err := m.admin.Task(m.Context(), domain.TaskID{Job: id, Index: index})
	m.must(err)
	return task
}

// entries are the names in a directory.
func entries(t testing.TB, dir string) (names []string) {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// awaitClean waits until a worker has nothing in its place.
func (m *team) awaitClean(c *crew) {
	m.Helper()
	for _, name := range []string{"work", "spool"} {
		eventually(m, c.dir+": "+name+" is empty", func() bool { return len(entries(m, filepath.Join(c.dir, "worker", name))) == 0 })
	}
}

// dismiss ends a worker in peace.
func (m *team) dismiss(c *crew) {
	m.Helper()
	c.signal(unix.SIGTERM)
	if code := m.awaitEnd(c.proc); code != 0 {
		m.Errorf("%s ends with exit code %d: %s", c.name, code, tail(c.err))
	}
}

// finish brings back the workers that have died, lets all of them clean up, and ends.
func (m *team) finish() {
	m.Helper()
	for _, c := range m.crews {
		if c.died() {
			m.work(c)
		}
	}
	for _, c := range m.crews {
		if !c.ended() {
			awaitText(m, c.err, "connected to the server", 1)
			m.awaitClean(c)
		}
	}
	m.end()
}

// end ends the workers and the server in peace, reads all that it has kept, and sees
// that nothing is left.
func (m *team) end() {
	m.Helper()
	for _, c := range m.crews {
		if c.ended() {
			continue
		}
		awaitText(m, c.err, "connected to the server", 1)
		m.dismiss(c)
		m.awaitClean(c)
	}
	m.server.signal(unix.SIGTERM)
	if code := m.awaitEnd(m.server); code != 0 {
		m.Errorf("the server ends with exit code %d", code)
	}
	m.do("verify", nil, "--data", m.path("srv"), "verify")
	m.checkGone()
}
