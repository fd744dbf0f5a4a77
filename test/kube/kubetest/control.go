package kubetest

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
)

// control is how a test tells its cluster's first process what to do: a line there, a line
// back, which is "ok" or says what is wrong. That there is nobody to tell it any more tells
// it to end.
type control struct {
	mu sync.Mutex
	to io.WriteCloser
	by *bufio.Reader
}

func newControl(cmd *exec.Cmd) (*control, error) {
	to, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	by, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &control{to: to, by: bufio.NewReader(by)}, nil
}

const ok = "ok"

// wait waits for an answer.
func (c *control) wait() error {
	answer, err := c.by.ReadString('\n')
	switch answer = strings.TrimSpace(answer); {
	case answer == ok:
		return nil
	case answer != "":
		return errors.New(answer)
	}
	return fmt.Errorf("the cluster's first process has ended: %w", err)
}

func (c *control) do(what string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, err := io.WriteString(c.to, what+"\n"); err != nil {
		return err
	}
	return c.wait()
}

func (c *control) close() {
	_ = c.to.Close()
	_, _ = io.Copy(io.Discard, c.by)
}
