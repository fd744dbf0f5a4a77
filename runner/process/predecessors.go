package process

import (
	"context"
	"fmt"
	"strings"
	"sync"
)

// Predecessors are earlier users of a driver, under the same name, whose servants may have
// outlived them: what ran in idle ones is in no journal. Its methods may be called at once.
type Predecessors struct {
	processes  *Driver
	family, me string

	mu   sync.Mutex
	gone bool // nothing of them is left
}

// NewPredecessors are those whose tokens begin with family, and not with me.
func NewPredecessors(processes *Driver, family, me string) *Predecessors {
	return &Predecessors{processes: processes, family: family, me: me}
}

// End kills what they have left, until there is nothing.
func (p *Predecessors) End(ctx context.Context) error {
	err := p.processes.EndBearers(ctx, func(token string) bool {
		return strings.HasPrefix(token, p.family) && !strings.HasPrefix(token, p.me)
	})
	if err != nil {
		return fmt.Errorf("process: end what an earlier navvy has left: %w", err)
	}
	return nil
}

// EndOnce is End until that has succeeded once.
func (p *Predecessors) EndOnce(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gone {
		return nil
	}
	err := p.End(ctx)
	p.gone = err == nil
	return err
}
