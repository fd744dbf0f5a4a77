package boot

import "golang.org/x/sys/unix"

// Program is what the init does. It is executed with the status pipe at Status
// and, as its arguments, the path of the task's program before those of the
// task (argv[0] and so on); its environment and its working directory become
// the task's.
type Program struct {
	// Init makes it the first process of a PID namespace, which starts the task
	// as its child. Without it the process itself becomes the task: it makes the
	// calls of Before and of After, and those of Settle never.
	Init bool
	// Before are the calls of the init, After those of the task before it becomes
	// its program, and Settle those of the init once that has happened. Signals
	// are blocked in the init, and are for the task as they were before; of the
	// descriptors the init keeps only Status, and the task all but Status.
	Before, After, Settle []Call
	// Status is the descriptor of the pipe that takes reports, at least 3.
	Status int
}

// Call is one system call.
type Call struct {
	// Name says what it does, for the message if it fails: "mount /proc".
	Name   string
	Number uintptr
	Args   []Arg // at most six
	// Ignore is an error that is none; IgnoreAll makes each of them none.
	Ignore    unix.Errno
	IgnoreAll bool
}

// Arg is one argument of a Call.
type Arg struct {
	value uint64
	bytes []byte
	words []Arg
}

// Int is a number. Negative ones are extended to the width of a register.
func Int[T ~int | ~int64 | ~uint32 | ~uint64 | ~uintptr](v T) Arg { return Arg{value: uint64(v)} }

// Text is a pointer to a string that ends with a zero byte.
func Text(s string) Arg { return Arg{bytes: append([]byte(s), 0)} }

// Bytes is a pointer to bytes. The process may write to them; whoever executes
// the image next finds them as they were.
func Bytes(b []byte) Arg { return Arg{bytes: append([]byte{}, b...)} }

// Words is a pointer to words of 64 bits, which may be pointers themselves.
func Words(w ...Arg) Arg { return Arg{words: append([]Arg{}, w...)} }
