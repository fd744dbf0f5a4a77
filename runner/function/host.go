package function

import (
	"bytes"
	"context"
	_ "embed" // of the host
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
	"github.com/navvy-run/navvy/runner/process"
)

//go:embed host.py
var hostText string

// bytecodeText looks for code of other Pythons in pickles. The SDK has the same.
//
//go:embed bytecode.py
var bytecodeText string

// hostScript is what a host is sent: one module.
var hostScript = []byte(hostText + "\n\n" + bytecodeText)

// bootstrap reads the host from descriptor 0 and runs it as a module of its own: what
// functions find as __main__ stays empty, and nothing is written to a disk.
const bootstrap = `exec("""
import _socket, os, sys, types
def read(size, whole):
    while len(whole) < size:
        part = os.read(0, size - len(whole))
        if not part:
            os._exit(0)
        whole += part
    return whole
connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM, 0, 0)
head, beside, _, _ = connection.recvmsg(5, 64)
connection.detach()
script = read(int.from_bytes(read(5, head)[:4], "little"), b"")
host = sys.modules["navvy_host"] = types.ModuleType("navvy_host")
exec(compile(script, "<navvy host>", "exec"), host.__dict__)
host.main(int.from_bytes(beside[0][2][:4], sys.byteorder))
""", {"__name__": "navvy_boot"})`

// maxLoaded is how many functions a host keeps loaded.
const maxLoaded = 64

// Bounds of what a host may have grown to: so many times what it began with, and so
// much more; or a share of its limit.
const (
	growthFactor = 4
	growthSlack  = 512 << 20
)

// host is a Python process that serves one owner, one call at a time.
type host struct {
	driver *Driver
	owner  string
	key    string
	limit  int64    // of memory; 0 for none
	path   []string // of its calls: where modules are, before all others
	proc   *process.Servant
	socket *os.File
	life   [2]*os.File // a socket of which the host has the other end: it dies with ours
	out    [2]*stream
	boot   words // what it wrote before it was ready
	in     *incoming
	since  time.Time // idle; the pool's

	ready chan error    // takes one: whether it came up
	dead  chan struct{} // closed when nothing of it is left
	end   driver.End    // then
	lost  error         // then: how it ended is not known

	doomed atomic.Bool // it is being ended, and serves no further call

	mu     sync.Mutex
	now    *call  // whom it serves
	over   bool   // it serves nobody any more
	broken string // why we ended it, if it had not ended by itself

	// Of whoever serves a call with it. The answer may be there before begin has returned:
	// it is held until then.
	sending sync.Mutex
	loaded  []string // ids of functions, the one called last at the end
	out1    []byte   // frames that are being sent
	calls   int
	first   measured
	last    measured
}

// words keeps the beginning of what is written to it.
type words struct {
	mu sync.Mutex
	b  []byte
}

// Write implements io.Writer.
func (w *words) Write(p []byte) (int, error) {
	const enough = 16 << 10
	w.mu.Lock()
	defer w.mu.Unlock()
	w.b = append(w.b, p[:min(len(p), enough-len(w.b))]...)
	return len(p), nil
}

// lastLine is what a program that fails says last.
func (w *words) lastLine() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	lines := bytes.Split(bytes.TrimSpace(w.b), []byte("\n"))
	return strings.ToValidUTF8(string(lines[len(lines)-1]), "?")
}

// start starts the process, with what reads and waits for it.
func (h *host) start(t *driver.Task) (err error) {
	var theirs *os.File
	if h.socket, theirs, err = sockets(); err != nil {
		return err
	}
	ours, given := []*os.File{h.socket}, []*os.File{theirs}
	if h.life[0], h.life[1], err = sockets(); err != nil {
		closeFiles(append(ours, given...))
		return err
	}
	ours = append(ours, h.life[0], h.life[1])
	for i := range h.out {
		s, other, err := newStream(&h.boot)
		if err != nil {
			closeFiles(append(ours, given...))
			return err
		}
		h.out[i] = s
		ours, given = append(ours, s.file), append(given, other)
	}
	h.proc, err = h.driver.opts.Processes.Serve(h.driver.servant(t), h.driver.sees(t), func(c *process.Config) {
		c.Stdin, c.Files = theirs, [2]*os.File{given[1], given[2]}
	})
	closeFiles(given)
	if err != nil {
		closeFiles(ours)
		return h.refused(err)
	}
	h.in = newIncoming(connection{h.socket})
	h.driver.pool.born(h)
	var reading sync.WaitGroup
	for _, s := range h.out {
		reading.Go(s.copy)
	}
	go h.await(&reading)
	return nil
}

// connection is the end of a socket whose other end may have been left with something
// unread in it: that is its end, too.
type connection struct{ *os.File }

// Read implements io.Reader.
func (c connection) Read(p []byte) (int, error) {
	n, err := c.File.Read(p)
	if errors.Is(err, unix.ECONNRESET) {
		err = io.EOF
	}
	return n, err
}

// sockets makes a pair: ours does not block, the other does.
func sockets() (ours, other *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("function: open a socket: %w", err)
	}
	_ = unix.SetNonblock(fds[0], true) // it is a socket
	return os.NewFile(uintptr(fds[0]), "socket"), os.NewFile(uintptr(fds[1]), "socket"), nil
}

// refused tells whose fault it is that a process cannot start: that there is no such
// program is the worker's, and the call may be made elsewhere.
func (h *host) refused(err error) error {
	refusal, ok := errors.AsType[*driver.Refusal](err)
	if ok && (refusal.Reason == navvy.ReasonNotFound || refusal.Reason == navvy.ReasonPermission) {
		return fmt.Errorf("function: start %s: %s; --python names another: %w", h.driver.opts.Python, refusal.Message, navvy.ErrUnavailable)
	}
	return err
}

func closeFiles(files []*os.File) {
	for _, f := range files {
		_ = f.Close()
	}
}

// await waits for the end of the process.
func (h *host) await(reading *sync.WaitGroup) {
	defer h.driver.pool.all.Done()
	h.end, h.lost = h.proc.Wait(context.Background())
	h.doomed.Store(true)
	for _, s := range h.out {
		s.turn(nil) // what is in there is the last that it wrote, whoever else has the pipe
		_ = s.file.Close()
	}
	reading.Wait()
	_ = h.life[0].Close()
	h.shut()
	close(h.dead)
}

// shut makes who reads from the socket come to its end, behind what is in there.
func (h *host) shut() {
	if raw, err := h.socket.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { _ = unix.Shutdown(int(fd), unix.SHUT_RD) })
	}
}

// kill ends the process with all that it has started. It does not wait for that.
func (h *host) kill() {
	h.doomed.Store(true)
	if err := h.proc.Stop(context.Background(), true); err != nil {
		h.driver.log.Warn("a Python process cannot be ended", "pid", h.proc.Pid(), "err", err)
	}
}

// parting is how long a process may take to end whose connection has ended.
const parting = 2 * time.Second

// serve reads what the host sends, until it is gone.
func (h *host) serve() {
	defer h.driver.pool.all.Done()
	defer h.socket.Close()
	err := h.greet()
	h.ready <- err
	for err == nil {
		var r result
		if r, err = h.in.answer(h.value); err == nil {
			h.finish(&r)
		}
	}
	if !errors.Is(err, io.EOF) {
		h.breakOff(err.Error())
	}
	timer := time.AfterFunc(parting, func() { h.breakOff("it closed its connection to navvy") })
	<-h.dead
	timer.Stop()
	h.driver.pool.gone(h)
	h.mu.Lock()
	c := h.now
	h.now, h.over = nil, true
	h.mu.Unlock()
	if c != nil {
		h.driver.pool.give(h, false)
		c.finish(h.death())
	}
}

// breakOff ends a host that does what no host does.
func (h *host) breakOff(why string) {
	h.mu.Lock()
	if !h.doomed.Load() {
		h.broken = why
	}
	h.mu.Unlock()
	h.kill()
}

// greet gives the host its orders and hears that it is ready.
func (h *host) greet() error {
	about, err := json.Marshal(setup{Path: append(append([]string{}, h.path...), h.driver.opts.Path...)})
	if err != nil {
		return fmt.Errorf("function: %w", err)
	}
	frames := appendFrame(appendFrame(nil, frameScript, hostScript), frameSetup, about)
	if err := h.handLifeline(frames[:1]); err != nil {
		return errors.Join(io.EOF, err)
	}
	if _, err := h.socket.Write(frames[1:]); err != nil {
		return errors.Join(io.EOF, err)
	}
	hello, err := h.in.hello()
	h.first, h.last = hello.measured, hello.measured
	return err
}

// handLifeline sends the host its end of the lifeline, beside the first byte of all.
func (h *host) handLifeline(first []byte) error {
	raw, err := h.socket.SyscallConn()
	if err != nil {
		return err
	}
	rights := unix.UnixRights(int(h.life[1].Fd()))
	sendErr := raw.Control(func(fd uintptr) { err = unix.Sendmsg(int(fd), first, rights, nil, 0) })
	return errors.Join(sendErr, err, h.life[1].Close())
}

// value is where the value of the present call goes.
func (h *host) value() io.Writer {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.now == nil {
		return nil
	}
	return h.now.task.Value
}

// has tells whether a function is loaded. Only while the host serves nobody, or whoever asks.
func (h *host) has(id string) bool { return slices.Contains(h.loaded, id) }

// errGone says that a host ended before a call was sent to it.
var errGone = errors.New("function: the host is gone")

// begin sends a call. After an error other than errGone the call ends with its host.
func (h *host) begin(ctx context.Context, c *call, f *navvy.FunctionVersion) error {
	h.sending.Lock()
	defer h.sending.Unlock()
	h.calls++
	h.out[0].turn(c.task.Stdout)
	h.out[1].turn(c.task.Stderr)
	h.mu.Lock()
	if h.over {
		h.mu.Unlock()
		return errGone
	}
	h.now = c
	h.mu.Unlock()
	frames, err := h.loading(h.out1[:0], f)
	if err != nil {
		return err
	}
	input := c.task.Input
	frames = appendCall(frames, f.ID, c.task.Spec.Function, environment(&c.task), len(input))
	const small = 32 << 10 // fits into the socket, also if it is not read
	if len(input) <= small && len(frames) <= 2*small {
		frames, input = append(frames, input...), nil
	} else {
		defer context.AfterFunc(ctx, h.kill)()
	}
	h.out1 = frames
	_, err = h.socket.Write(frames)
	if err == nil && len(input) > 0 {
		_, err = h.socket.Write(input)
	}
	if cap(h.out1) > 4*small {
		h.out1 = nil
	}
	return err
}

// loading appends the frame that loads a function, unless it is loaded.
func (h *host) loading(to []byte, f *navvy.FunctionVersion) ([]byte, error) {
	if n := len(h.loaded); n > 0 && h.loaded[n-1] == f.ID {
		return to, nil
	}
	if i := slices.Index(h.loaded, f.ID); i >= 0 {
		h.loaded = append(slices.Delete(h.loaded, i, i+1), f.ID)
		return to, nil
	}
	forget := ""
	if len(h.loaded) >= maxLoaded {
		forget = h.loaded[0]
		h.loaded = slices.Delete(h.loaded, 0, 1)
	}
	h.loaded = append(h.loaded, f.ID)
	return appendLoad(to, f, forget)
}

// finish ends the present call as its result says.
func (h *host) finish(r *result) {
	h.sending.Lock()
	defer h.sending.Unlock()
	// The host has flushed before it sent this: all of the call is in the pipes.
	h.out[0].turn(nil)
	h.out[1].turn(nil)
	h.mu.Lock()
	c := h.now
	h.now = nil
	h.mu.Unlock()
	if c == nil {
		h.breakOff("it answered without a call")
		return
	}
	end := driver.End{Usage: r.since(h.last), Refusal: refusalOf(r)}
	h.last = r.measured
	h.driver.pool.give(h, h.calls < h.driver.opts.Calls && !h.grown())
	c.finish(end, nil)
}

// refusalOf is what a result means; nil if the call succeeded.
func refusalOf(r *result) *driver.Refusal {
	message := navvy.Shorten(strings.ToValidUTF8(r.message, "?"))
	switch r.status {
	case statusException:
		return &driver.Refusal{Reason: navvy.ReasonException, Message: message}
	case statusLoadFailed:
		return &driver.Refusal{Reason: navvy.ReasonStart, Message: message}
	case statusBadInput:
		return &driver.Refusal{Reason: navvy.ReasonInput, Message: message}
	case statusOK:
	}
	return nil
}

// grown tells whether the host holds so much memory that a new one is better.
func (h *host) grown() bool {
	return h.last.Memory > growthFactor*h.first.Memory+growthSlack || h.limit > 0 && h.last.Memory > h.limit/10*8
}

// death is the end of a call whose host died.
func (h *host) death() (driver.End, error) {
	if h.lost != nil {
		return driver.End{}, h.lost
	}
	end := h.end
	end.Usage.User = max(end.Usage.User-time.Duration(h.last.User)*time.Microsecond, 0)
	end.Usage.System = max(end.Usage.System-time.Duration(h.last.System)*time.Microsecond, 0)
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.broken != "" && end.Exit.Signal == int(unix.SIGKILL):
		end.Refusal = &driver.Refusal{Reason: navvy.ReasonExit, Message: "worker process was ended: " + h.broken}
	case end.Exit == navvy.Exit{}:
		end.Refusal = &driver.Refusal{Reason: navvy.ReasonExit, Message: died(&end.Exit)} // which is no success
	}
	return end, nil
}
