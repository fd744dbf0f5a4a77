package manager

import "math/rand/v2"

// cursor goes once over the tasks of a job: in input order, or, with a seed, in
// a random one. A random order draws from a window of whole chunks, themselves
// in random order, so that a chunk is read once and memory stays bounded.
type cursor struct {
	next int64
	// shuffled is nil in input order.
	shuffled *shuffle
}

// shuffleWindow is how many tasks a random order draws from at a time, at most.
const shuffleWindow = 64_000

// shuffle hands out the indexes of [0, total) window by window.
type shuffle struct {
	rng    *rand.Rand
	blocks []int64 // starts of the windows that are still to come
	window []int64
}

func newShuffle(seed uint64, total int64) *shuffle {
	s := &shuffle{rng: rand.New(rand.NewPCG(seed, uint64(total)))}
	for first := int64(0); first < total; first += shuffleWindow {
		s.blocks = append(s.blocks, first)
	}
	s.rng.Shuffle(len(s.blocks), func(i, k int) { s.blocks[i], s.blocks[k] = s.blocks[k], s.blocks[i] })
	return s
}

// done tells whether all tasks were handed out.
func (c *cursor) done(total int64) bool {
	if c.shuffled != nil {
		return len(c.shuffled.blocks) == 0 && len(c.shuffled.window) == 0
	}
	return c.next >= total
}

// peek is the next index; ok is false if there is none.
func (c *cursor) peek(total int64) (index int64, ok bool) {
	if c.done(total) {
		return 0, false
	}
	if c.shuffled == nil {
		return c.next, true
	}
	return c.shuffled.peek(total), true
}

// advance moves past what peek gave.
func (c *cursor) advance() {
	if c.shuffled == nil {
		c.next++
		return
	}
	w := c.shuffled.window
	c.shuffled.window = w[:len(w)-1]
}

func (s *shuffle) peek(total int64) int64 {
	if len(s.window) == 0 {
		first := s.blocks[0]
		s.blocks = s.blocks[1:]
		for i := first; i < min(first+shuffleWindow, total); i++ {
			s.window = append(s.window, i)
		}
		s.rng.Shuffle(len(s.window), func(i, k int) { s.window[i], s.window[k] = s.window[k], s.window[i] })
	}
	return s.window[len(s.window)-1]
}
