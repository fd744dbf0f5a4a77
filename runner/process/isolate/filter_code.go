package isolate

import (
	"slices"

	"golang.org/x/sys/unix"
)

// code is a filter as it is written: from its end, since a comparison can only
// jump forward, by at most 255 instructions, and what it jumps to is then known.
//
// Each instruction counts. At every installation, so for every attempt, the
// kernel compiles them all, and it tries the filter on each number of a call, to
// remember those that are allowed whatever their arguments.
type code struct{ backwards []unix.SockFilter }

// label is an instruction: how many there are from it to the end.
type label int

func (c *code) here() label { return label(len(c.backwards)) }

func (c *code) put(i unix.SockFilter) label {
	c.backwards = append(c.backwards, i)
	return c.here()
}

func (c *code) answer(k uint32) label {
	return c.put(unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: k})
}

// load takes a word and goes on to what was written last, next.
func (c *code) load(at uint32, next label) label {
	if next != c.here() {
		panic("isolate: nothing was to be written between a load and what it is for")
	}
	return c.put(unix.SockFilter{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: at})
}

// branch compares what is loaded.
func (c *code) branch(op uint16, k uint32, yes, no label) label {
	at := c.here()
	return c.put(unix.SockFilter{Code: unix.BPF_JMP | unix.BPF_K | op, Jt: uint8(at - yes), Jf: uint8(at - no), K: k})
}

// oneOf goes to yes if what is loaded is one of values, else to no.
func (c *code) oneOf(yes, no label, values ...uint32) label {
	for _, v := range values {
		no = c.branch(unix.BPF_JEQ, v, yes, no)
	}
	return no
}

// span is a range of numbers with the same verdict, up to the next span.
type span struct {
	from    uint32
	verdict label
}

// spansOf are the verdicts over all numbers, in order.
func spansOf(verdicts []label) []span {
	var spans []span
	for number, v := range verdicts {
		if n := len(spans); n == 0 || spans[n-1].verdict != v {
			spans = append(spans, span{uint32(number), v})
		}
	}
	return spans
}

// search goes to the verdict on the number that is loaded.
func (c *code) search(spans []span) label {
	if odd, ok := exceptions(spans); ok {
		verdict := spans[0].verdict
		for _, s := range odd {
			verdict = c.branch(unix.BPF_JEQ, s.from, s.verdict, verdict)
		}
		return verdict
	}
	// Half of the numbers, not of the spans, on either side.
	half := (spans[0].from + spans[len(spans)-1].from) / 2
	middle := slices.IndexFunc(spans[1:], func(s span) bool { return s.from >= half }) + 1
	high := c.search(spans[middle:])
	return c.branch(unix.BPF_JGE, spans[middle].from, high, c.search(spans[:middle]))
}

// exceptions are the numbers with another verdict than the first span, if there
// are no ranges among them and so few that comparing with each is the shortest.
func exceptions(spans []span) (odd []span, ok bool) {
	const few = 2
	for i, s := range spans {
		switch {
		case s.verdict == spans[0].verdict:
		case i == len(spans)-1 || spans[i+1].from != s.from+1:
			return nil, false
		default:
			odd = append(odd, s)
		}
	}
	return odd, len(odd) <= few
}
