package container

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/container/inpod"
	"github.com/navvy-run/navvy/runner/driver"
)

// packs gathers tasks of a job until there are enough for a pod that they share.
type packs struct {
	ctx context.Context //nolint:containedctx // the driver's life
	// seal has a pack made that nobody joins any more. It returns at once.
	seal func(*pack)

	mu     sync.Mutex
	groups map[groupKey]*group
	runs   map[types.UID][]*packRun // that read the log of a pod, by its Job
	jobs   map[types.UID]*packState // Jobs that have attempts which are not settled
	tokens map[string]*packState    // the same, by the tokens of these

	unwanted unwanted
}

func newPacks(ctx context.Context, seal func(*pack)) *packs {
	return &packs{
		ctx: ctx, seal: seal, groups: map[groupKey]*group{}, runs: map[types.UID][]*packRun{},
		jobs: map[types.UID]*packState{}, tokens: map[string]*packState{}, unwanted: unwanted{},
	}
}

// groupKey is what tasks have in common that can share a pod.
type groupKey struct {
	job  navvy.JobID
	what string
	lent bool // the account for buckets is theirs
}

// groupOf is the group of a member. All that share a pod may use our account there, or none.
func groupOf(m *member) groupKey {
	c := m.task.Spec.Container
	key := groupKey{job: m.task.ID.Job, what: strings.Join(slices.Concat([]string{c.Image}, c.Entrypoint, c.Command.Args), "\x00")}
	key.lent = m.plan != nil && m.plan.ours
	return key
}

// group is the tasks of a job that this driver has.
type group struct {
	open   *pack // that is joined; nil if there is none
	live   int   // tasks of other packs that have not ended
	warm   bool  // some have ended: those that come now take their places
	asking int   // who is about to join
	census *census
}

// pack is some tasks that share a pod.
type pack struct {
	key     groupKey
	space   *space
	members []*member
	size    int
	since   time.Time
	timer   *time.Timer

	ctx    context.Context //nolint:containedctx // it ends when all have given up
	cancel context.CancelFunc
	gone   int  // who has given up since it was sealed
	trying bool // its Job may be there already, whatever is said of that

	made chan struct{} // closed when the Job is made, or is not
	err  error         // why it is not
}

// How long a pack waits for more tasks: a moment behind the last one, as tasks come together.
// Once some have ended each place that gets free brings one more, until the job has no others:
// then it waits longer, but only while other tasks of the job run.
const (
	packLinger   = 100 * time.Millisecond
	packPatience = 5 * time.Second
)

// enter notes that a task is about to join its group.
func (p *packs) enter(key groupKey) *census {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.groupLocked(key)
	g.asking++
	return g.census
}

func (p *packs) groupLocked(key groupKey) *group {
	g := p.groups[key]
	if g == nil {
		g = &group{census: newCensus()}
		p.groups[key] = g
	}
	return g
}

// adoptLocked notes a task of a pack that is there already.
func (p *packs) adoptLocked(m *member) {
	key := groupOf(m)
	p.groupLocked(key).live++
	m.leave = func() { p.ended(key) }
}

// leave takes back an enter that comes to nothing.
func (p *packs) leave(key groupKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.groups[key].asking--
	p.dropLocked(key)
}

// join puts a task that has entered into the open pack of its group.
func (p *packs) join(s *space, key groupKey, m *member) *pack {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.groups[key]
	g.asking--
	size := m.load.Size()
	if g.open != nil && g.open.size+size > inpod.MaxSize {
		p.sealLocked(g)
	}
	if g.open == nil {
		fresh := &pack{key: key, space: s, since: time.Now(), made: make(chan struct{})}
		fresh.ctx, fresh.cancel = context.WithCancel(p.ctx)
		fresh.timer = time.AfterFunc(packLinger, func() { p.due(fresh) })
		g.open = fresh
	}
	joined := g.open
	joined.members = append(joined.members, m)
	joined.size += size
	if len(joined.members) >= m.task.Spec.Container.Pack {
		p.sealLocked(g)
	} else {
		g.armLocked()
	}
	return joined
}

// armLocked sets when the open pack is made if nothing else happens.
func (g *group) armLocked() {
	wait := packLinger
	if g.warm && g.live > 0 {
		wait = time.Until(g.open.since.Add(packPatience))
	}
	g.open.timer.Reset(wait)
}

// due is called when a pack has waited for long enough.
func (p *packs) due(pk *pack) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if g := p.groups[pk.key]; g != nil && g.open == pk {
		p.sealLocked(g)
	}
}

func (p *packs) sealLocked(g *group) {
	sealed := g.open
	sealed.timer.Stop()
	g.open = nil
	g.live += len(sealed.members)
	p.seal(sealed)
}

// remaining are the members for whom a Job is made: none that has given up by then, or is
// elsewhere. From then on it is too late for the former.
func (p *packs) remaining(pk *pack) []*member {
	p.mu.Lock()
	defer p.mu.Unlock()
	pk.trying = true
	return slices.DeleteFunc(slices.Clone(pk.members), func(m *member) bool { return m.quit || m.elsewhere != "" })
}

// quitters are members that have given up since.
func (p *packs) quitters(list []*member) []*member {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(list), func(m *member) bool { return !m.quit })
}

// quit gives up a task for which a Job may be made already: that ends then. It tells false if
// it is made.
func (p *packs) quit(pk *pack, m *member) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	m.quit = !closed(pk.made)
	return m.quit
}

// withdraw takes a task out of a pack again; false if that is too late.
func (p *packs) withdraw(pk *pack, m *member) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.groups[pk.key]
	if g == nil || g.open != pk {
		if pk.gone++; pk.gone == len(pk.members) {
			pk.cancel()
		}
		m.quit = !pk.trying
		return m.quit
	}
	for i, other := range pk.members {
		if other == m {
			pk.members = append(pk.members[:i:i], pk.members[i+1:]...)
			pk.size -= m.load.Size()
		}
	}
	if len(pk.members) == 0 {
		pk.timer.Stop()
		pk.cancel()
		g.open = nil
		p.dropLocked(pk.key)
	}
	return true
}

// ended notes that a task of a pack that was sealed is here no more.
func (p *packs) ended(key groupKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g := p.groups[key]
	if g == nil {
		return
	}
	g.live--
	g.warm = true
	if g.open != nil {
		g.armLocked()
	}
	p.dropLocked(key)
}

func (p *packs) dropLocked(key groupKey) {
	if g := p.groups[key]; g.open == nil && g.live == 0 && g.asking == 0 {
		delete(p.groups, key)
	}
}

// packable tells whether a task can share a pod. One that has failed, or that was retried by
// hand, has a pod of its own: whatever is wrong with it is its own affair then.
func packable(t *driver.Task) bool {
	return t.Spec.Container.Pack > 1 && t.Failed == 0 && t.Round == 0
}

// Bounds implements driver.Bounder. The time of a task begins when its turn comes in its pod.
func (d *Driver) Bounds(t *driver.Task) bool {
	return t.Spec != nil && t.Spec.Container != nil && packable(t)
}

// startPacked starts an attempt at a task that shares a pod; nil and no error if it is too
// large for that. A pod that has the task already is found.
func (s *space) startPacked(ctx context.Context, t *driver.Task, argv []string) (driver.Execution, error) {
	m := s.member(t)
	m.load = packedTask(m, argv)
	if m.load.Size() > inpod.MaxSize {
		return nil, nil //nolint:nilnil // the caller makes a Job of its own for it
	}
	key := groupOf(m)
	d := s.driver
	census := d.packs.enter(key)
	e, err := s.adoptPacked(ctx, census, m)
	if e != nil || err != nil {
		d.packs.leave(key)
		return e, err
	}
	m.leave = func() { d.packs.ended(key) }
	pk := d.packs.join(s, key, m)
	if err := d.packs.await(ctx, pk, m); err != nil {
		return nil, err
	}
	switch {
	case pk.err != nil:
		return nil, pk.err
	case m.elsewhere != "":
		return nil, &driver.Away{Message: "by now it is in Job " + m.elsewhere}
	}
	return m, nil
}

// quitPatience is how long who gives up waits for a Job that is being made: what has begun is
// told, and can be stopped. Afterwards that is done for it.
const quitPatience = 10 * time.Second

// await waits until the Job of a pack is made, or is not.
func (p *packs) await(ctx context.Context, pk *pack, m *member) error {
	select {
	case <-pk.made:
		return nil
	case <-ctx.Done():
	}
	if p.withdraw(pk, m) {
		return context.Cause(ctx)
	}
	timer := time.NewTimer(quitPatience)
	defer timer.Stop()
	select {
	case <-pk.made:
		return nil
	case <-timer.C:
	}
	if !p.quit(pk, m) {
		return nil
	}
	return context.Cause(ctx)
}

// sealPack makes the Job of a pack, in the background.
func (d *Driver) sealPack(pk *pack) {
	d.running.Go(func() {
		defer pk.cancel()
		run, err := pk.space.makePack(pk.ctx, pk)
		for _, m := range d.packs.concluded(pk, run, err) {
			m.leave()
		}
		if run == nil {
			return
		}
		d.endQuitters(run, pk)
		run.follow()
	})
}

// concluded notes that the Job of a pack is made, or is not, and gives those who are not in it.
func (p *packs) concluded(pk *pack, run *packRun, err error) []*member {
	p.mu.Lock()
	defer p.mu.Unlock()
	pk.err = err
	close(pk.made)
	return slices.DeleteFunc(slices.Clone(pk.members), func(m *member) bool { return run != nil && m.run == run })
}

// endQuitters ends, for those in a pod who have given up while it was made, what has begun.
func (d *Driver) endQuitters(run *packRun, pk *pack) {
	for _, m := range d.packs.quitters(pk.members) {
		if m.run == run {
			d.chores.do(func() {
				d.insist(func(ctx context.Context) error { return m.Stop(ctx, true) }, "job", run.name)
			})
		}
	}
}
