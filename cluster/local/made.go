package local

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/cluster/driver"
	"github.com/navvy-run/navvy/cluster/unit"
)

// made is the record of a resource: what was asked for when it was made. Whether that is
// so still is looked at.
type made struct {
	ID         driver.ID         `json:"id"`
	Needs      []driver.ID       `json:"needs,omitempty"`
	Properties driver.Properties `json:"properties,omitempty"`
	// Data are for whoever removes it.
	Data map[string]string `json:"data,omitempty"`
	// Done says that it was finished.
	Done bool `json:"done,omitempty"`
}

// recordFile is where the record of a resource is. Names of queues may have any characters.
func (s *site) recordFile(id driver.ID) string {
	safe := strings.NewReplacer("/", "%2F", "%", "%25").Replace(id.Name)
	return s.path(madeDir, id.Kind+"-"+safe+".json")
}

// made reads the record of a resource; fs.ErrNotExist if there is none.
func (s *site) made(id driver.ID) (*made, error) { return readMade(s.recordFile(id)) }

func readMade(path string) (*made, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m := new(made)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, err, navvy.ErrCorrupt)
	}
	if m.Data == nil {
		m.Data = map[string]string{}
	}
	return m, nil
}

// writeMade keeps a record. Who was killed behind the mark has not made their directory yet,
// or has removed it already.
func (s *site) writeMade(m *made) error {
	if err := makeDir(s.path(madeDir)); err != nil {
		return err
	}
	return unit.WriteJSON(s.recordFile(m.ID), m)
}

func (s *site) forget(id driver.ID) error {
	err := os.Remove(s.recordFile(id))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// all reads all records.
func (s *site) all() ([]*made, error) {
	entries, err := os.ReadDir(s.path(madeDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	list := make([]*made, 0, len(entries))
	for _, e := range entries {
		if begun(e) || filepath.Ext(e.Name()) != ".json" {
			continue
		}
		m, err := readMade(s.path(madeDir, e.Name()))
		if errors.Is(err, fs.ErrNotExist) {
			continue // it was removed just now
		}
		if err != nil {
			return nil, err
		}
		list = append(list, m)
	}
	return list, nil
}
