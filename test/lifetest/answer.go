package lifetest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"time"
)

// Answer is what a task has to say.
type Answer struct {
	Stdout, Stderr []byte
	Code           int
}

// AnswerTo gives the answer to an input: the same at each attempt. Some say nothing,
// some fail, and some say more than fits into a result.
func AnswerTo(n int) (a Answer) {
	if n%19 != 11 {
		a.Stdout = fmt.Appendf(nil, "task %d begins\n", n)
		lines := n % 5
		if n%23 == 7 {
			lines = 9000
		}
		for i := range lines {
			a.Stdout = fmt.Appendf(a.Stdout, "%d says %d and %d\n", n, i, n*i)
		}
		a.Stdout = fmt.Appendf(a.Stdout, "task %d ends\n", n)
	}
	if n%3 == 0 {
		a.Stderr = fmt.Appendf(nil, "%d mutters\n", n)
	}
	if n%17 == 5 {
		a.Code = 3
	}
	return a
}

// Equal tells whether this is what a task has said.
func (a Answer) Equal(stdout, stderr string, code int) bool {
	return bytes.Equal(a.Stdout, []byte(stdout)) && bytes.Equal(a.Stderr, []byte(stderr)) && a.Code == code
}

// Write is for tasks: it writes in pieces, with pauses of less than that. A task that
// cannot ends.
func Write(to *os.File, p []byte, pause time.Duration) {
	for len(p) > 0 {
		n := min(len(p), 1+rand.IntN(40<<10))
		if _, err := to.Write(p[:n]); err != nil {
			os.Exit(94)
		}
		p = p[n:]
		time.Sleep(time.Duration(rand.Int64N(int64(pause)))) //nolint:forbidigo // it works
	}
}

// Leave is for tasks: it adds to a trace, a file, and gives the length of that. A task
// that cannot ends.
func Leave(name, what string) int {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		os.Exit(93)
	}
	defer func() { _ = f.Close() }()
	if _, err := f.WriteString(what); err != nil {
		os.Exit(92)
	}
	info, err := f.Stat()
	if err != nil {
		os.Exit(91)
	}
	return int(info.Size())
}
