package isolate

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
)

// The users, and groups of the same numbers, that attempts run as. Nobody gives
// these numbers out: they are above those of containers (to 1,879,048,191) and
// of directory services (to 2,000,200,000), and below those that 31 bits do not
// hold; systemd lists them as unused, https://systemd.io/UIDS-GIDS/.
const (
	FirstUID  = 2_100_000_000
	CountUIDs = 1 << 16
)

// DefaultUsersDir is where the processes of a host agree on who has which user.
const DefaultUsersDir = "/run/navvy/uid"

// Users gives users to jobs. A user belongs to one job at a time on the whole
// host, whatever number of processes share the directory: each locks a file that
// bears its number. The kernel frees the lock when the holder dies; what the
// holder left running still keeps its user from being given to others.
// All methods may be called at once.
type Users struct {
	dir   string
	first int
	count int

	mu   sync.Mutex
	next int
	held map[navvy.JobID]*held
}

type held struct {
	uid  int
	file *os.File
	refs int
}

// OpenUsers uses a directory, which it makes if need be, for root alone. The
// error wraps navvy.ErrDenied if others could write to it.
func OpenUsers(dir string) (*Users, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("isolate: users: %w", err)
	}
	var info unix.Stat_t
	if err := unix.Stat(dir, &info); err != nil {
		return nil, fmt.Errorf("isolate: users: %s: %w", dir, err)
	}
	if int(info.Uid) != os.Getuid() || info.Mode&0o022 != 0 {
		return nil, fmt.Errorf("isolate: users: others can write to %s: %w", dir, navvy.ErrDenied)
	}
	return &Users{
		dir: dir, first: FirstUID, count: CountUIDs, held: make(map[navvy.JobID]*held),
		next: rand.IntN(CountUIDs), // what a user left behind is met by the next one as late as can be
	}, nil
}

// Acquire gives the job a user, the same one as long as it has one. Each success
// is followed by one call of release, after the attempt that it was for has
// ended. The error wraps navvy.ErrExhausted if all users are taken.
func (u *Users) Acquire(job navvy.JobID) (uid int, release func(), err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	h := u.held[job]
	if h == nil {
		if h, err = u.take(); err != nil {
			return 0, nil, err
		}
		u.held[job] = h
	}
	h.refs++
	return h.uid, sync.OnceFunc(func() { u.release(job, h) }), nil
}

func (u *Users) release(job navvy.JobID, h *held) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if h.refs--; h.refs > 0 {
		return
	}
	delete(u.held, job)
	_ = os.Remove(h.file.Name()) // while it is locked: whoever waits for this file finds it gone
	_ = h.file.Close()
}

// take locks a user that nobody has.
func (u *Users) take() (*held, error) {
	for range u.count {
		uid := u.first + u.next
		u.next = (u.next + 1) % u.count
		file, err := u.lock(uid)
		if err != nil {
			return nil, fmt.Errorf("isolate: user %d: %w", uid, err)
		}
		if file == nil {
			continue
		}
		// Only with the lock in hand: nobody else begins a process of this user any more.
		taken, err := inUse(uid)
		if err == nil && !taken {
			return &held{uid: uid, file: file}, nil
		}
		_ = file.Close()
		if err != nil {
			return nil, fmt.Errorf("isolate: user %d: %w", uid, err)
		}
	}
	return nil, fmt.Errorf("isolate: all %d users from %d on are taken: %w", u.count, u.first, navvy.ErrExhausted)
}

// lock locks the file of a user; nil if somebody else has.
func (u *Users) lock(uid int) (*os.File, error) {
	path := filepath.Join(u.dir, strconv.Itoa(uid))
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		// Its last holder may have removed it in between: then another one is behind the name.
		mine, errMine := file.Stat()
		there, errThere := os.Stat(path)
		if errMine == nil && errThere == nil && os.SameFile(mine, there) {
			return file, nil
		}
	}
	_ = file.Close()
	if err == nil || errors.Is(err, unix.EWOULDBLOCK) {
		return nil, nil //nolint:nilnil // taken is no error
	}
	return nil, err
}

// inUse tells whether the host has such a user or group, or processes of it,
// which a holder that was killed may have left.
func inUse(uid int) (bool, error) {
	id := strconv.Itoa(uid)
	if _, err := user.LookupId(id); err == nil {
		return true, nil
	}
	if _, err := user.LookupGroupId(id); err == nil {
		return true, nil
	}
	proc, err := os.Open("/proc")
	if err != nil {
		return false, err
	}
	defer proc.Close()
	names, err := proc.Readdirnames(-1)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if name[0] < '0' || name[0] > '9' {
			continue
		}
		raw, err := os.ReadFile("/proc/" + name + "/status")
		if err == nil && hasUser(raw, id) {
			return true, nil
		}
	}
	return false, nil
}

// hasUser tells whether a /proc/PID/status names the user as real, effective,
// saved or that of file access.
func hasUser(status []byte, id string) bool {
	for line := range bytes.Lines(status) {
		if ids, ok := bytes.CutPrefix(line, []byte("Uid:")); ok {
			for field := range bytes.FieldsSeq(ids) {
				if string(field) == id {
					return true
				}
			}
			return false
		}
	}
	return false
}
