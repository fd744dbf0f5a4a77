package postgres

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/navvy-run/navvy/engine/driver"
)

// statements are what is run on one schema.
type statements struct {
	check, put, putAbsent, remove, removeRange, removeFrom string
	get, scan, scanBack                                    string
	flush                                                  string
	createLog, findLog, dropLogs                           string
	addChunk, readChunks                                   string
}

func statementsFor(schema string) statements {
	in := strings.NewReplacer("SCHEMA", schema).Replace
	return statements{
		check: in(`SELECT SCHEMA.check_conditions($1, $2, $3)`),
		put: in(`INSERT INTO SCHEMA.kv (key, value) SELECT * FROM unnest($1::bytea[], $2::bytea[])
			ON CONFLICT (key) DO UPDATE SET value = excluded.value`),
		putAbsent:   in(`SELECT SCHEMA.put_absent($1, $2)`),
		remove:      in(`DELETE FROM SCHEMA.kv WHERE key = ANY ($1::bytea[])`),
		removeRange: in(`DELETE FROM SCHEMA.kv WHERE key >= $1 AND key < $2`),
		removeFrom:  in(`DELETE FROM SCHEMA.kv WHERE key >= $1`),
		get:         in(`SELECT value FROM SCHEMA.kv WHERE key = $1`),
		scan:        in(`SELECT key, value FROM SCHEMA.kv WHERE key >= $1 AND ($2::bytea IS NULL OR key < $2) ORDER BY key LIMIT $3`),
		scanBack:    in(`SELECT key, value FROM SCHEMA.kv WHERE key >= $1 AND ($2::bytea IS NULL OR key < $2) ORDER BY key DESC LIMIT $3`),
		flush:       in(`UPDATE SCHEMA.meta SET flushes = flushes + 1`),
		createLog:   in(`INSERT INTO SCHEMA.log (name) VALUES ($1)`),
		findLog:     in(`SELECT id FROM SCHEMA.log WHERE name = $1`),
		dropLogs:    in(`DELETE FROM SCHEMA.log WHERE name = $1 OR name >= $1 || '/' AND name < $1 || '0'`),
		addChunk:    in(`INSERT INTO SCHEMA.chunk (log, start, data) VALUES ($1, $2, $3)`),
		readChunks: in(`SELECT start, length(data), substring(data FROM greatest($2 - start, 0)::int + 1 FOR $4)
			FROM SCHEMA.chunk WHERE log = $1 AND start > $2 - $5 AND start < $3 ORDER BY start`),
	}
}

// Apply implements driver.Store. Nothing is changed if it returns an error other
// than navvy.ErrUnavailable.
func (s *Store) Apply(ctx context.Context, b *driver.Batch) error {
	if err := b.Validate(); err != nil {
		return fmt.Errorf("postgres: apply: %w", err)
	}
	if err := s.life.Begin(ctx); err != nil {
		return fmt.Errorf("postgres: apply: %w", err)
	}
	defer s.life.Done()
	// If ctx ends the call may return while the job still is to be done.
	steps, conditions := stepsOf(b), conditionsOf(b)
	run := func(to *pgx.Batch) {
		rest := steps
		if absent, others, ok := conditions.within(steps); ok {
			to.Queue(s.sql.putAbsent, absent.keys, absent.values)
			rest = append([]step{others}, steps[1:]...)
		} else if conditions.any() {
			to.Queue(s.sql.check, conditions.absent, conditions.keys, conditions.values)
		}
		for _, step := range rest {
			step.queue(to, &s.sql)
		}
	}
	err := s.do(ctx, &job{changes: len(steps) > 0, run: run})
	if conflict := conflictOf(err); conflict != nil {
		return conflict
	}
	if err != nil {
		return fmt.Errorf("postgres: apply: %w", known(err))
	}
	return nil
}

// conflictOf returns what check_conditions has found, if that is the error.
func conflictOf(err error) *driver.ConflictError {
	answer, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || answer.Code != conflictCode {
		return nil
	}
	conflict := new(driver.ConflictError)
	for word := range strings.FieldsSeq(answer.Detail) {
		if key, err := hex.DecodeString(word); err == nil {
			conflict.Keys = append(conflict.Keys, key)
		}
	}
	return conflict
}

// arena holds copies of what a caller handed in, in few pieces of memory.
type arena []byte

// add returns a copy of p, never nil.
func (a *arena) add(p []byte) []byte {
	if cap(*a)-len(*a) < len(p) {
		*a = make([]byte, 0, max(4<<10, len(p)))
	}
	start := len(*a)
	*a = append(*a, p...)
	if len(p) == 0 {
		return []byte{}
	}
	return (*a)[start:len(*a):len(*a)]
}

// conditions are those of a batch, by kind.
type conditions struct{ absent, keys, values [][]byte }

func conditionsOf(b *driver.Batch) conditions {
	// Not nil, which would be NULL.
	c := conditions{absent: [][]byte{}, keys: [][]byte{}, values: [][]byte{}}
	var copies arena
	for _, condition := range b.Conditions {
		if condition.Absent {
			c.absent = append(c.absent, copies.add(condition.Key))
		} else {
			c.keys = append(c.keys, copies.add(condition.Key))
			c.values = append(c.values, copies.add(condition.Value))
		}
	}
	return c
}

func (c *conditions) any() bool { return len(c.absent)+len(c.keys) > 0 }

// within tells whether the conditions are only that keys be absent which the
// first step puts, as it is with results. Then putting them tells whether they
// were absent. It returns the puts of those keys and the others.
func (c *conditions) within(steps []step) (absent, others step, ok bool) {
	if len(c.absent) == 0 || len(c.keys) > 0 || len(steps) == 0 || steps[0].kind != driver.OpPut {
		return step{}, step{}, false
	}
	first := &steps[0]
	conditional := make([]bool, len(first.keys))
	for _, key := range c.absent {
		i, found := slices.BinarySearchFunc(first.keys, key, bytes.Compare)
		if !found {
			return step{}, step{}, false
		}
		conditional[i] = true
	}
	absent.kind, others.kind = driver.OpPut, driver.OpPut
	for i, key := range first.keys {
		to := &others
		if conditional[i] {
			to = &absent
		}
		to.keys, to.values = append(to.keys, key), append(to.values, first.values[i])
	}
	return absent, others, true
}

// step is a run of changes of one kind, one statement.
type step struct {
	kind   driver.OpKind
	keys   [][]byte
	values [][]byte
}

// stepsOf groups changes of one kind that follow each other; ranges stay alone.
func stepsOf(b *driver.Batch) []step {
	var steps []step
	copies := make(arena, 0, b.Size())
	for _, op := range b.Ops {
		if len(steps) == 0 || steps[len(steps)-1].kind != op.Kind || op.Kind == driver.OpDeleteRange {
			steps = append(steps, step{kind: op.Kind})
		}
		last := &steps[len(steps)-1]
		last.keys = append(last.keys, copies.add(op.Key))
		last.values = append(last.values, copies.add(op.Value))
	}
	for i := range steps {
		if steps[i].kind == driver.OpPut {
			steps[i].unique()
		}
	}
	return steps
}

// unique leaves the last put to each key: one statement may set a row once.
func (p *step) unique() {
	order := make([]int, len(p.keys))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return bytes.Compare(p.keys[a], p.keys[b]) })
	keys, values := make([][]byte, 0, len(order)), make([][]byte, 0, len(order))
	for n, i := range order {
		if n+1 < len(order) && bytes.Equal(p.keys[i], p.keys[order[n+1]]) {
			continue
		}
		keys, values = append(keys, p.keys[i]), append(values, p.values[i])
	}
	p.keys, p.values = keys, values
}

func (p *step) queue(to *pgx.Batch, sql *statements) {
	switch {
	case len(p.keys) == 0:
	case p.kind == driver.OpPut:
		to.Queue(sql.put, p.keys, p.values)
	case p.kind == driver.OpDelete:
		to.Queue(sql.remove, p.keys)
	case len(p.values[0]) == 0:
		to.Queue(sql.removeFrom, p.keys[0])
	default:
		to.Queue(sql.removeRange, p.keys[0], p.values[0])
	}
}
