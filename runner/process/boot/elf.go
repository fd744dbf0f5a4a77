package boot

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"runtime"
)

// writeHeader writes the head of a static ELF file (elf(5)) of two segments: one
// with the head and the code, and one with the data.
func writeHeader(dst []byte, code, data int) {
	machine := elf.EM_X86_64
	if runtime.GOARCH == "arm64" {
		machine = elf.EM_AARCH64
	}
	const pageSize = 0x10000 // the largest that there is
	head := elf.Header64{
		Ident:     [elf.EI_NIDENT]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:      uint16(elf.ET_EXEC),
		Machine:   uint16(machine),
		Version:   uint32(elf.EV_CURRENT),
		Entry:     codeAddress + codeOffset,
		Phoff:     64,
		Ehsize:    64,
		Phentsize: 56,
		Phnum:     3,
	}
	segments := [3]elf.Prog64{
		{
			Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_X), Align: pageSize,
			Vaddr: codeAddress, Filesz: uint64(codeOffset + code), Memsz: uint64(codeOffset + code),
		},
		{
			Type: uint32(elf.PT_LOAD), Flags: uint32(elf.PF_R | elf.PF_W), Align: pageSize,
			Off: dataOffset, Vaddr: dataAddress, Filesz: uint64(data), Memsz: uint64(data),
		},
		{Type: uint32(elf.PT_GNU_STACK), Flags: uint32(elf.PF_R | elf.PF_W)},
	}
	var b bytes.Buffer
	_ = binary.Write(&b, binary.LittleEndian, head)
	_ = binary.Write(&b, binary.LittleEndian, segments)
	copy(dst, b.Bytes())
}
