package pebble

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	lsm "github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/atomicfs"

	"github.com/navvy-run/navvy"
)

// When the storage engine reads its newest log of changes, or its manifest, and
// meets a record that is not sound, it takes that for the end, as it must after
// a loss of power: what was being written may be there in part. If it was
// damage, though, acknowledged changes behind it would silently be gone. So
// each batch begins with a mark, which tells the batch's number and how many
// batches were durable when it was written, and before the storage engine
// starts we look behind the end for a mark which proves that more was durable.
// Of the records that were the last to be synced there is no such proof, unless
// the store was closed: then the last record of all is a mark.

// markSize is how many bytes the mark adds to a batch, in front.
const markSize = 16

// markAt is where the mark is in a batch: behind a header of twelve bytes, the
// kind of entry and the mark's length.
const markAt = 12 + 1 + 1

// setMark fills in the mark of a batch that begins with one.
func setMark(batch *lsm.Batch, number, durable uint64) {
	mark := batch.Repr()[markAt:]
	binary.LittleEndian.PutUint64(mark, number)
	binary.LittleEndian.PutUint64(mark[8:], durable)
}

// markOf reads the mark of a batch from its first bytes; zeros if there is none.
func markOf(head []byte) (number, durable uint64) {
	if len(head) < markAt+markSize ||
		lsm.InternalKeyKind(head[12]) != lsm.InternalKeyKindLogData || head[13] != markSize {
		return 0, 0
	}
	mark := head[markAt:]
	return binary.LittleEndian.Uint64(mark), binary.LittleEndian.Uint64(mark[8:])
}

// checkRecords looks for damage that the storage engine would take for the end
// of its log or its manifest. Its errors name the file and wrap navvy.ErrCorrupt.
func checkRecords(fs vfs.FS, dir string) error {
	manifest, err := atomicfs.ReadMarker(fs, dir, "manifest")
	if err != nil {
		return err
	}
	if manifest != "" {
		if err := checkFile(fs, fs.PathJoin(dir, manifest), checkManifest); err != nil {
			return err
		}
	}
	name, number, err := newestLog(fs, dir)
	if err != nil || name == "" {
		return err
	}
	return checkFile(fs, fs.PathJoin(dir, name), func(f *recordFile) (int64, bool, error) {
		f.log, f.number = true, uint32(number)
		return checkLog(f)
	})
}

// newestLog finds the log with the highest number. The older ones were closed,
// so there the storage engine itself takes an early end for damage.
func newestLog(fs vfs.FS, dir string) (newest string, number uint64, err error) {
	names, err := fs.List(dir)
	if err != nil {
		return "", 0, err
	}
	for _, name := range names {
		base, isLog := strings.CutSuffix(name, ".log")
		if n, err := strconv.ParseUint(base, 10, 64); isLog && err == nil && n >= number {
			newest, number = name, n
		}
	}
	return newest, number, nil
}

// checkFile has a file checked: where it ceases to be sound, and whether it
// once was sound beyond.
func checkFile(fs vfs.FS, path string, check func(f *recordFile) (int64, bool, error)) error {
	file, err := fs.Open(path, vfs.SequentialReadsOption)
	if errors.Is(err, os.ErrNotExist) {
		return nil // the storage engine will tell
	}
	if err != nil {
		return err
	}
	lost, damaged, err := check(&recordFile{r: file})
	if err == nil && damaged {
		err = fmt.Errorf("%s is damaged at byte %d, and what follows was acknowledged: restore the directory from a copy: %w",
			path, lost, navvy.ErrCorrupt)
	}
	return errors.Join(err, file.Close())
}

// checkManifest rests on this: each record was synced before the next was begun.
func checkManifest(f *recordFile) (lost int64, damaged bool, err error) {
	lost, err = f.records(func([]byte) {}, func(c chunk) { damaged = damaged || c.first })
	return lost, damaged, err
}

func checkLog(f *recordFile) (lost int64, damaged bool, err error) {
	var last uint64 // the number of the last sound batch, 0 if there is none
	lost, err = f.records(
		func(head []byte) { last, _ = markOf(head) },
		func(c chunk) {
			if !c.first {
				return
			}
			_, durable := markOf(c.payload)
			// Without a sound batch the first number in the file is not known.
			// But the first sync of a file made its first batch durable.
			damaged = damaged || last > 0 && durable > last || last == 0 && c.synced > 0
		})
	return lost, damaged, err
}
