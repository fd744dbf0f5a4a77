package sim

import (
	"slices"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine/driver"
)

const idLength = 12

// lookAtTables sees that what lies beside the jobs fits to them, and that
// nothing is left of those that are gone. docs/engine.md names the tables.
func (s *sim) lookAtTables() {
	found, err := s.jobsInTables()
	if !s.read("scan everything", err) {
		return
	}
	open := map[navvy.JobID]bool{}
	for _, sub := range s.subs {
		open[sub.job.id] = true
	}
	for _, j := range s.model.jobs {
		s.lookAtTablesOf(j, found, open[j.id])
		for _, ids := range found {
			delete(ids, j.id)
		}
	}
	for table, ids := range found {
		for id := range ids {
			s.violate(ruleTables, "table %c names job %s, which nobody submitted", table, id)
		}
	}
	logs, ok := s.machine.logs()
	for _, id := range logs {
		if j := s.model.byID(navvy.JobID(id)); ok && (j == nil || !j.sure.exists && !open[j.id]) {
			s.violate(ruleTables, "logs of %v are left", j)
		}
	}
}

// jobsInTables tells which table names which jobs.
func (s *sim) jobsInTables() (map[byte]map[navvy.JobID]bool, error) {
	found := map[byte]map[navvy.JobID]bool{}
	return found, s.store.Scan(s.ctx, driver.Range{}, func(key, value []byte) error {
		table := key[0]
		id := ""
		switch table {
		case 'm', 'g', 'v', 'u', 'f', 'b', 'd':
			return nil
		case 'l', 'o', 'e':
			id = string(key[len(key)-idLength:])
		case 'w':
			id = string(key[len(key)-8-idLength : len(key)-8])
		case 'k':
			id = string(value)
		default:
			id = string(key[1 : 1+idLength])
		}
		if found[table] == nil {
			found[table] = map[navvy.JobID]bool{}
		}
		found[table][navvy.JobID(id)] = true
		return nil
	})
}

func (s *sim) lookAtTablesOf(j *job, found map[byte]map[navvy.JobID]bool, open bool) {
	f := j.sure
	want := map[byte]bool{
		'j': f.exists, 's': f.exists, 'o': f.exists,
		'l': f.exists && !j.ended && !f.held, 'e': f.exists && j.ended && j.letters() == 0, 'w': f.exists && j.letters() > 0,
		'k': f.exists && j.spec.IdempotencyKey != "", 'y': false, 't': false,
	}
	for table, want := range want {
		if found[table][j.id] != want {
			s.violate(ruleTables, "%s is %s, ended %t; in table %c: %t", j, f, j.ended, table, !want)
		}
	}
	if f.exists || open {
		if f.open && !found['n'][j.id] {
			s.violate(ruleCut, "%s is open, and nobody would notice if its submitter died", j)
		}
		return
	}
	for _, table := range slices.Sorted(slices.Values([]byte("iahrpn"))) {
		if found[table][j.id] {
			s.violate(ruleTables, "%s is gone, and something of it is in table %c", j, table)
		}
	}
}
