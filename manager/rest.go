package manager

import "context"

// Rest takes nothing new and starts nothing, and returns when all reports are
// settled that have come in: what runs elsewhere goes on, and its workers bring it
// to the next manager.
func (m *Manager) Rest(ctx context.Context) error {
	m.mu.Lock()
	m.leaving, m.draining = true, true
	m.mu.Unlock()
	return m.wait(ctx, func() bool {
		for _, j := range m.jobs {
			if len(j.settling) > 0 {
				return false
			}
		}
		return len(m.reports) == 0
	})
}
