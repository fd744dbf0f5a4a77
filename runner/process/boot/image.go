package boot

import (
	"encoding/binary"
	"fmt"
	"os"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
)

// Where the image has what: boot_*.s have the same numbers. All addresses leave
// the page size open, up to 64 KiB.
const (
	codeAddress = 0x400000
	codeOffset  = 0x100
	dataAddress = 0x601000
	dataOffset  = 0x1000

	atBefore  = 0
	atAfter   = 8
	atSettle  = 16
	atInit    = 24
	atStatus  = 32
	atSignals = 72
	atMask    = 80
	dataHead  = 128
)

// maxImage bounds an image, in bytes: its data are made to fit the smallest
// space that there is after them on any architecture.
const maxImage = 1 << 20

// Image is a Program in memory, ready to be executed by any number of processes.
type Image struct {
	file  *os.File
	names [3][]string
}

// NewImage puts a program into memory. The error wraps navvy.ErrUnsupported if
// there is no init for this architecture or the kernel runs nothing from memory.
func NewImage(p *Program) (*Image, error) {
	raw, err := p.assemble()
	if err != nil {
		return nil, err
	}
	fd, err := memory("navvy-init")
	if err != nil {
		return nil, err
	}
	m := &Image{file: os.NewFile(uintptr(fd), "navvy-init")}
	for i, calls := range p.whole() {
		for _, c := range calls {
			m.names[i] = append(m.names[i], c.Name)
		}
	}
	if _, err := m.file.Write(raw); err != nil {
		_ = m.file.Close()
		return nil, fmt.Errorf("boot: write the image: %w", err)
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
		_ = m.file.Close()
		return nil, fmt.Errorf("boot: seal the image: %w", err)
	}
	return m, nil
}

// memory makes an anonymous file that can be executed.
func memory(name string) (int, error) {
	const flags = unix.MFD_CLOEXEC | unix.MFD_ALLOW_SEALING
	fd, err := unix.MemfdCreate(name, flags|unix.MFD_EXEC)
	if err == unix.EINVAL { // before Linux 6.3, when each could be
		fd, err = unix.MemfdCreate(name, flags)
	}
	switch err {
	case nil:
	case unix.EACCES:
		return -1, fmt.Errorf("boot: nothing may be run from memory here (sysctl vm.memfd_noexec=2; 1 is enough): %w", navvy.ErrUnsupported)
	case unix.ENOSYS:
		return -1, fmt.Errorf("boot: this kernel has no memfd_create: %w", navvy.ErrUnsupported)
	default:
		return -1, fmt.Errorf("boot: memory for the image: %w", err)
	}
	return fd, nil
}

// File is the descriptor to hand to a process that is to execute the image: as
// one of its own, since it has others in place of ours by then.
func (m *Image) File() uintptr { return m.file.Fd() }

// Path is what a process executes that was handed the image as descriptor fd.
func Path(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }

// Close frees the image. Processes that run it already keep it.
func (m *Image) Close() error { return m.file.Close() }

var code = sync.OnceValue(machineCode)

// assemble makes the ELF file.
func (p *Program) assemble() ([]byte, error) {
	code := code()
	if len(code) == 0 {
		return nil, fmt.Errorf("boot: there is no init for this architecture: %w", navvy.ErrUnsupported)
	}
	if p.Status < 3 {
		return nil, fmt.Errorf("boot: status pipe at descriptor %d, which is the task's: %w", p.Status, navvy.ErrInvalid)
	}
	if codeOffset+len(code) > dataOffset {
		return nil, fmt.Errorf("boot: %d bytes of code are too many", len(code))
	}
	data := data{buf: make([]byte, dataHead)}
	for i, calls := range p.whole() {
		data.set([...]int{atBefore, atAfter, atSettle}[i], data.calls(calls))
	}
	if p.Init {
		data.set(atInit, 1)
	}
	data.set(atStatus, uint64(p.Status))
	data.set(atSignals, awaited)
	raw := make([]byte, dataOffset, dataOffset+len(data.buf))
	writeHeader(raw, len(code), len(data.buf))
	copy(raw[codeOffset:], code)
	if raw = append(raw, data.buf...); len(raw) > maxImage {
		return nil, fmt.Errorf("boot: an image of %d bytes, more than %d: %w", len(raw), maxImage, navvy.ErrInvalid)
	}
	return raw, nil
}

// data is what the init reads and writes.
type data struct{ buf []byte }

func (d *data) set(at int, v uint64) { binary.LittleEndian.PutUint64(d.buf[at:], v) }

// calls puts the calls down, 8 words each, and returns their address.
func (d *data) calls(calls []Call) uint64 {
	records := make([]byte, 0, 64*len(calls)+8)
	for _, c := range calls {
		words := [8]uint64{0: uint64(c.Number), 7: uint64(c.Ignore)}
		if c.IgnoreAll {
			words[7] = ^uint64(0)
		}
		for i, a := range c.Args {
			words[1+i] = d.word(a)
		}
		for _, w := range words {
			records = binary.LittleEndian.AppendUint64(records, w)
		}
	}
	return d.put(binary.LittleEndian.AppendUint64(records, ^uint64(0)))
}

// word is an argument as the kernel gets it.
func (d *data) word(a Arg) uint64 {
	switch {
	case a.words != nil:
		var raw []byte
		for _, w := range a.words {
			raw = binary.LittleEndian.AppendUint64(raw, d.word(w))
		}
		return d.put(raw)
	case a.bytes != nil:
		return d.put(a.bytes)
	default:
		return a.value
	}
}

// put appends bytes, aligned, and returns their address.
func (d *data) put(raw []byte) uint64 {
	for len(d.buf)%8 != 0 {
		d.buf = append(d.buf, 0)
	}
	at := dataAddress + uint64(len(d.buf))
	d.buf = append(d.buf, raw...)
	return at
}
