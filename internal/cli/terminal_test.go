package cli

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal makes a pseudo terminal of so many columns; see pts(4).
func openTerminal(t *testing.T, columns uint16) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip("there is no pseudo terminal:", err)
	}
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = slave.Close() })
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns}); err != nil {
		t.Fatal(err)
	}
	return master, slave
}

// onTerminal runs navvy with standard error, and if all is set standard output,
// on a terminal. It gives what came there as bytes, and what stands there in the end.
func onTerminal(t *testing.T, columns uint16, all bool, args ...string) (raw, shown string, code int) {
	t.Helper()
	master, slave := openTerminal(t, columns)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, args...)
	cmd.Args[0] = "navvy"
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "NAVVY_DATA="+cmd.Dir+"/data", "TERM=xterm", "GORACE=atexit_sleep_ms=0")
	cmd.Stderr = slave
	if all {
		cmd.Stdout = slave
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if err := slave.Close(); err != nil {
		t.Fatal(err)
	}
	// When the last writer has closed it, reading a terminal fails with EIO.
	var b bytes.Buffer
	if _, err := io.Copy(&b, master); err != nil && !strings.Contains(err.Error(), syscall.EIO.Error()) {
		t.Error(err)
	}
	_ = cmd.Wait() // the code says it
	m := &terminal{}
	_, _ = m.Write(b.Bytes())
	return b.String(), strings.Join(m.lines, "\n"), cmd.ProcessState.ExitCode()
}

// bars are the lines of progress that were to be seen.
func bars(raw string) []string {
	var list []string
	for _, m := range regexp.MustCompile(`\r([^\r\n\x1b]+)\x1b\[K`).FindAllStringSubmatch(raw, -1) {
		list = append(list, m[1])
	}
	return list
}

// The bar shows done, failed, running, rate, ETA and elapsed time, and goes at the end.
func TestProgressBar(t *testing.T) {
	t.Parallel()
	raw, shown, code := onTerminal(t, 100, false, "map", "-j", "2", "-S", `sleep 0.15; test {} != 2`, ":::", "1", "2", "3", "4", "5", "6", "7", "8")
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	whole := regexp.MustCompile(`^ *\d+%  \[#*\.*\]  \d+/8  1 failed  [12] running  [0-9.]+/(s|min|h)  ETA \d+s  \d+s$`)
	first := regexp.MustCompile(`^  0%  \[\.+\]  0/8  `)
	list := bars(raw)
	found := map[bool]bool{}
	for _, line := range list {
		found[whole.MatchString(line)] = true
		if len(line) > 99 {
			t.Errorf("%d columns: %q", len(line), line)
		}
	}
	if !found[true] || len(list) == 0 || !first.MatchString(list[0]) {
		t.Errorf("the bars: %q", list)
	}
	if strings.Contains(shown, "%") || !strings.HasPrefix(strings.TrimSpace(shown), "navvy: 1 of 8 tasks failed") {
		t.Errorf("in the end the terminal shows %q", shown)
	}
}

// Answers on the same terminal stand there as they are, above the bar, whatever
// goes to which stream; one that ends no line is not overwritten.
func TestAnswersOnTerminal(t *testing.T) {
	t.Parallel()
	raw, shown, code := onTerminal(t, 80, true, "map", "-j", "1", "-S", `sleep 0.12; echo out {}; test {} != 2 || echo err >&2; test {} != 3 || printf open; test {} != 4 || echo closed`, ":::", "1", "2", "3", "4", "5")
	if len(bars(raw)) == 0 {
		t.Errorf("there was no bar: %q", raw)
	}
	want := "out 1\nout 2\nerr\nout 3\nopenout 4\nclosed\nout 5\n"
	if code != 0 || strings.ReplaceAll(shown, "\r", "") != want {
		t.Errorf("exit code %d, the terminal shows\n%s", code, shown)
	}
}

// On a narrow terminal the bar stays on its line; a dumb one, and --quiet, have none.
func TestNarrowTerminal(t *testing.T) {
	t.Parallel()
	raw, _, _ := onTerminal(t, 20, false, "map", "-S", "sleep 0.1; : {}", ":::", "1", "2", "3")
	for _, line := range bars(raw) {
		if len(line) > 19 {
			t.Errorf("%d columns: %q", len(line), line)
		}
	}
	if len(bars(raw)) == 0 {
		t.Error("there was no bar")
	}
	if raw, _, _ := onTerminal(t, 80, false, "map", "--quiet", "-S", "sleep 0.1; : {}", ":::", "1", "2"); raw != "" {
		t.Errorf("%q", raw)
	}
	if raw, _, _ := onTerminal(t, 80, true, "run", "--", "echo", "hello"); raw != "hello\r\n" {
		t.Errorf("run shows %q", raw)
	}
}
