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
	// InputMessage is a message, as AppendMessage writes it.
	InputMessage
)

// AppendMessage appends the encoding of a message to dst: the length of its correlation
// id as an unsigned varint, the correlation id, and the body.
func AppendMessage(dst []byte, correlation string, body []byte) []byte {
	dst = binary.AppendUvarint(dst, uint64(len(correlation)))
	dst = append(dst, correlation...)
	return append(dst, body...)
}

// Message gives the parts of an input of InputMessage; body is part of input. The error
// wraps ErrInvalid: the bytes are not what AppendMessage writes.
func Message(input []byte) (correlation string, body []byte, err error) {
	n, size := binary.Uvarint(input)
	if size <= 0 || n > uint64(len(input)-size) {
		return "", nil, fmt.Errorf("input: the correlation id of a message is cut short: %w", ErrInvalid)
	}
	return string(input[size : size+int(n)]), input[size+int(n):], nil
}

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
	switch f {
	case InputRaw:
		return []string{string(input)}, nil
	case InputMessage:
		_, body, err := Message(input)
		return []string{string(body)}, err
	case InputFields:
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
