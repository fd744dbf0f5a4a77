package engine

import "sync"

// holdings tell which attempt has a container. It is one of this process: what has the
// directory of an instance is one at a time.
type holdings struct {
	mu sync.Mutex
	of map[string]string // id of a container: token
	by map[string]string // token: id
}

func newHoldings() holdings { return holdings{of: map[string]string{}, by: map[string]string{}} }

// take gives a container to an attempt, whoever had it.
func (h *holdings) take(id, token string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.of[id], h.by[token] = token, id
}

// claim gives a container to an attempt, unless another one has it.
func (h *holdings) claim(id, token string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if have, known := h.of[id]; known && have != token {
		return false
	}
	h.of[id], h.by[token] = token, id
	return true
}

// has tells whether an attempt has a container, or nobody.
func (h *holdings) has(id, token string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	have, known := h.of[id]
	return !known || have == token
}

// drop forgets an attempt, and gives the id of its container if no other one has it; empty
// otherwise.
func (h *holdings) drop(token string) string {
	h.mu.Lock()
	defer h.mu.Unlock()
	id := h.by[token]
	delete(h.by, token)
	if id == "" || h.of[id] != token {
		return ""
	}
	delete(h.of, id)
	return id
}

// held tells whether any attempt has a container.
func (h *holdings) held(id string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	_, known := h.of[id]
	return known
}
