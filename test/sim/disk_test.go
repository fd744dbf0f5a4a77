package sim

import (
	"errors"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
)

// disk is a file system in memory. What was not synced may be lost with the
// power, in part: each block of 4 KiB and each entry of a directory by itself.
// What a loss of power leaves follows from the seed alone.
type disk struct {
	mu    sync.Mutex
	root  *node
	used  int64
	limit int64 // how many bytes fit
	// lies keeps the names of files whose Sync does nothing, for the tests that
	// break a rule on purpose.
	lies func(name string) bool
}

const unlimited = int64(1) << 40

func newDisk() *disk { return &disk{root: newDir(), limit: unlimited} }

// node is a file or a directory.
type node struct {
	// Of a directory: what is in it, and what the last Sync made durable.
	children, synced map[string]*node

	// Of a file: what is in it, and what blocks held that were changed since
	// the last Sync; nil for those that lay behind the end.
	data     []byte
	reserved int64
	old      map[int][]byte
	oldSize  int
	links    int
}

const blockSize = 4 << 10

func newDir() *node { return &node{children: map[string]*node{}, synced: map[string]*node{}} }

func (n *node) isDir() bool { return n.children != nil }

func (n *node) size() int64 { return max(int64(len(n.data)), n.reserved) }

// find gives the node at a path.
func (d *disk) find(name string) (*node, error) { return d.root.find(name) }

func (n *node) find(name string) (*node, error) {
	for part := range strings.SplitSeq(strings.Trim(path.Clean(name), "/"), "/") {
		if part == "" || part == "." {
			continue
		}
		if !n.isDir() || n.children[part] == nil {
			return nil, &os.PathError{Op: "open", Path: name, Err: os.ErrNotExist}
		}
		n = n.children[part]
	}
	return n, nil
}

// parent gives the directory that a path lies in, and the name there.
func (d *disk) parent(name string) (*node, string, error) {
	dir, base := path.Split(path.Clean(name))
	n, err := d.find(dir)
	if err == nil && !n.isDir() {
		err = &os.PathError{Op: "open", Path: name, Err: syscall.ENOTDIR}
	}
	return n, base, err
}

// create makes an empty file in the place of whatever had its name.
func (d *disk) create(name string) (*node, error) {
	dir, base, err := d.parent(name)
	if err != nil {
		return nil, err
	}
	d.unlink(dir, base)
	n := &node{old: map[int][]byte{}, links: 1}
	dir.children[base] = n
	return n, nil
}

func (d *disk) unlink(dir *node, base string) {
	if n := dir.children[base]; n != nil && !n.isDir() {
		if n.links--; n.links == 0 {
			d.used -= n.size()
		}
	}
	delete(dir.children, base)
}

func (d *disk) remove(name string, all bool) error {
	dir, base, err := d.parent(name)
	if err != nil {
		return err
	}
	n := dir.children[base]
	switch {
	case n == nil:
		return &os.PathError{Op: "remove", Path: name, Err: os.ErrNotExist}
	case n.isDir() && len(n.children) > 0 && !all:
		return &os.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
	case n.isDir():
		for _, child := range slices.Sorted(maps.Keys(n.children)) {
			if err := d.remove(path.Join(name, child), true); err != nil {
				return err
			}
		}
	}
	d.unlink(dir, base)
	return nil
}

func (d *disk) rename(from, to string) error {
	fromDir, fromBase, err := d.parent(from)
	if err != nil {
		return err
	}
	n := fromDir.children[fromBase]
	if n == nil {
		return &os.PathError{Op: "rename", Path: from, Err: os.ErrNotExist}
	}
	toDir, toBase, err := d.parent(to)
	if err != nil {
		return err
	}
	delete(fromDir.children, fromBase)
	d.unlink(toDir, toBase)
	toDir.children[toBase] = n
	return nil
}

func (d *disk) link(from, to string) error {
	n, err := d.find(from)
	if err != nil {
		return err
	}
	dir, base, err := d.parent(to)
	if err != nil {
		return err
	}
	if dir.children[base] != nil {
		return &os.LinkError{Op: "link", Old: from, New: to, Err: os.ErrExist}
	}
	n.links++
	dir.children[base] = n
	return nil
}

func (d *disk) mkdirAll(name string) error {
	n := d.root
	for part := range strings.SplitSeq(strings.Trim(path.Clean(name), "/"), "/") {
		if n.children[part] == nil {
			n.children[part] = newDir()
		}
		if n = n.children[part]; !n.isDir() {
			return &os.PathError{Op: "mkdir", Path: name, Err: syscall.ENOTDIR}
		}
	}
	return nil
}

// grow makes room for a file of so many bytes; syscall.ENOSPC if there is none, and a
// ballast to give up. Without one there is space again at once: a write would wait for
// it, perhaps with a lock of the storage engine, and in a bubble time stands still
// while somebody waits for a lock.
func (d *disk) grow(n *node, size int64) error {
	more := size - n.size()
	if more <= 0 {
		return nil
	}
	if d.used+more > d.limit {
		if n, err := d.find("/store/ballast"); err == nil && n.size() >= ballast {
			return syscall.ENOSPC
		}
		d.limit = unlimited
	}
	d.used += more
	return nil
}

func (d *disk) writeAt(n *node, p []byte, off int) error {
	end := off + len(p)
	if err := d.grow(n, int64(end)); err != nil {
		return err
	}
	for b := off / blockSize; b*blockSize < end; b++ {
		if _, changed := n.old[b]; !changed {
			start := min(b*blockSize, n.oldSize)
			n.old[b] = slices.Clone(n.data[start:min(start+blockSize, n.oldSize)])
		}
	}
	if more := end - len(n.data); more > 0 {
		n.data = append(n.data, make([]byte, more)...)
	}
	copy(n.data[off:], p)
	return nil
}

func (n *node) sync() {
	if n.isDir() {
		n.synced = maps.Clone(n.children)
		return
	}
	clear(n.old)
	n.oldSize = len(n.data)
}

// crash loses what was not synced, each piece of it kept with the given chance.
// The process that was mounted still sees what there was.
func (d *disk) crash(rng *rand.Rand, percent int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	keep := func() bool { return rng.IntN(100) < percent }
	d.root = d.root.left(keep, map[*node]*node{})
	d.used = 0
	d.root.count(map[*node]bool{}, d)
	d.limit = unlimited
}

// left is what a loss of power leaves of the node; seen has those that are done.
func (n *node) left(keep func() bool, seen map[*node]*node) *node {
	if seen[n] != nil {
		return seen[n]
	}
	if !n.isDir() {
		seen[n] = n.torn(keep)
		return seen[n]
	}
	dir := newDir()
	seen[n] = dir
	names := slices.Concat(slices.Collect(maps.Keys(n.children)), slices.Collect(maps.Keys(n.synced)))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		child, was := n.children[name], n.synced[name]
		if child != was && !keep() {
			child = was
		}
		if child != nil {
			dir.children[name] = child.left(keep, seen)
		}
	}
	dir.sync()
	return dir
}

// torn is a file without blocks that were not synced, some of them.
func (n *node) torn(keep func() bool) *node {
	data, size := slices.Clone(n.data), n.oldSize
	for _, b := range slices.Sorted(maps.Keys(n.old)) {
		block := data[b*blockSize : min((b+1)*blockSize, len(data))]
		if keep() {
			size = max(size, b*blockSize+len(block))
			continue
		}
		clear(block)
		copy(block, n.old[b])
	}
	return &node{data: data[:size], old: map[int][]byte{}, oldSize: size}
}

// count adds up what is used.
func (n *node) count(seen map[*node]bool, d *disk) {
	if !n.isDir() {
		if !seen[n] {
			seen[n], n.links = true, 0
			d.used += n.size()
		}
		n.links++
		return
	}
	for _, child := range n.children {
		child.count(seen, d)
	}
}

// fill leaves so many bytes free; free takes that back.
func (d *disk) fill(left int64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.limit = d.used + left
}

func (d *disk) free() { d.fill(unlimited) }

// list names what is in a directory; nothing if there is none.
func (d *disk) list(dir string) []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	n, err := d.find(dir)
	if err != nil || !n.isDir() {
		return nil
	}
	return slices.Sorted(maps.Keys(n.children))
}

var errPower = errors.New("the power is off")
