package server

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
)

// What whoever submitted a job had copied for it, and what its tasks have left for them,
// goes with the job: when it is removed, or has expired.

// dropAllCopied removes what was copied for jobs that are gone. What cannot be removed stays
// registered, until this is called again.
func (s *Server) dropAllCopied(ctx context.Context) {
	err := s.eachCopied(ctx, func(e *engine.Entry) {
		if err := s.dropEntry(ctx, e); err != nil && ctx.Err() == nil {
			s.opts.Logger.Warn("what was copied for a job that is gone is removed later", "job", e.Name, "error", err)
		}
	})
	if err != nil && ctx.Err() == nil {
		s.opts.Logger.Warn("what was copied for jobs that are gone is removed later", "error", err)
	}
}

func (s *Server) eachCopied(ctx context.Context, fn func(*engine.Entry)) error {
	for after := ""; ; {
		list, next, err := s.eng.Registry().List(ctx, engine.KindCopied, "", after, registryPage)
		if err != nil {
			return err
		}
		for i := range list {
			fn(&list[i])
		}
		if next == "" || ctx.Err() != nil {
			return nil
		}
		after = next
	}
}

// dropCopied removes what was copied for one job, if it is gone.
func (s *Server) dropCopied(ctx context.Context, id string) error {
	if s.opts.Files == nil {
		return nil
	}
	entry, err := s.eng.Registry().Get(ctx, engine.KindCopied, id)
	if errors.Is(err, navvy.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	return s.dropEntry(ctx, &entry)
}

func (s *Server) dropEntry(ctx context.Context, entry *engine.Entry) error {
	c, err := decodeRecord[engine.Copied](entry)
	if err != nil {
		return err
	}
	stage := navvy.Stage{Transfer: c.Transfer}
	folder := OwnerFolder(c.Owner) + "/"
	for _, sub := range []string{stage.TransferFolder(), stage.ReturnFolder()} {
		var names []string // what is listed is not what is removed meanwhile
		for f, err := range s.opts.Files.List(ctx, folder+sub) {
			if err != nil {
				return err
			}
			names = append(names, strings.TrimPrefix(f.Key, folder))
		}
		for _, name := range names {
			if err := s.opts.Files.Remove(ctx, folder+name); err != nil && !errors.Is(err, navvy.ErrNotFound) {
				return fmt.Errorf("remove what was copied for job %s: %w", entry.Name, err)
			}
			s.forgetFile(ctx, c.Owner, name)
		}
	}
	return c.Forget(ctx, s.eng.Registry(), navvy.JobID(entry.Name))
}
