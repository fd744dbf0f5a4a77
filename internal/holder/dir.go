package holder

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/runner"
	"github.com/navvy-run/navvy/server"
	"github.com/navvy-run/navvy/share"
	"github.com/navvy-run/navvy/share/enginebucket"
	"github.com/navvy-run/navvy/share/place"
)

// Names in the data directory.
const (
	lockName    = "lock"
	socketName  = "navvy.sock"
	storeName   = "store"
	workerName  = "worker"
	journalName = "journal"
	workName    = "work"
	tasksName   = "tasks.sock"
	shareName   = "share"
	// LogName is where a background holder logs.
	LogName = "holder.log"
)

// StoreDir is where the embedded store lies in a data directory.
func StoreDir(dir string) string { return filepath.Join(dir, storeName) }

// WorkDir is where private directories of attempts are made, in a data directory.
func (d *Dir) WorkDir() string { return d.join(workerName + "/" + workName) }

// ShareDir is where the files of owners lie in a data directory.
func ShareDir(dir string) string { return filepath.Join(dir, shareName) }

// OpenShare opens the files of owners in the data directory, for which it makes the place.
func (d *Dir) OpenShare() (*share.Share, error) {
	at := ShareDir(d.path)
	if err := os.MkdirAll(at, 0o700); err != nil {
		return nil, dirError(d.path, err)
	}
	return share.OpenDir(at)
}

// KeepsFiles tells whether there are files of owners in the data directory.
func (d *Dir) KeepsFiles() (bool, error) {
	list, err := os.ReadDir(ShareDir(d.path))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return false, dirError(d.path, err)
	}
	return slices.ContainsFunc(list, func(e fs.DirEntry) bool { return e.Name() != place.Own && e.Name() != server.ShareIDFile }), nil
}

// EngineShare is a share that the engine keeps, as long as its store is open.
func EngineShare(eng *engine.Engine) *share.Share {
	files := eng.Files()
	return share.OpenSums("engine", enginebucket.Open(files), files.Move)
}

// OpenFiles opens the files of one owner in the data directory, past whoever holds it.
func (d *Dir) OpenFiles(owner string) (*share.Share, error) {
	s, err := d.OpenShare()
	if err != nil {
		return nil, err
	}
	return s.Sub(server.OwnerFolder(owner))
}

// HasFiles tells whether there have ever been files of an owner in a data directory.
func HasFiles(dir, owner string) bool {
	_, err := os.Stat(filepath.Join(ShareDir(dir), server.OwnerFolder(owner)))
	return err == nil
}

// WorkerDir is where a worker keeps what it has to remember, in a data directory.
func (d *Dir) WorkerDir() string { return d.join(workerName) }

// TaskSocket is where tasks reach the navvy that runs them, in a data directory.
func (d *Dir) TaskSocket() string { return d.join(workerName + "/" + tasksName) }

// OpenJournal opens the journal of what runs, in the worker's directory, which it makes.
func (d *Dir) OpenJournal() (*runner.Journal, error) {
	if err := os.MkdirAll(d.WorkerDir(), 0o700); err != nil {
		return nil, dirError(d.path, err)
	}
	j, err := runner.OpenJournal(d.join(workerName + "/" + journalName))
	if err != nil {
		return nil, fmt.Errorf("data directory %s: %w", d.path, err)
	}
	return j, nil
}

// Dir is a data directory that this process may use.
type Dir struct {
	path string
	// fsType gives the type of the file system that holds a path, as statfs(2) numbers them.
	fsType func(path string) (int64, error)
}

// OpenDir makes the data directory if there is none, and checks that it is
// ours, closed to others, and on a local file system. Errors wrap ErrDenied,
// ErrInvalid or ErrUnsupported, name the directory and say what to do.
func OpenDir(path string) (*Dir, error) { return openDir(path, statfsType) }

func openDir(path string, fsType func(string) (int64, error)) (*Dir, error) {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, fmt.Errorf("data directory: %w", err)
	}
	if err := os.MkdirAll(path, 0o700); err != nil {
		return nil, dirError(path, err)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, dirError(path, err)
	}
	if !info.IsDir() {
		return nil, fmt.Errorf("data directory %s is a file; give another one with --data: %w", path, navvy.ErrInvalid)
	}
	if owner := info.Sys().(*syscall.Stat_t).Uid; int(owner) != os.Geteuid() {
		return nil, fmt.Errorf("data directory %s belongs to user %d, not to you; give another one with --data: %w", path, owner, navvy.ErrDenied)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("data directory %s is open to other users (mode %04o); close it with chmod 700: %w", path, info.Mode().Perm(), navvy.ErrDenied)
	}
	d := &Dir{path: path, fsType: fsType}
	return d, d.checkLocal()
}

func dirError(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("data directory %s cannot be written (%w); give another one with --data or NAVVY_DATA: %w", path, err, navvy.ErrDenied)
	case errors.Is(err, syscall.ENOTDIR), errors.Is(err, fs.ErrExist):
		return fmt.Errorf("data directory %s: a part of the path is a file: %w", path, navvy.ErrInvalid)
	default:
		return fmt.Errorf("data directory %s: %w", path, err)
	}
}

func statfsType(path string) (int64, error) {
	var st unix.Statfs_t
	err := unix.Statfs(path, &st)
	return st.Type, err
}

// networked are file systems on which neither flock nor fsync mean what they do locally.
var networked = map[int64]string{
	unix.NFS_SUPER_MAGIC: "NFS", unix.SMB_SUPER_MAGIC: "SMB", unix.SMB2_SUPER_MAGIC: "SMB", unix.CIFS_SUPER_MAGIC: "CIFS",
	unix.AFS_SUPER_MAGIC: "AFS", unix.AFS_FS_MAGIC: "AFS", unix.CODA_SUPER_MAGIC: "Coda", unix.CEPH_SUPER_MAGIC: "Ceph",
	unix.V9FS_MAGIC: "9P", unix.NCP_SUPER_MAGIC: "NCP", 0x0BD00BD0: "Lustre", 0x47504653: "GPFS", 0x01161970: "GFS2", 0x7461636f: "OCFS2",
}

func (d *Dir) checkLocal() error {
	t, err := d.fsType(d.path)
	if err != nil {
		return dirError(d.path, err)
	}
	if name, ok := networked[t]; ok {
		return fmt.Errorf("data directory %s is on a network file system (%s), where locks and flushes cannot be trusted; give a local one with --data or NAVVY_DATA: %w",
			d.path, name, navvy.ErrUnsupported)
	}
	return nil
}

// Path is the directory's absolute path.
func (d *Dir) Path() string { return d.path }

// LockPath is the file that the holder of the directory has locked.
func (d *Dir) LockPath() string { return d.join(lockName) }

func (d *Dir) join(name string) string { return filepath.Join(d.path, name) }

// Lock is the right to hold a data directory, until Unlock or the end of the process.
type Lock struct{ file *os.File }

// TryLock takes the lock, or returns nil and the process that has it: 0 if that is not known.
func (d *Dir) TryLock() (lock *Lock, pid int, err error) {
	f, err := os.OpenFile(d.join(lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, 0, dirError(d.path, err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		defer f.Close()
		_, _ = fmt.Fscan(f, &pid) // nothing there yet: 0
		return nil, pid, nil
	}
	if err == nil {
		err = writePid(f)
	}
	if err != nil {
		return nil, 0, errors.Join(dirError(d.path, err), f.Close())
	}
	return &Lock{file: f}, os.Getpid(), nil
}

func writePid(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0)
	return err
}

// Unlock gives the directory free, at once: closing alone would leave the lock to
// a process that is being started at this moment, until it has its program.
func (l *Lock) Unlock() error {
	return errors.Join(unix.Flock(int(l.file.Fd()), unix.LOCK_UN), l.file.Close())
}
