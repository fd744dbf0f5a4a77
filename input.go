package navvy

import (
	"encoding/binary"
	"fmt"
)

// InputFormat says what the bytes of each input of a job mean.
type InputFormat uint8

const (
	// InputRaw is one value, taken as it is.
	InputRaw InputFormat = iota
	// InputFields is a list of values, as AppendFields writes them.
	InputFields
)

// AppendFields appends the encoding of a list of values to dst: for each its
// length as an unsigned varint, then its bytes.
func AppendFields(dst []byte, fields ...string) []byte {
	for _, f := range fields {
		dst = binary.AppendUvarint(dst, uint64(len(f)))
		dst = append(dst, f...)
	}
	return dst
}

// Fields gives the values of an input. The error wraps ErrInvalid: the bytes are
// not what AppendFields writes.
func (f InputFormat) Fields(input []byte) ([]string, error) {
	if f == InputRaw {
		return []string{string(input)}, nil
	}
	var fields []string
	for len(input) > 0 {
		n, size := binary.Uvarint(input)
		if size <= 0 || n > uint64(len(input)-size) {
			return nil, fmt.Errorf("input: field %d is cut short: %w", len(fields)+1, ErrInvalid)
		}
		fields = append(fields, string(input[size:size+int(n)]))
		input = input[size+int(n):]
	}
	return fields, nil
}
