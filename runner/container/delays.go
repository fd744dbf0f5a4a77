package container

import "sync"

// delays say what attempts wait for whose Jobs are not made yet.
type delays struct {
	mu    sync.Mutex
	where map[string]*space // by token, from the beginning of Start to its end
	packs map[string]string // the token of the pack that is being made for an attempt, by that of the attempt
	tried map[string]string // why the last try to make a Job has failed, by the token of whoever makes it
}

func newDelays() delays {
	return delays{where: map[string]*space{}, packs: map[string]string{}, tried: map[string]string{}}
}

// begin notes where an attempt is to be, until end is called.
func (l *delays) begin(token string, s *space) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.where[token] = s
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.where, token)
	}
}

// share notes that attempts share the Job that is made under a token, until end is called.
func (l *delays) share(list []*member, token string) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range list {
		l.packs[m.task.Token] = token
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, m := range list {
			delete(l.packs, m.task.Token)
		}
	}
}

// failed notes why a try to make a Job has failed; nil that none is made any more.
func (l *delays) failed(token string, why error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if why == nil {
		delete(l.tried, token)
		return
	}
	l.tried[token] = brief(why)
}

// of tells where an attempt is to be, nil if it has not begun or is there; under which token
// its Job is made; and why the last try has failed, empty if none has.
func (l *delays) of(token string) (s *space, maker, tried string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s, maker = l.where[token], token
	if shared := l.packs[token]; shared != "" {
		maker = shared
	}
	return s, maker, l.tried[maker]
}
