package container

import (
	"context"
	"errors"
	"sync"
	"time"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/container/inpod"
	"github.com/navvy-run/navvy/runner/driver"
)

// packRun reads the log of a pod that tasks share, once, for some of them, and tells each
// what it has written and how it has ended.
type packRun struct {
	*attempt // of all together: its output are the frames

	cancel context.CancelFunc
	ctx    context.Context //nolint:containedctx // it ends when nobody listens any more

	mu      sync.Mutex
	members map[int64]*member // those that have not ended
	passed  map[int64]bool    // tasks that have begun, as far as the log is read
	next    uint64            // number of the next frame
	gap     bool              // some frames are missing
	done    bool              // the pod has run all of its tasks
	over    bool              // nobody can join any more
	words   string            // the last line that is no frame
}

// member is a task that shares a pod.
type member struct {
	task  driver.Task
	load  inpod.Task
	plan  *plan      // nil without buckets
	log   *bucketLog // nil if no bucket is for it
	run   *packRun   // once there is a Job
	leave func()     // its slot is free; nil for none

	quit      bool   // nobody waits for it any more; of packs.mu, until there is a Job
	elsewhere string // the Job that has it already; set before there is one of its pack

	ended chan struct{} // closed when end and err are set
	end   driver.End
	err   error

	// Of run.mu:
	over    bool
	begun   bool
	broken  bool // some of its frames are missing
	stopped bool // it was asked to end
	parted  bool // a successor has it, or will have
	asked   *inpod.End
}

var _ driver.Execution = (*member)(nil)

func newMember(t *driver.Task) *member {
	return &member{task: *t, ended: make(chan struct{})}
}

// member is a task that shares a pod, with its buckets.
func (s *space) member(t *driver.Task) *member {
	m := newMember(t)
	m.plan, _ = s.driver.plan(t) // a refusal is told by Start
	if m.plan != nil {
		m.log = s.driver.newLog(t)
	}
	return m
}

// newPackRun returns what reads the log of a Job that tasks of a spec share, for none yet.
func (s *space) newPackRun(spec *navvy.Spec, job *batchv1.Job) *packRun {
	shared, c := navvy.Spec{}, navvy.Container{}
	if spec != nil {
		shared, c = *spec, *spec.Container
	}
	c.Buckets = navvy.Buckets{} // the logs are the tasks', not the pod's
	shared.Timeout, shared.Container = 0, &c
	r := &packRun{members: map[int64]*member{}, passed: map[int64]bool{}}
	r.ctx, r.cancel = context.WithCancel(s.driver.ctx)
	t := &driver.Task{
		ID: navvy.TaskID{Job: navvy.JobID(job.Labels[labelJob])}, Token: "Job " + string(job.UID),
		Spec: &shared, Stdout: &inpod.Reader{Frame: r.frame, Other: r.other},
	}
	r.attempt = s.attempt(t, job)
	r.attempt.owns, r.attempt.read = r.ours, r.frames
	return r
}

// frames is how many have come.
func (r *packRun) frames() uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.next
}

// attach has a task read; false if its beginning has passed.
func (r *packRun) attach(m *member) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || r.gap || r.passed[m.task.ID.Index] || r.members[m.task.ID.Index] != nil {
		return false
	}
	m.run = r
	r.members[m.task.ID.Index] = m
	return true
}

// follow reads until all of its tasks have ended.
func (r *packRun) follow() {
	defer r.driver.packs.remove(r)
	defer r.cancel()
	defer r.driver.spaces.forget(r.task.Token)
	end, err := r.attempt.Wait(r.ctx)
	r.conclude(end, err)
}

// frame takes what the pod says of one of its tasks.
func (r *packRun) frame(f inpod.Frame) {
	r.mu.Lock()
	m := r.members[f.Index]
	if f.Seq != r.next {
		r.missedLocked(m)
	}
	r.next = f.Seq + 1
	if m != nil && m.task.Stdout == nil && m.task.Stderr == nil && m.log == nil && f.Kind != inpod.KindBegin && f.Kind != inpod.KindEnd {
		m = nil
	}
	switch f.Kind {
	case inpod.KindBegin:
		r.passed[f.Index] = true
		if m != nil {
			m.begun, m.broken = true, false
		}
	case inpod.KindEnd:
		r.mu.Unlock()
		r.endFrame(m, f.Data)
		return
	case inpod.KindDone:
		r.done = true
	case inpod.KindStdout, inpod.KindStderr:
		r.mu.Unlock()
		m.write(f)
		return
	}
	r.mu.Unlock()
}

// missedLocked notes that frames are missing before one of m, or of nobody here: they may be
// the ends of all that have begun.
func (r *packRun) missedLocked(m *member) {
	r.gap = true
	for _, other := range r.members {
		other.broken = other.broken || other.begun
	}
	if m != nil {
		m.broken = true
	}
}

// write hands on output. The stream may block, and so hold up the log.
func (m *member) write(f inpod.Frame) {
	if m == nil {
		return
	}
	to := m.task.Stdout
	if f.Kind == inpod.KindStderr {
		to = m.task.Stderr
	}
	if to != nil {
		_, _ = to.Write(f.Data) // an error says that nobody wants the rest
	}
	if m.log != nil {
		m.log.add(f.Data)
	}
}

// endFrame ends a task, unless the pod was told to end meanwhile: then why that was decides.
func (r *packRun) endFrame(m *member, data []byte) {
	if m == nil {
		return
	}
	e, err := inpod.ParseEnd(data)
	r.mu.Lock()
	switch {
	case err != nil || m.broken || !m.begun:
		m.broken = true
	case e.Stopped:
		m.asked = e
	default:
		r.mu.Unlock()
		r.finish(m, packedEnd(e), nil)
		return
	}
	r.mu.Unlock()
}

// packedEnd is how a task ended, as navvy in the pod has it.
func packedEnd(e *inpod.End) driver.End {
	end := driver.End{
		Exit: navvy.Exit{Code: e.Code, Signal: e.Signal}, Ran: e.Ran,
		Usage: navvy.Usage{User: e.User, System: e.System, MaxMemory: e.Memory, OOMKills: e.OOM},
	}
	if e.Reason != "" {
		end.Refusal = &driver.Refusal{Reason: e.Reason, Message: navvy.Shorten(e.Message)}
	}
	return end
}

// other takes a line that is no frame: what a runtime, or navvy in the pod, says of its death;
// or a frame that others have written into.
func (r *packRun) other(line []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(line) > 0 {
		r.words = string(line)
	}
}

// finish ends a task. Of several ends the first counts.
func (r *packRun) finish(m *member, end driver.End, err error) {
	r.mu.Lock()
	if m.over {
		r.mu.Unlock()
		return
	}
	m.over = true
	m.end, m.err = end, err
	delete(r.members, m.task.ID.Index)
	idle := len(r.members) == 0
	r.over = r.over || idle
	r.mu.Unlock()
	close(m.ended)
	if m.leave != nil {
		m.leave()
	}
	if idle {
		r.cancel()
	}
}

// Handle implements driver.Execution.
func (m *member) Handle() []byte { return m.run.Handle() }

// Wait implements driver.Execution. The result of one with a bucket waits for its log.
func (m *member) Wait(ctx context.Context) (driver.End, error) {
	defer m.log.close()
	select {
	case <-m.ended:
	case <-ctx.Done():
		m.run.finish(m, driver.End{}, ctx.Err())
		<-m.ended
	}
	m.run.mu.Lock()
	unlogged := m.parted || m.err != nil && !m.begun // it is given back, and has written nothing
	m.run.mu.Unlock()
	if !unlogged && !m.log.keep(ctx, m, m.end, m.err) && m.err == nil && m.run.remains() {
		return driver.End{}, ctx.Err()
	}
	return m.end, m.err
}

// lastWords implements concluding.
func (m *member) lastWords(end driver.End, err error) string {
	if m.wasStopped() {
		return "stopped"
	}
	return why(end, err)
}

// logTime implements concluding. A task's time began when its turn came.
func (m *member) logTime(time.Time) time.Duration {
	if m.wasStopped() {
		return stoppedLog
	}
	most := m.log.plan.opts.patience()
	if t := m.task.Spec.Timeout; t > 0 {
		most = min(most, max(t-logMargin-m.end.Ran, time.Second))
	}
	return most
}

func (m *member) wasStopped() bool {
	m.run.mu.Lock()
	defer m.run.mu.Unlock()
	return m.stopped
}

// Stop implements driver.Execution: it ends the pod. The others in it are given back, unless
// they are asked to end, too. If another navvy has tasks in it by now, the pod is left alone.
func (m *member) Stop(ctx context.Context, force bool) error {
	r := m.run
	r.mu.Lock()
	again := m.stopped && !force
	m.stopped = true
	over := m.over
	r.mu.Unlock()
	if over || again {
		return nil
	}
	job, err := r.space.get(ctx, r.name)
	if err == nil && job.UID == r.uid {
		switch {
		case job.Annotations[taskAnnotation(m.task.ID.Index)] != m.task.Token:
			r.part(m, "another attempt has it in Job "+r.name, true)
			return nil
		case r.driver.packs.othersHave(job):
			return r.yield(ctx, m, force)
		}
	}
	err = r.attempt.halt(ctx, force)
	if errors.Is(err, errOthers) { // since a moment ago
		r.attempt.spare()
		return r.yield(ctx, m, force)
	}
	return err
}

// yield ends the wait for a task in a pod that others go on with. What is to end for good is
// taken off its Job; what is forced may be a lost attempt, and its successor finds it there.
func (r *packRun) yield(ctx context.Context, m *member, force bool) error {
	if !force {
		if err := r.space.takeOff(ctx, r.name, r.uid, []*member{m}); err != nil {
			return err
		}
	}
	r.part(m, "other attempts go on with Job "+r.name, force)
	r.driver.stray()
	return nil
}

// part ends the wait for a task whose pod goes on without it; its log is a successor's affair if
// it has one.
func (r *packRun) part(m *member, why string, succeeded bool) {
	r.mu.Lock()
	m.parted = m.parted || succeeded && !m.over
	r.mu.Unlock()
	r.finish(m, driver.End{Refusal: &driver.Refusal{Reason: navvy.ReasonStopped, Message: why}}, nil)
}

// ours tells whether nobody else has tasks of the Job, and one of those that were asked to end
// is still this navvy's.
func (r *packRun) ours(job *batchv1.Job) bool {
	if r.driver.packs.othersHave(job) {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.over || len(r.members) == 0 {
		return true // it is removed for being lost
	}
	stopped := false
	for index, m := range r.members {
		if m.stopped && job.Annotations[taskAnnotation(index)] == m.task.Token {
			return true
		}
		stopped = stopped || m.stopped
	}
	return !stopped
}

// conclude tells those that have no end of their own what the end of their pod means.
func (r *packRun) conclude(end driver.End, err error) {
	r.mu.Lock()
	r.over = true
	rest := make([]*member, 0, len(r.members))
	for _, m := range r.members {
		rest = append(rest, m)
	}
	fates := make([]fate, len(rest))
	for i, m := range rest {
		fates[i] = r.fateLocked(m, end, err)
	}
	r.mu.Unlock()
	var back []*member
	for i, m := range rest {
		if fates[i].err != nil {
			back = append(back, m)
		}
	}
	if len(back) > 0 && r.driver.ctx.Err() == nil {
		r.giveBack(back)
	}
	for i, m := range rest {
		r.finish(m, fates[i].end, fates[i].err)
	}
}

// givingBack bounds how long it may take to say in the cluster that tasks are given back.
const givingBack = 10 * time.Second

// giveBack takes tasks off their Job, so that nobody looks for them there. If that fails they
// are found there again, and given back again.
func (r *packRun) giveBack(list []*member) {
	ctx, cancel := context.WithTimeout(r.driver.ctx, givingBack)
	defer cancel()
	if err := r.space.takeOff(ctx, r.name, r.uid, list); err != nil {
		r.driver.log.Warn("tasks are not taken off a Job", "job", r.name, "err", err)
	}
	for _, m := range list {
		r.driver.Settled(m.task.Token)
	}
}
