package process

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/runner/driver"
)

// defaultPath is where programs are looked up if the environment has no PATH.
const defaultPath = "/usr/local/bin:/usr/bin:/bin"

// Found programs are remembered for a while: the tasks of a job all run the same
// one, and a look through PATH costs a system call for each directory. One that
// appears earlier in PATH meanwhile is noticed that much later.
const (
	rememberFor   = time.Second
	rememberCount = 256
)

type lookupKey struct{ name, path, dir string }

type lookupHit struct {
	program string
	until   time.Time
}

var lookups struct {
	sync.Mutex
	found map[lookupKey]lookupHit
}

// lookup finds the program of c as execvp(3) does, in the PATH of c.Env and
// with relative paths starting at c.Dir. fresh asks for more than memory. The
// error is a *driver.Refusal.
func lookup(c *Config, fresh bool) (string, error) {
	if len(c.Args) == 0 || c.Args[0] == "" {
		return "", &driver.Refusal{Reason: navvy.ReasonInput, Message: "the command is empty"}
	}
	name := c.Args[0]
	if hasZero(name) {
		return "", zeroByte(name)
	}
	if strings.Contains(name, "/") {
		return name, nil // the kernel looks, from the working directory
	}
	key := lookupKey{name: name, path: pathOf(c.Env), dir: c.Dir}
	now := time.Now()
	if !fresh {
		lookups.Lock()
		hit, ok := lookups.found[key]
		lookups.Unlock()
		if ok && now.Before(hit.until) {
			return hit.program, nil
		}
	}
	program, err := search(key)
	if err != nil {
		return "", err
	}
	lookups.Lock()
	defer lookups.Unlock()
	if lookups.found == nil || len(lookups.found) >= rememberCount {
		lookups.found = make(map[lookupKey]lookupHit)
	}
	lookups.found[key] = lookupHit{program: program, until: now.Add(rememberFor)}
	return program, nil
}

// pathOf is the PATH of an environment. The last entry wins, as in os/exec.
func pathOf(env []string) string {
	for _, pair := range slices.Backward(env) {
		if path, ok := strings.CutPrefix(pair, "PATH="); ok {
			return path
		}
	}
	return defaultPath
}

func search(key lookupKey) (string, error) {
	denied := ""
	for _, dir := range filepath.SplitList(key.path) {
		// An empty entry is the working directory, by tradition.
		program := filepath.Join(dir, key.name)
		if !strings.Contains(program, "/") {
			program = "./" + program
		}
		err := executable(inDir(key.dir, program))
		if err == nil {
			return program, nil
		}
		if errors.Is(err, fs.ErrPermission) && denied == "" {
			denied = program
		}
	}
	if denied != "" {
		return "", &driver.Refusal{Reason: navvy.ReasonPermission, Message: short(denied) + ": permission denied"}
	}
	return "", &driver.Refusal{
		Reason:  navvy.ReasonNotFound,
		Message: short(key.name) + ": command not found in PATH",
	}
}

// inDir is where path leads from the working directory dir.
func inDir(dir, path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(dir, path)
}

// executable tells why the file cannot be run.
func executable(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if info.IsDir() {
		return fs.ErrNotExist
	}
	return unix.Faccessat(unix.AT_FDCWD, path, unix.X_OK, unix.AT_EACCESS)
}
