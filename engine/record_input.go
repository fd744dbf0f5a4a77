package engine

import (
	"fmt"

	"github.com/navvy-run/navvy"
)

const inputVersion = 1

// The two forms of a chunk of inputs.
const (
	inputInline = 0
	inputLogged = 1
)

// Bounds of one chunk. A single input may be larger: it is then a chunk of its own.
const (
	MaxChunkInputs = 1000
	MaxChunkBytes  = 256 << 10
)

// Chunk is a run of inputs, the first of which has index First.
type Chunk struct {
	First  int64
	Inputs [][]byte
}

// Get is the input at index, if the chunk holds it.
func (c *Chunk) Get(index int64) ([]byte, bool) {
	if c == nil || index < c.First || index >= c.End() {
		return nil, false
	}
	return c.Inputs[index-c.First], true
}

// End is the index behind the last input.
func (c *Chunk) End() int64 { return c.First + int64(len(c.Inputs)) }

func encodeChunk(inputs [][]byte) []byte {
	room := 8
	for _, in := range inputs {
		room += len(in) + 4
	}
	e := newRecord(tableInput, inputVersion, room)
	e.uint(inputInline)
	e.uint(uint64(len(inputs)))
	for _, in := range inputs {
		e.bytes(in)
	}
	return e.b
}

// loggedChunk is the record of a chunk that lies in a log.
type loggedChunk struct {
	length int64
	crc    uint32
}

func encodeLoggedChunk(l loggedChunk) []byte {
	e := newRecord(tableInput, inputVersion, 24)
	e.uint(inputLogged)
	e.int(l.length)
	e.uint(uint64(l.crc))
	return e.b
}

// decodeChunk gives the inputs, which lie in b, or where they lie instead.
func decodeChunk(id navvy.JobID, first int64, b []byte) (*Chunk, *loggedChunk, error) {
	d, _ := readRecord(b, tableInput, inputVersion, fmt.Sprintf("inputs of job %s from %d", id, first))
	if form := d.uint(); form == inputLogged {
		l := &loggedChunk{length: d.length(), crc: d.uint32()}
		return nil, l, d.end()
	} else if form != inputInline {
		d.fail("the form of the chunk is unknown")
	}
	c := &Chunk{First: first, Inputs: make([][]byte, d.count(1))}
	for i := range c.Inputs {
		c.Inputs[i] = d.bytes()
	}
	return c, nil, d.end()
}
