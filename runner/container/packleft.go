package container

import (
	"context"
	"sync"

	batchv1 "k8s.io/api/batch/v1"

	"github.com/navvy-run/navvy/runner/driver"
)

// leftMember is a task that shares a pod, of an attempt of an earlier process, which is only
// to be ended. Its pod's log is read once somebody wants its end: it may be only looked at.
type leftMember struct {
	space *space
	task  driver.Task
	job   *batchv1.Job

	mu     sync.Mutex
	joined *member // nil before
}

var _ driver.Execution = (*leftMember)(nil)

// recoverPacked takes hold of a task in a Job that was seen.
func (s *space) recoverPacked(t *driver.Task, job *batchv1.Job) driver.Execution {
	if t.Spec == nil {
		return &leftMember{space: s, task: *t, job: job}
	}
	return s.joinRun(s.member(t), job)
}

func (l *leftMember) join() *member {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.joined == nil {
		l.joined = l.space.joinRun(newMember(&l.task), l.job)
	}
	return l.joined
}

// Handle implements driver.Execution.
func (l *leftMember) Handle() []byte {
	a := attempt{space: l.space, name: l.job.Name, uid: l.job.UID}
	return a.Handle()
}

// Wait implements driver.Execution.
func (l *leftMember) Wait(ctx context.Context) (driver.End, error) { return l.join().Wait(ctx) }

// Stop implements driver.Execution. A pod in which others have tasks by now goes on.
func (l *leftMember) Stop(ctx context.Context, force bool) error { return l.join().Stop(ctx, force) }
