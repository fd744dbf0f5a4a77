package sim

import "time"

// action is one kind of step. Each simulation draws how often it does which, so
// that each does a lot of something.
type action struct {
	name   string
	weight int
	do     func(*sim)
}

var actions = []action{
	{"submit", 10, (*sim).submit},
	{"add", 10, (*sim).add},
	{"seal", 12, (*sim).seal},
	{"cut off", 2, (*sim).cutOff},
	{"abort", 1, (*sim).abort},
	{"burst", 0, (*sim).burst},
	{"work", 60, func(s *sim) {
		for range 1 + s.rng.IntN(8) {
			if s.work(); s.broken {
				return
			}
		}
	}},
	{"settle", 25, (*sim).settle},
	{"tick", 15, (*sim).tick},
	{"heartbeat", 12, (*sim).heartbeat},
	{"report again", 4, (*sim).again},
	{"pause", 10, func(s *sim) { s.pause(4 * time.Second) }},
	{"long pause", 2, func(s *sim) { s.pause(30 * time.Second) }},
	{"day", 1, func(s *sim) {
		s.look() // when will jobs expire?
		s.pause(30 * time.Hour)
	}},
	{"hire", 4, func(s *sim) {
		if len(s.hands) < maxHands {
			s.hire()
		}
	}},
	{"bury", 2, func(s *sim) {
		if h := oneOf(s.rng, s.hands); h != nil {
			s.note("%s dies", h.name)
			s.bury(h)
		}
	}},
	{"part", 2, func(s *sim) {
		if h := oneOf(s.rng, s.hands); h != nil {
			s.part(h)
		}
	}},
	{"reconnect", 4, func(s *sim) {
		if h := oneOf(s.rng, s.hands); h != nil && h.session == nil {
			s.connect(h)
		}
	}},
	{"freeze", 3, (*sim).freeze},
	{"hold", 3, (*sim).hold},
	{"interrupt", 2, (*sim).interrupt},
	{"rush", 3, (*sim).rush},
	{"resume", 6, (*sim).resume},
	{"stop", 2, (*sim).stopJob},
	{"retry", 4, (*sim).retryJob},
	{"remove", 2, (*sim).removeJob},
	{"leave", 2, (*sim).someoneLeaves},
	{"print", 2, (*sim).print},
	{"mark read", 2, (*sim).markRead},
	{"stray", 3, (*sim).stray},
	{"follow", 5, (*sim).follow},
	{"read on", 10, (*sim).readOn},
	{"read answer", 4, (*sim).readAnswer},
	{"look", 2, (*sim).look},
	{"arm", 4, (*sim).arm},
	{"power", 1, func(s *sim) { s.crash(true) }},
	{"kill", 1, func(s *sim) { s.crash(false) }},
	{"restart", 1, (*sim).restart},
	{"fill", 1, (*sim).fill},
	{"register", 4, (*sim).register},
	{"acknowledge", 6, (*sim).acknowledge},
	{"change a value", 4, (*sim).changeValue},
	{"change a file", 4, (*sim).changeFile},
}

// draw gives each action the weight that it has in this simulation.
func (s *sim) draw() []int {
	weights := make([]int, len(actions))
	for i, a := range actions {
		weights[i] = 2 * a.weight
		switch s.rng.IntN(8) {
		case 0:
			weights[i] *= 4
		case 1, 2:
			weights[i] /= 3
		}
		if a.name == "burst" && s.chance(3) {
			weights[i] = 4
		}
	}
	return weights
}

// restart ends navvy in good order and starts it again.
func (s *sim) restart() {
	if s.shutDown(); s.bad == nil && !s.broken {
		s.boot()
	}
}

// fill fills the disk up; some time later there is space again.
func (s *sim) fill() {
	if s.memory {
		return
	}
	s.note("the disk is full")
	s.filled = true
	s.machine.fill(s.rng.Int64N(64 << 10))
	time.AfterFunc(5*time.Second, s.machine.free)
}
