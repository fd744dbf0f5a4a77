package share

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/share/place"
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
}

// list gives the files of a tree in the order of their keys, which is not that of every
// store; of the source's special files the options say what becomes.
func (p *planner) list(ctx context.Context, tree Tree, source bool) ([]File, error) {
	var list []File
	for f, err := range tree.files(ctx) {
		special, is := errors.AsType[*NotRegular](err)
		switch {
		case is && source && p.o.SkipSpecial:
			if p.o.Skipped != nil {
				p.o.Skipped(special)
			}
		case is && source:
			return nil, special
		case is: // what others keep beside the files of the destination is theirs
		case err != nil:
			return nil, err
		default:
			list = append(list, f)
		}
	}
	slices.SortFunc(list, func(x, y File) int { return strings.Compare(x.Key, y.Key) })
	return list, nil
}

// plan compares the trees.
func (p *planner) plan(ctx context.Context) (*Plan, error) {
	left, err := p.list(ctx, p.from, true)
	if err == nil {
		err = p.checkNames(left)
	}
	if err != nil {
		return nil, err
	}
	right, err := p.list(ctx, p.to, false)
	if err != nil {
		return nil, err
	}
	plan := &Plan{}
	var both [][2]*File
	for len(left) > 0 || len(right) > 0 {
		switch {
		case len(right) == 0 || len(left) > 0 && left[0].Key < right[0].Key:
			plan.copy(&left[0])
			left = left[1:]
		case len(left) == 0 || right[0].Key < left[0].Key:
			if p.o.Delete {
				plan.Remove = append(plan.Remove, right[0])
			}
			right = right[1:]
		default:
			both = append(both, [2]*File{&left[0], &right[0]})
			left, right = left[1:], right[1:]
		}
	}
	return plan, p.compare(ctx, plan, both)
}

// maxNamed bounds how many names an error tells.
const maxNamed = 5

// checkNames refuses names that the destination cannot have, before anything is copied.
func (p *planner) checkNames(files []File) error {
	prefix := ""
	if to, ok := p.to.(*shareTree); ok {
		prefix = to.prefix
	}
	var bad []string
	for i := range files {
		if err := place.CheckKey(prefix + files[i].Key); err != nil {
			bad = append(bad, strings.TrimSuffix(err.Error(), ": "+navvy.ErrInvalid.Error()))
		}
	}
	if len(bad) == 0 {
		return nil
	}
	more := ""
	if n := len(bad) - maxNamed; n > 0 {
		bad, more = bad[:maxNamed], fmt.Sprintf("; and %d more", n)
	}
	return invalid("nothing is copied, for %s cannot have all of the names; rename these: %s%s", p.to, strings.Join(bad, "; "), more)
}

// compare looks at the files that both trees have, many at once: each is a question to a
// store, or a reading of a file.
func (p *planner) compare(ctx context.Context, plan *Plan, both [][2]*File) error {
	same := make([]bool, len(both))
	err := each(ctx, p.parallel(), len(both), func(ctx context.Context, i int) (err error) {
		same[i], err = p.same(ctx, both[i][0], both[i][1])
		return err
	})
	if err != nil {
		return err
	}
	for i, pair := range both {
		if same[i] {
			plan.Same++
		} else {
			plan.copy(pair[0])
		}
	}
	slices.SortFunc(plan.Copy, func(x, y File) int { return strings.Compare(x.Key, y.Key) })
	return nil
}

func (p *planner) parallel() int {
	if p.o.Parallel > 0 {
		return p.o.Parallel
	}
	return defaultParallel
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

// do does what is planned: what is new first, what is old last. Of files that stand where
// folders are to be it cannot be otherwise: they go first.
func (p *planner) do(ctx context.Context, plan *Plan) error {
	tell := p.o.Progress
	if tell == nil {
		tell = func(int64, int64) {}
	}
	remove := func(list []File) func(context.Context, int) error {
		return func(ctx context.Context, i int) error {
			err := p.to.remove(ctx, list[i])
			if errors.Is(err, navvy.ErrNotFound) {
				return nil
			}
			return err
		}
	}
	first, last := inTheWay(plan)
	if err := each(ctx, 1, len(first), remove(first)); err != nil {
		return err
	}
	err := each(ctx, p.parallel(), len(plan.Copy), func(ctx context.Context, i int) error {
		err := p.to.put(ctx, p.from, plan.Copy[i], func(n int64) { tell(n, 0) })
		if err == nil {
			tell(0, 1)
		}
		return err
	})
	if err != nil {
		return err
	}
	return each(ctx, p.parallel(), len(last), remove(last))
}

// inTheWay parts what is to be removed: files where folders are to be and the other way
// round, and the rest.
func inTheWay(plan *Plan) (first, last []File) {
	wanted, folders := map[string]bool{}, map[string]bool{}
	for i := range plan.Copy {
		key := plan.Copy[i].Key
		wanted[key] = true
		for j := range key {
			if key[j] == '/' {
				folders[key[:j]] = true
			}
		}
	}
	for _, f := range plan.Remove {
		clash := folders[f.Key]
		for j := range f.Key {
			clash = clash || f.Key[j] == '/' && wanted[f.Key[:j]]
		}
		if clash {
			first = append(first, f)
		} else {
			last = append(last, f)
		}
	}
	return first, last
}

// each does n things, many at once, until the first error.
func each(ctx context.Context, parallel, n int, do func(context.Context, int) error) error {
	g, ctx := errgroup.WithContext(ctx)
	var next atomic.Int64
	for range min(parallel, n) {
		g.Go(func() error {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return nil
				}
				if err := ctx.Err(); err != nil {
					return context.Cause(ctx)
				}
				if err := do(ctx, i); err != nil {
					return err
				}
			}
		})
	}
	return g.Wait()
}
