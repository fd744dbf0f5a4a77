package servicebustest

import (
	"syscall"
	"testing"
)

// Freeze has the stand-in say nothing more, until Thaw.
func (b *Broker) Freeze(t testing.TB) { b.signal(t, syscall.SIGSTOP) }

// Thaw has it go on.
func (b *Broker) Thaw(t testing.TB) { b.signal(t, syscall.SIGCONT) }

func (b *Broker) signal(t testing.TB, s syscall.Signal) {
	t.Helper()
	if err := b.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}
