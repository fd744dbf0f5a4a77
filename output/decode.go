package output

import "fmt"

// Decoder takes a sequence of frames apart that comes in pieces, cut anywhere. It
// keeps no payload. The zero value is ready; it is for one goroutine at a time.
type Decoder struct {
	header [HeaderSize]byte
	have   int // bytes of a header that has not come whole
	stream Stream
	left   int // bytes of a payload that are still to come
}

// Decode calls emit for each part of a payload that lies in piece, in order. The
// part is emit's only until it returns. Decode returns emit's error, or
// navvy.ErrCorrupt where no frame begins; it cannot go on after either.
func (d *Decoder) Decode(piece []byte, emit func(s Stream, part []byte) error) error {
	for len(piece) > 0 {
		if d.left == 0 {
			n := copy(d.header[d.have:], piece)
			piece = piece[n:]
			if d.have += n; d.have < HeaderSize {
				return nil
			}
			var err error
			if d.stream, d.left, err = ParseHeader(d.header[:]); err != nil {
				return err
			}
			d.have = 0
			continue
		}
		part := piece[:min(d.left, len(piece))]
		piece = piece[len(part):]
		d.left -= len(part)
		if err := emit(d.stream, part); err != nil {
			return err
		}
	}
	return nil
}

// Close tells whether the sequence ended with a whole frame; ErrShort if not.
func (d *Decoder) Close() error {
	if d.have > 0 || d.left > 0 {
		return fmt.Errorf("output: %w", ErrShort)
	}
	return nil
}

// Split gives what each stream wrote, of whole frames. The error is ErrShort or
// navvy.ErrCorrupt, and comes with what was whole.
func Split(frames []byte) (stdout, stderr []byte, err error) {
	var d Decoder
	err = d.Decode(frames, func(s Stream, part []byte) error {
		switch s {
		case Stdout:
			stdout = append(stdout, part...)
		case Stderr:
			stderr = append(stderr, part...)
		case Value:
		}
		return nil
	})
	if err == nil {
		err = d.Close()
	}
	return stdout, stderr, err
}
