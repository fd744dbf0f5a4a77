package sim

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/engine/driver"
)

// files are what the engine should keep: what each name holds, or, after a call that was
// cut, perhaps one of those.
type files struct {
	sure  map[string]string
	maybe []map[string]string
	// begun are those whose writers go on, for as long as this boot lasts.
	begun []*engine.FileWriter
}

// longFile is more than what the map takes.
const longFile = 64<<10 + 1

// fileChange is one call about a file, and what it should do.
type fileChange struct {
	what  string
	fits  bool // its conditions hold
	after map[string]string
	call  func() error
}

// drawFileChange draws a put, a move or a removal.
func (s *sim) drawFileChange(name, content string) fileChange {
	sure := s.model.files.sure
	old, exists := sure[name]
	c := fileChange{fits: true, after: maps.Clone(sure)}
	var o engine.FileOptions
	switch s.rng.IntN(5) {
	case 0:
		c.what, c.fits = "remove", exists
		delete(c.after, name)
		c.call = func() error { return s.eng.Files().Delete(s.ctx, name) }
		return c
	case 1:
		to := fmt.Sprint("file ", s.rng.IntN(3))
		c.what, c.fits = "move to "+to, exists
		delete(c.after, name)
		c.after[to] = old
		c.call = func() error { return s.eng.Files().Move(s.ctx, name, to) }
		return c
	case 2:
		o.IfAbsent, c.fits = true, !exists
	}
	c.what = fmt.Sprintf("put %d bytes", len(content))
	c.after[name] = content
	c.call = func() error { return s.putFile(name, content, o) }
	return c
}

// changeFile puts, moves or removes a file, or begins one and lets it lie.
func (s *sim) changeFile() {
	if !s.lookAtFiles() {
		return
	}
	name, content := fmt.Sprint("file ", s.rng.IntN(3)), fmt.Sprintf("step %d, boot %d", s.steps, s.boots)
	if s.chance(50) {
		content += strings.Repeat(".", longFile)
	}
	if s.chance(15) {
		s.beginFile(name, content)
		return
	}
	m, c := &s.model.files, s.drawFileChange(name, content)
	err := c.call()
	s.note("%s, %s: %v", name, c.what, err)
	switch s.call("change a file", err, navvy.ErrNotFound, navvy.ErrExists, navvy.ErrExhausted) {
	case cut:
		if c.fits {
			m.maybe = append(m.maybe, c.after)
		}
	case refused:
		if c.fits && !errors.Is(err, navvy.ErrExhausted) {
			s.violate(ruleFiles, "%s, %s, whose conditions hold: %v", name, c.what, err)
		}
	case done:
		if !c.fits {
			s.violate(ruleFiles, "%s, %s is made, whose conditions do not hold", name, c.what)
		}
		m.sure = c.after
	}
}

func (s *sim) putFile(name, content string, o engine.FileOptions) error {
	w, err := s.eng.Files().Create(s.ctx, name, o)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(w, content); err != nil {
		return errors.Join(err, w.Abort())
	}
	_, err = w.Commit(s.ctx)
	return err
}

// beginFile begins a file, and perhaps gives up those that were begun.
func (s *sim) beginFile(name, content string) {
	m := &s.model.files
	w, err := s.eng.Files().Create(s.ctx, name, engine.FileOptions{})
	if err == nil {
		m.begun = append(m.begun, w)
		_, err = io.WriteString(w, content)
	}
	s.note("begin %s: %v", name, err)
	if s.call("begin a file", err, navvy.ErrExhausted) != cut && s.chance(30) {
		for _, w := range m.begun {
			s.call("give a file up", w.Abort())
		}
		m.begun = nil
	}
}

// lookAtFiles compares what there is with what should be, and settles what a cut call has
// left open; false if it could not see it, or did not like it.
func (s *sim) lookAtFiles() bool {
	got, logged := map[string]string{}, 0
	err := s.eng.Files().Scan(s.ctx, "", "", func(f *engine.File) error {
		if f.Logged {
			logged++
		}
		r, err := s.eng.Files().Open(s.ctx, f.Name)
		if err != nil {
			return err
		}
		b, err := io.ReadAll(io.NewSectionReader(r, 0, math.MaxInt64))
		got[f.Name] = string(b)
		return errors.Join(err, r.Close())
	})
	if errors.Is(err, navvy.ErrCorrupt) {
		s.violate(ruleFiles, "%v", err)
	}
	if !s.read("read files", err) {
		return false
	}
	m := &s.model.files
	same := func(other map[string]string) bool { return maps.Equal(got, other) }
	if !same(m.sure) && !slices.ContainsFunc(m.maybe, same) {
		s.violate(ruleFiles, "there are %q, should be %q", brief(got), brief(m.sure))
	}
	m.sure, m.maybe = got, nil
	return s.lookForLoose(logged) && s.bad == nil
}

// lookForLoose sees that nothing is left of files that are gone.
func (s *sim) lookForLoose(logged int) bool {
	loose := 0
	err := s.store.Scan(s.ctx, driver.Prefix([]byte{'d'}), func(_, _ []byte) error { loose++; return nil })
	if !s.read("scan contents that no file names", err) {
		return false
	}
	if s.filled || s.machine.hit() {
		return true // what could not be dropped then, the next start drops
	}
	if begun := len(s.model.files.begun); loose > begun {
		s.violate(ruleFiles, "%d contents are noted that no file names, and %d are begun", loose, begun)
	}
	if n, ok := s.machine.fileLogs(); ok && (n < logged || n > logged+loose) {
		s.violate(ruleFiles, "there are %d logs of %d files, and of %d that are noted", n, logged, loose)
	}
	return true
}

// brief is what files hold, without its length.
func brief(m map[string]string) map[string]string {
	short := maps.Clone(m)
	for name, content := range short {
		short[name] = fmt.Sprintf("%.20s (%d)", content, len(content))
	}
	return short
}
