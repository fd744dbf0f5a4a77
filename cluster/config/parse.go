package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/navvy-run/navvy"
)

// maxFile bounds a file, in bytes.
const maxFile = 1 << 20

// Load reads the file of a cluster, as Read does; Dir is its directory. Errors wrap
// navvy.ErrInvalid, but for those of the file system.
func Load(path string) (*Cluster, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("cluster: %w", err)
	}
	return Read(path, text, filepath.Dir(path))
}

// Read is Parse and Validate in one: what makes no sense is told with its line, too. dir is
// where paths in the file begin. The error is a *Mistakes.
func Read(name string, text []byte, dir string) (*Cluster, error) {
	return ReadWith(name, text, dir, func(*Cluster) error { return nil })
}

// ReadWith is Read of a file that is changed before it is looked at whether it makes sense. An
// error of change is given as it is.
func ReadWith(name string, text []byte, dir string, change func(*Cluster) error) (*Cluster, error) {
	c, d, err := parse(name, text)
	if err != nil {
		return nil, err
	}
	if err := change(c); err != nil {
		return nil, err
	}
	m := &Mistakes{File: name}
	for _, one := range check(c) {
		m.add(d.lineOf(one.Key), cmp.Or(d.older[one.Key], one.Key), "%s", one.Why)
	}
	if err := m.err(); err != nil {
		return nil, err
	}
	c.Dir = dir
	return c, nil
}

// Parse reads the file of a cluster in YAML or JSON, or a configuration of CloudWorker. What
// it does not know it refuses, with the line and what may have been meant; whether the whole
// makes sense says Validate. The name is the file's, for messages. The error is a *Mistakes,
// and tells several at once.
func Parse(name string, text []byte) (*Cluster, error) {
	c, _, err := parse(name, text)
	return c, err
}

// parse is Parse, with what is known of the lines.
func parse(name string, text []byte) (*Cluster, *decoder, error) {
	d := &decoder{mistakes: Mistakes{File: name}, lines: map[string]int{}, meant: map[string]bool{}}
	root := d.document(text)
	if root == nil {
		return nil, nil, d.mistakes.err()
	}
	c := &Cluster{}
	switch ours, theirs := keysOf(root); {
	case ours != nil && theirs != nil:
		d.wrong(theirs, theirs.Value, "it is a key of CloudWorker, and %s one of navvy: a file has those of one of the two", ours.Value)
	case theirs != nil:
		d.cloudWorker(root, name, c)
	default:
		d.cluster(root, c)
	}
	if err := d.mistakes.err(); err != nil {
		return nil, nil, err
	}
	return c, d, nil
}

// cluster reads a file of our own.
func (d *decoder) cluster(root *yaml.Node, c *Cluster) {
	for i := range keys {
		d.others = append(d.others, keys[i].path)
	}
	dropSchema(root)
	d.section(root, reflect.ValueOf(c).Elem(), "")
	if c.Version > Version {
		d.mistakes.add(d.lines["version"], "version", "%d is newer than this navvy, which reads %d; a newer navvy reads it", c.Version, Version)
	}
	count, auto := d.lines["workers.count"], d.lines["workers.autoscale"]
	if at := d.lines["workers"]; at > 0 && count == 0 && auto == 0 && !d.meant["workers.count"] {
		d.mistakes.add(at, "workers.count", "it is missing: how many workers there are")
	}
}

// dropSchema takes out the key by which editors find the schema of a file in JSON.
func dropSchema(root *yaml.Node) {
	for i := 0; i+1 < len(root.Content); i += 2 {
		if root.Content[i].Value == "$schema" && root.Content[i+1].Kind == yaml.ScalarNode {
			root.Content = append(root.Content[:i:i], root.Content[i+2:]...)
			return
		}
	}
}

// document reads the one document of a file; nil after a mistake.
func (d *decoder) document(text []byte) *yaml.Node {
	if len(text) > maxFile {
		d.mistakes.add(0, "", "it has more than %d MiB", maxFile>>20)
		return nil
	}
	text = plainJSON(bytes.TrimPrefix(text, []byte("\ufeff")))
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var doc, more yaml.Node
	err := decoder.Decode(&doc)
	if err == nil && len(doc.Content) == 1 && !isNull(doc.Content[0]) {
		switch err := decoder.Decode(&more); {
		case err == nil:
			d.mistakes.add(more.Line, "", "there is more than one document in it; a cluster has a file of its own")
			return nil
		case !errors.Is(err, io.EOF):
			d.broken(text, err)
			return nil
		}
		return doc.Content[0]
	}
	if err != nil && !errors.Is(err, io.EOF) {
		d.broken(text, err)
		return nil
	}
	d.mistakes.add(0, "", "there is nothing in it; navvy cluster init writes a file to begin with")
	return nil
}

var yamlLine = regexp.MustCompile(`^line (\d+): `)

// broken tells of a text that is neither YAML nor JSON. An error at its end is that of a file
// that somebody is still writing.
func (d *decoder) broken(text []byte, err error) {
	message, line := strings.TrimPrefix(err.Error(), "yaml: "), 0
	if m := yamlLine.FindStringSubmatch(message); m != nil {
		line, _ = strconv.Atoi(m[1])
		message = message[len(m[0]):]
	}
	var syntax *json.SyntaxError
	if begins(text, '{') && errors.As(json.Unmarshal(text, new(any)), &syntax) {
		line = 1 + bytes.Count(text[:min(int(syntax.Offset), len(text))], []byte("\n"))
		message = syntax.Error()
	}
	end := 1 + bytes.Count(bytes.TrimSpace(text), []byte("\n"))
	if line >= end || strings.Contains(message, "unexpected end") {
		message += "; the file seems to end in the middle"
	}
	d.mistakes.add(line, "", "%s", message)
}

func begins(text []byte, with byte) bool {
	text = bytes.TrimSpace(text)
	return len(text) > 0 && text[0] == with
}

var escaped = regexp.MustCompile(`\\(u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|.)`)

// plainJSON writes what YAML does not escape as JSON does as it is: \/, and characters that
// are two to JSON. What is no JSON stays.
func plainJSON(text []byte) []byte {
	if !begins(text, '{') || !json.Valid(text) {
		return text
	}
	return escaped.ReplaceAllFunc(text, func(pair []byte) []byte {
		switch {
		case string(pair) == `\/`:
			return []byte("/")
		case len(pair) < 12:
			return pair
		}
		var one string
		if json.Unmarshal(append(append([]byte{'"'}, pair...), '"'), &one) != nil || !utf8.ValidString(one) {
			return pair
		}
		return []byte(one)
	})
}

// lineOf is where a key is, or the section that it should be in.
func (d *decoder) lineOf(key string) int {
	for key != "" {
		if line := d.lines[key]; line > 0 {
			return line
		}
		key = key[:max(strings.LastIndexAny(key, ".["), 0)]
	}
	return 1
}

// Validate refuses what makes no sense with any provider. The error is a *Mistakes, each with
// its key; Read knows the lines, too.
func Validate(c *Cluster) error {
	m := &Mistakes{}
	if _, err := Parse("", Encode(c)); err != nil {
		found, ok := errors.AsType[*Mistakes](err)
		if !ok {
			return fmt.Errorf("%w: %w", err, navvy.ErrInvalid)
		}
		for _, one := range found.List {
			m.add(0, one.Key, "%s", one.Why)
		}
		return m.err()
	}
	for _, one := range check(c) {
		m.add(0, one.Key, "%s", one.Why)
	}
	return m.err()
}
