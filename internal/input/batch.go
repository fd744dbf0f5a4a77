package input

import (
	"io"
	"slices"

	"github.com/navvy-run/navvy"
)

// batch is what one call of Batch returns.
type batch struct {
	inputs [][]byte
	err    error
}

// eager calls before ahead of each Read.
type eager struct {
	r      io.Reader
	before func() error
}

func (e eager) Read(p []byte) (int, error) {
	if err := e.before(); err != nil {
		return 0, err
	}
	return e.r.Read(p)
}

// add adds an input to the chunk, and hands the chunk on before it would be too large.
func (r *Reader) add(input []byte) error {
	if len(r.chunk.inputs) == r.options.BatchInputs || r.chunk.bytes+len(input) > r.options.BatchBytes {
		if err := r.send(); err != nil {
			return err
		}
	}
	r.chunk.add(input)
	return nil
}

// send hands on what the chunk holds.
func (r *Reader) send() error {
	if len(r.chunk.inputs) == 0 {
		return nil
	}
	select {
	case r.batches <- batch{inputs: r.chunk.take()}:
		return nil
	case <-r.done:
		return navvy.ErrClosed
	}
}

// chunk collects inputs.
type chunk struct {
	inputs  [][]byte
	bytes   int
	room    []byte // where they lie
	scratch []byte
}

// add copies an input.
func (c *chunk) add(input []byte) {
	if cap(c.room)-len(c.room) < len(input) {
		c.room = make([]byte, 0, max(bufferSize, len(input)))
	}
	start := len(c.room)
	c.room = append(c.room, input...)
	c.inputs = append(c.inputs, slices.Clip(c.room[start:]))
	c.bytes += len(input)
}

// take empties the chunk. What it held belongs to the caller.
func (c *chunk) take() [][]byte {
	inputs := c.inputs
	c.inputs, c.bytes = make([][]byte, 0, len(inputs)), 0
	return inputs
}
