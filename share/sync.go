package share

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/navvy-run/navvy"
)

// SyncOptions are how two trees are made alike. The zero value is the default.
type SyncOptions struct {
	// Delete removes what the source does not have, when all else is done. Defaults to
	// false: it stays.
	Delete bool
	// SkipSpecial leaves out what is no regular file, symbolic links above all, and tells
	// Skipped. Defaults to false: nothing is done if there is one, and the error is a
	// *NotRegular.
	SkipSpecial bool
	// Skipped is told of what is left out. Defaults to none.
	Skipped func(*NotRegular)
	// Planned is told what will be done, before it is. Defaults to none.
	Planned func(*Plan)
	// DryRun does nothing after Planned. Defaults to false.
	DryRun bool
	// Parallel is how many files are copied at once. Defaults to 4.
	Parallel int
	// Progress is told of bytes that were copied, and of files that are done, from
	// several goroutines at once. Defaults to none.
	Progress func(bytes, files int64)
}

// Plan is what a Sync does.
type Plan struct {
	Copy   []File // new or different, as the source has them
	Remove []File // as the destination has them
	Same   int64  // how many files are alike
	Bytes  int64  // to copy
}

const defaultParallel = 4

// Sync makes the files of to like those of from, of which at least one is a folder in a
// share. A file is copied if it is not there, has another size, or another checksum; one
// without a checksum in a share is copied. Each is copied whole or not at all, and an error
// ends it between files: what was copied stays, and a second Sync goes on from there.
func Sync(ctx context.Context, from, to Tree, o *SyncOptions) (*Plan, error) {
	if o == nil {
		o = &SyncOptions{}
	}
	p := &planner{from: from, to: to, o: o}
	plan, err := p.plan(ctx)
	if err != nil {
		return nil, err
	}
	if len(plan.Remove) > 0 && plan.Same == 0 && len(plan.Copy) == 0 {
		return nil, fmt.Errorf("sync: there is nothing in %s, and all of %s would be removed: %w", from, to, navvy.ErrInvalid)
	}
	if o.Planned != nil {
		o.Planned(plan)
	}
	if o.DryRun {
		return plan, nil
	}
	return plan, p.do(ctx, plan)
}

// planner compares two trees.
type planner struct {
	from, to Tree
	o        *SyncOptions
	special  *NotRegular // the first that was met
}

// next gives the next file of a tree, past what is none: of the source's special files
// the options say what becomes.
func (p *planner) next(pull func() (File, error, bool), source bool) (*File, error) {
	for {
		f, err, ok := pull()
		if !ok {
			return nil, nil //nolint:nilnil // the end
		}
		special, is := errors.AsType[*NotRegular](err)
		switch {
		case is && source && p.o.SkipSpecial:
			if p.o.Skipped != nil {
				p.o.Skipped(special)
			}
		case is && source:
			if p.special == nil {
				p.special = special
			}
		case is: // what others keep beside the files of the destination is theirs
		case err != nil:
			return nil, err
		default:
			return &f, nil
		}
	}
}

// plan goes through both trees at once, in the order of keys.
func (p *planner) plan(ctx context.Context) (*Plan, error) {
	left, stopLeft := iter.Pull2(p.from.files(ctx))
	defer stopLeft()
	right, stopRight := iter.Pull2(p.to.files(ctx))
	defer stopRight()
	plan := &Plan{}
	x, errX := p.next(left, true)
	y, errY := p.next(right, false)
	for x != nil || y != nil {
		if err := errors.Join(errX, errY); err != nil {
			return nil, err
		}
		switch {
		case y == nil || x != nil && x.Key < y.Key:
			plan.copy(x)
			x, errX = p.next(left, true)
		case x == nil || y.Key < x.Key:
			if p.o.Delete {
				plan.Remove = append(plan.Remove, *y)
			}
			y, errY = p.next(right, false)
		default:
			same, err := p.same(ctx, x, y)
			if err != nil {
				return nil, err
			}
			if same {
				plan.Same++
			} else {
				plan.copy(x)
			}
			x, errX = p.next(left, true)
			y, errY = p.next(right, false)
		}
	}
	if p.special != nil {
		return nil, p.special
	}
	return plan, errors.Join(errX, errY)
}

func (p *Plan) copy(f *File) {
	p.Copy = append(p.Copy, *f)
	p.Bytes += f.Size
}

// same tells whether two files hold the same.
func (p *planner) same(ctx context.Context, x, y *File) (bool, error) {
	if x.Size != y.Size {
		return false, nil
	}
	// What a share notes costs a question, what a directory holds a reading: ask first.
	trees, files := []Tree{p.from, p.to}, []*File{x, y}
	if _, dir := p.from.(*dirTree); dir {
		trees, files = []Tree{p.to, p.from}, []*File{y, x}
	}
	first, err := trees[0].sum(ctx, *files[0])
	if err != nil || first == "" {
		return false, err
	}
	second, err := trees[1].sum(ctx, *files[1])
	return first == second, err
}

// do does what is planned: what is new first, what is old last.
func (p *planner) do(ctx context.Context, plan *Plan) error {
	tell := p.o.Progress
	if tell == nil {
		tell = func(int64, int64) {}
	}
	parallel := p.o.Parallel
	if parallel <= 0 {
		parallel = defaultParallel
	}
	if err := each(ctx, parallel, plan.Copy, func(ctx context.Context, f File) error {
		err := p.to.put(ctx, p.from, f, func(n int64) { tell(n, 0) })
		if err == nil {
			tell(0, 1)
		}
		return err
	}); err != nil {
		return err
	}
	return each(ctx, parallel, plan.Remove, func(ctx context.Context, f File) error {
		err := p.to.remove(ctx, f)
		if errors.Is(err, navvy.ErrNotFound) {
			return nil
		}
		return err
	})
}

// each does something with many files at once, until the first error.
func each(ctx context.Context, parallel int, files []File, do func(context.Context, File) error) error {
	g, ctx := errgroup.WithContext(ctx)
	var mu sync.Mutex
	i := 0
	for range min(parallel, len(files)) {
		g.Go(func() error {
			for {
				mu.Lock()
				n := i
				i++
				mu.Unlock()
				if n >= len(files) {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := do(ctx, files[n]); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}
