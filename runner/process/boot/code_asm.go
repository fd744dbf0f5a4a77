//go:build amd64 || arm64

package boot

import (
	"bytes"
	"unsafe"
)

// entry is where the machine code of the init is in this program.
func entry() uintptr

// maxCode bounds the machine code, in bytes.
const maxCode = 2048

// codeEnd follows the machine code.
var codeEnd = []byte("navvy ends here\x00")

// machineCode is the init. It is empty on an architecture that has none.
func machineCode() []byte {
	at := *(*unsafe.Pointer)(unsafe.Pointer(new(entry()))) //nolint:gosec // it is code, and stays where it is
	code := unsafe.Slice((*byte)(at), maxCode)             //nolint:gosec // more code follows
	for end := range code {
		if bytes.HasPrefix(code[end:], codeEnd) {
			return bytes.Clone(code[:end])
		}
	}
	return nil
}
