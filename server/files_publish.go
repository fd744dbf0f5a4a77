package server

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/manager"
)

// What attempts have made lies apart until one of them is its task's result: that alone
// decides, so that there is nothing to remember, and nothing that a crash could part. Its
// files are then given their names, each at once. Whoever asks for files of the owner
// waits for that: what a result promises is there.

// publishing knows the attempts whose files are not published.
type publishing struct {
	mu      sync.Mutex
	waiting map[manager.Ref]*attemptFiles
	added   chan struct{} // there is one that nobody follows yet
}

// attemptFiles are the files of an attempt.
type attemptFiles struct {
	owner    string
	ref      manager.Ref
	followed bool
	mu       sync.Mutex // held by who looks whether they are to be published
	over     bool       // they are, or they are gone
}

// folder is where they lie: attempts/OWNER/JOB/INDEX/ATTEMPT, and then their names.
func (a *attemptFiles) folder() string {
	return attemptsFolder + strings.TrimPrefix(OwnerFolder(a.owner), filesFolder) + "/" +
		string(a.ref.Task.Job) + "/" + strconv.FormatInt(a.ref.Task.Index, 10) + "/" + a.ref.Attempt.String()
}

// parseAttemptFolder reads what folder gave, with a name behind it.
func parseAttemptFolder(key string) (owner string, ref manager.Ref, ok bool) {
	parts := strings.SplitN(strings.TrimPrefix(key, attemptsFolder), "/", 5)
	if len(parts) < 5 {
		return "", ref, false
	}
	index, err := strconv.ParseInt(parts[2], 10, 64)
	attempt, err2 := navvy.ParseAttemptID(parts[3])
	owner, err3 := url.PathUnescape(parts[0])
	return owner, manager.Ref{Task: navvy.TaskID{Job: navvy.JobID(parts[1]), Index: index}, Attempt: attempt}, errors.Join(err, err2, err3) == nil
}

// await notes that an attempt has files, before the first of them comes.
func (s *Server) await(owner string, attempt *navvyv1.AttemptRef) *attemptFiles {
	var ref manager.Ref
	ref.Task, ref.Attempt = api.ToRef(attempt)
	return s.awaitRef(owner, ref)
}

func (s *Server) awaitRef(owner string, ref manager.Ref) *attemptFiles {
	p := &s.publishing
	p.mu.Lock()
	defer p.mu.Unlock()
	a := p.waiting[ref]
	if a == nil {
		a = &attemptFiles{owner: owner, ref: ref}
		p.waiting[ref] = a
		select {
		case p.added <- struct{}{}:
		default:
		}
	}
	return a
}

// list gives those that are known, of one owner or, if it is empty, of all.
func (p *publishing) list(owner string) []*attemptFiles {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*attemptFiles
	for _, a := range p.waiting {
		if owner == "" || a.owner == owner {
			list = append(list, a)
		}
	}
	return list
}

// publishOf publishes what attempts of an owner have made that are results.
func (s *Server) publishOf(ctx context.Context, owner string) error {
	for _, a := range s.publishing.list(owner) {
		if _, err := s.publish(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// publish publishes the files of an attempt if it is its task's result, and removes them
// if it cannot become that any more; over tells whether one of both is done.
func (s *Server) publish(ctx context.Context, a *attemptFiles) (over bool, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.over {
		return true, nil
	}
	won, decided, err := s.decided(ctx, &a.ref)
	if err != nil || !decided {
		return false, err
	}
	folder := a.folder() + "/"
	for f, err := range s.opts.Files.List(ctx, folder) {
		if err != nil {
			return false, err
		}
		if won {
			err = s.publishFile(ctx, a, f.Key, strings.TrimPrefix(f.Key, folder))
		} else {
			err = s.opts.Files.Remove(ctx, f.Key)
		}
		if err != nil && !errors.Is(err, navvy.ErrNotFound) {
			return false, fmt.Errorf("publish the files of task %s: %w", a.ref.Task, err)
		}
	}
	a.over = true
	s.publishing.mu.Lock()
	delete(s.publishing.waiting, a.ref)
	s.publishing.mu.Unlock()
	return true, nil
}

// publishFile gives a file its name. If that cannot be, as it would be in a folder that is a
// file, say, it gets one below the job and the task, which only this task's files have:
// nothing is lost, and no other file waits for it.
func (s *Server) publishFile(ctx context.Context, a *attemptFiles, key, name string) error {
	err := s.opts.Files.Move(ctx, key, OwnerFolder(a.owner)+"/"+name)
	if !errors.Is(err, navvy.ErrConflict) && !errors.Is(err, navvy.ErrInvalid) {
		return err
	}
	other := string(a.ref.Task.Job) + "/" + strconv.FormatInt(a.ref.Task.Index, 10) + "/" + name
	s.opts.Logger.Warn("a file of a task cannot have its name, and gets another", "task", a.ref.Task, "name", name, "other", other, "error", err)
	return s.opts.Files.Move(ctx, key, OwnerFolder(a.owner)+"/"+other)
}

// decided tells whether an attempt is its task's result, and whether that is decided.
func (s *Server) decided(ctx context.Context, ref *manager.Ref) (won, decided bool, err error) {
	// First the job, then the result: a job that has ended gets no more results, while one
	// that goes on may get this one between both looks.
	st, err := s.mgr.Status(ctx, ref.Task.Job)
	if errors.Is(err, navvy.ErrNotFound) {
		return false, true, nil // it was removed
	} else if err != nil {
		return false, false, err
	}
	res, err := s.eng.Result(ctx, ref.Task)
	switch {
	case errors.Is(err, navvy.ErrNotFound):
		return false, !st.Finished.IsZero(), nil // it was stopped
	case err != nil:
		return false, false, err
	}
	return res.ID == ref.Attempt && res.State == navvy.Succeeded, true, nil
}

// LoadFiles finds the files of attempts that an earlier server has kept, and publishes
// those of results.
func (s *Server) LoadFiles(ctx context.Context) error {
	if s.opts.Files == nil {
		return nil
	}
	for f, err := range s.opts.Files.List(ctx, attemptsFolder) {
		if err != nil {
			return fmt.Errorf("look for files of attempts: %w", err)
		}
		if owner, ref, ok := parseAttemptFolder(f.Key); ok {
			s.awaitRef(owner, ref)
		}
	}
	return s.publishOf(ctx, "")
}

// FlushFiles publishes now what attempts have made that are results.
func (s *Server) FlushFiles(ctx context.Context) error { return s.publishOf(ctx, "") }

// How often files of attempts are looked for that nobody knows of, and how long to wait
// before another try to publish.
const (
	lookForFiles = time.Hour
	publishAgain = 5 * time.Second
)

// PublishFiles publishes what attempts have made, as they become results, until ctx ends.
func (s *Server) PublishFiles(ctx context.Context) error {
	if s.opts.Files == nil {
		<-ctx.Done()
		return context.Cause(ctx)
	}
	var following errgroup.Group
	defer func() { _ = following.Wait() }()
	tick := time.NewTicker(lookForFiles)
	defer tick.Stop()
	following.Go(func() error { s.dropAllCopied(ctx); return nil })
	for {
		for _, a := range s.publishing.follow() {
			following.Go(func() error { s.follow(ctx, a); return nil })
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.publishing.added:
		case <-tick.C:
			if err := s.LoadFiles(ctx); err != nil && ctx.Err() == nil {
				s.opts.Logger.Warn("files of attempts could not be looked for", "error", err)
			}
			following.Go(func() error { s.dropAllCopied(ctx); return nil })
		}
	}
}

// follow gives those that nobody follows yet: the caller does from now on.
func (p *publishing) follow() []*attemptFiles {
	p.mu.Lock()
	defer p.mu.Unlock()
	var list []*attemptFiles
	for _, a := range p.waiting {
		if !a.followed {
			a.followed = true
			list = append(list, a)
		}
	}
	return list
}

// follow waits until it is decided what becomes of an attempt's files.
func (s *Server) follow(ctx context.Context, a *attemptFiles) {
	for {
		changed := s.mgr.Changes(a.ref.Task.Job)
		over, err := s.publish(ctx, a)
		if over || ctx.Err() != nil {
			return
		}
		var again <-chan time.Time
		if err != nil {
			s.opts.Logger.Warn("files of an attempt are published later", "task", a.ref.Task, "error", err)
			again, changed = time.After(publishAgain), nil
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-again:
		}
	}
}
