package output

import (
	"io"
	"sync"
)

// Writer takes one stream of an attempt. It is for one goroutine at a time.
type Writer struct {
	c      *Collector
	stream Stream
}

var (
	_ io.Writer     = (*Writer)(nil)
	_ io.ReaderFrom = (*Writer)(nil)
)

// Sizes of the buffers that ReadFrom reads into: a silent or terse task costs the
// smallest; one that fills them gets the largest, which are shared.
const (
	smallBuffer  = 4 << 10
	middleBuffer = 16 << 10
	largeBuffer  = 256 << 10
)

var largeBuffers = sync.Pool{New: func() any { return new([HeaderSize + largeBuffer]byte) }}

// Write adds p, which it copies. Where there is a source to read from, ReadFrom is cheaper.
func (w *Writer) Write(p []byte) (int, error) {
	written := 0
	for written < len(p) {
		piece := p[written:min(len(p), written+middleBuffer)]
		if err := w.c.addCopy(w.stream, piece); err != nil {
			return written, err
		}
		written += len(piece)
	}
	return written, nil
}

// ReadFrom adds all that r has until its end, without copying what goes to the
// sink. It returns the error of r, or the one of Write.
func (w *Writer) ReadFrom(r io.Reader) (int64, error) {
	buf := make([]byte, smallBuffer)
	var total int64
	for {
		n, err := r.Read(buf[HeaderSize:])
		if n > 0 {
			total += int64(n)
			if err := w.c.addFrame(w.stream, buf[:HeaderSize+n]); err != nil {
				return total, err
			}
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		if HeaderSize+n < len(buf) {
			continue
		}
		switch len(buf) {
		case smallBuffer:
			buf = make([]byte, middleBuffer)
		case middleBuffer:
			large := largeBuffers.Get().(*[HeaderSize + largeBuffer]byte)
			defer largeBuffers.Put(large)
			buf = large[:]
		}
	}
}
