package faas

import (
	"encoding/binary"
	"strings"

	"github.com/navvy-run/navvy"
)

// exception is the pickle of one of Python's own exceptions with a text, for a task that
// has failed without raising one. It is of protocol 2, which every Python 3 reads: the
// class, the text, a tuple of it, and a call.
func exception(class, text string) []byte {
	text = strings.ToValidUTF8(text, "\ufffd")
	b := append([]byte("\x80\x02cbuiltins\n"), class...)
	b = append(b, '\n', 'X')
	b = binary.LittleEndian.AppendUint32(b, uint32(len(text)))
	return append(append(b, text...), 0x85, 'R', '.')
}

// nothing is the pickle of None.
const nothing = "\x80\x02N."

// classOf is the exception that stands for how a task has failed.
func classOf(r navvy.Reason) string {
	switch r {
	case navvy.ReasonTimeout:
		return "TimeoutError"
	case navvy.ReasonOOM:
		return "MemoryError"
	default:
		return "RuntimeError"
	}
}

// failure is what the result of a task is that has failed without a value.
func failure(a *navvy.Attempt) []byte {
	text := a.Message
	if text == "" {
		text = "the task failed: " + string(a.Reason)
	}
	return exception(classOf(a.Reason), text)
}

// stopped is what the result of a task is that somebody has stopped.
func stopped(why string) []byte {
	text := "the task was stopped"
	if why != "" {
		text += ": " + why
	}
	return exception("RuntimeError", text)
}
