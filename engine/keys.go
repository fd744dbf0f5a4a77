package engine

import (
	"encoding/binary"
	"time"

	"github.com/navvy-run/navvy"
)

// The tables: the first letter of each key, and of each value.
const (
	tableMeta    = 'm'
	tableJob     = 'j'
	tableState   = 's'
	tableInput   = 'i'
	tableResult  = 'r'
	tableAttempt = 'a'
	tableHistory = 'h'
	tablePrinted = 'p'
	tableQueued  = 'q' // of format 1, see requeue
	tableLine    = 'l'
	tableOwner   = 'o'
	tableExpiry  = 'e'
	tableIdem    = 'k'
	tableOpen    = 'n'
	tableRetry   = 'y'
	tableTrash   = 't'

	tableRegistry = 'g'
	tableValue    = 'v'
	tableShelf    = 'u'
	tableLetter   = 'w'
	tableFile     = 'f'
	tableContent  = 'b'
	tableLoose    = 'd'
)

const idLength = 12

// keyRoom is enough for all keys that begin with a job's id.
const keyRoom = 1 + idLength + 8 + 8

func jobKey(table byte, id navvy.JobID) []byte {
	return appendJobKey(make([]byte, 0, keyRoom), table, id)
}

func appendJobKey(dst []byte, table byte, id navvy.JobID) []byte {
	return append(append(dst, table), id...)
}

func indexKey(table byte, id navvy.JobID, index int64) []byte {
	return appendIndexKey(make([]byte, 0, keyRoom), table, id, index)
}

func appendIndexKey(dst []byte, table byte, id navvy.JobID, index int64) []byte {
	return binary.BigEndian.AppendUint64(appendJobKey(dst, table, id), uint64(index))
}

func attemptKey(t navvy.TaskID, a navvy.AttemptID) []byte {
	k := indexKey(tableAttempt, t.Job, t.Index)
	k = binary.BigEndian.AppendUint32(k, a.Epoch)
	return binary.BigEndian.AppendUint32(k, a.Number)
}

func historyKey(t navvy.TaskID, round uint32) []byte {
	return binary.BigEndian.AppendUint32(indexKey(tableHistory, t.Job, t.Index), round)
}

// keyIndex is the index in a key that indexKey made, or that begins with one.
func keyIndex(key []byte) int64 {
	return int64(binary.BigEndian.Uint64(key[1+idLength:]))
}

func timeKey(table byte, at time.Time, id navvy.JobID) []byte {
	k := append(make([]byte, 0, 1+8+idLength), table)
	k = binary.BigEndian.AppendUint64(k, uint64(at.UnixNano()))
	return append(k, id...)
}

// ownerPrefix has room for the rest of an ownerKey.
func ownerPrefix(owner string) []byte {
	k := append(make([]byte, 0, 2+len(owner)+8+idLength), tableOwner)
	return append(append(k, owner...), 0)
}

func ownerKey(owner string, at time.Time, id navvy.JobID) []byte {
	k := binary.BigEndian.AppendUint64(ownerPrefix(owner), uint64(at.UnixNano()))
	return append(k, id...)
}

func idempotencyKey(owner, key string) []byte {
	k := append(append([]byte{tableIdem}, owner...), 0)
	return append(k, key...)
}

// keyJob is the id at the end of a key of the line, owner or expiry table.
func keyJob(key []byte) navvy.JobID { return navvy.JobID(key[len(key)-idLength:]) }
