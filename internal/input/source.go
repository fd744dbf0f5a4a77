// Package input reads the inputs of a job from where the command line says they
// are: words, lines of files and streams, records of CSV files, and combinations
// of these, as a stream of encoded inputs that is never whole in memory.
package input

import (
	"fmt"
	"slices"

	"github.com/navvy-run/navvy"
)

// Source is one place where values come from: words, or the lines of a file.
type Source struct {
	// File is a path; "-" is standard input. Empty means Words.
	File  string
	Words []string
	// Linked says that its values go along with those of the source before
	// it, first with first, instead of with each of them.
	Linked bool
}

// name says where values come from, for people.
func (s *Source) name() string {
	switch s.File {
	case "":
		return ":::"
	case "-":
		return "standard input"
	default:
		return s.File
	}
}

// Split takes the sources off the end of a command line, as GNU parallel's users
// write them: words behind :::, files behind ::::, each file a source of its
// own; with a + at the end they are linked to the source before. Without any of
// these, all is command and there are no sources. The error wraps navvy.ErrInvalid.
func Split(args []string) (command []string, sources []Source, err error) {
	end := slices.IndexFunc(args, isSeparator)
	if end < 0 {
		return args, nil, nil
	}
	command = args[:end]
	for rest := args[end:]; len(rest) > 0; {
		n := 1
		for n < len(rest) && !isSeparator(rest[n]) {
			n++
		}
		section, err := section(rest[0], rest[1:n])
		if err != nil {
			return nil, nil, err
		}
		sources = append(sources, section...)
		rest = rest[n:]
	}
	return command, sources, nil
}

func isSeparator(arg string) bool {
	return arg == ":::" || arg == "::::" || arg == ":::+" || arg == "::::+"
}

// section makes the sources of what stands between two separators.
func section(separator string, args []string) ([]Source, error) {
	if separator == ":::" || separator == ":::+" {
		return []Source{{Words: args, Linked: separator == ":::+"}}, nil
	}
	if len(args) == 0 {
		return nil, fmt.Errorf("%s needs a file behind it: %w", separator, navvy.ErrInvalid)
	}
	sources := make([]Source, len(args))
	for i, file := range args {
		if file == "" {
			return nil, fmt.Errorf("%s has an empty file name behind it: %w", separator, navvy.ErrInvalid)
		}
		sources[i] = Source{File: file, Linked: separator == "::::+"}
	}
	return sources, nil
}

// checkSources looks at how sources fit together.
func checkSources(sources []Source) error {
	stdin := 0
	for i, s := range sources {
		if s.File == "-" {
			stdin++
		}
		switch {
		case stdin > 1:
			return fmt.Errorf("standard input is named more than once as a source: %w", navvy.ErrInvalid)
		case !s.Linked:
		case i == 0:
			return fmt.Errorf("the first source is linked by + to one before it, and there is none: %w", navvy.ErrInvalid)
		case s.File == "" && sources[i-1].File == "" && len(s.Words) != len(sources[i-1].Words):
			return fmt.Errorf("%d and %d words are linked by +; they must be as many: %w", len(sources[i-1].Words), len(s.Words), navvy.ErrInvalid)
		}
	}
	return nil
}
