package navvy

import (
	"fmt"
	"path"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Function calls a registered Python function once for each input.
type Function struct {
	// ID is that of one version of the function; see FunctionVersion.
	ID string
	// Name and Version say for people which that is.
	Name    string
	Version int
	// Encoding says how inputs are written, and values and exceptions come back.
	// Defaults to EncodingPickle.
	Encoding Encoding
	// Batch says that each input is a list of calls, which one attempt makes one after
	// the other; its value is the list of what became of each. It needs EncodingPickle.
	Batch bool
	// Path are absolute directories in which it finds modules, before those of its worker:
	// for workers that share a file system with whoever calls.
	Path []string
	// Modules stands for the state of the modules that it finds there, in whatever way the
	// caller likes: calls with different ones share no process, which would have the old code.
	Modules string
}

// Same tells whether two call the same in the same way.
func (f *Function) Same(g *Function) bool {
	return f.ID == g.ID && f.Encoding == g.Encoding && f.Batch == g.Batch && f.Modules == g.Modules && slices.Equal(f.Path, g.Path)
}

// Bounds of what a call says of modules.
const (
	maxFunctionPath = 100
	maxModules      = 100
)

// Encoding is how the arguments of a function and its value are written.
type Encoding string

// The encodings. docs/functions.md says what an input and a value look like in each.
const (
	EncodingPickle Encoding = "pickle" // as Python does it: any value, for Python alone
	EncodingJSON   Encoding = "json"   // for everybody
)

func (f *Function) validate() error {
	if f.ID == "" && f.Name == "" {
		return fmt.Errorf("spec: the function has neither an id nor a name: %w", ErrInvalid)
	}
	if f.Version < 0 {
		return fmt.Errorf("spec: version %d of a function: they count from 1: %w", f.Version, ErrInvalid)
	}
	if len(f.Path) > maxFunctionPath || len(f.Modules) > maxModules || !utf8.ValidString(f.Modules) {
		return fmt.Errorf("spec: a function has at most %d directories in its path, and a short text for the state of its modules: %w", maxFunctionPath, ErrInvalid)
	}
	for _, dir := range f.Path {
		if !path.IsAbs(dir) || len(dir) > MaxMessage || !utf8.ValidString(dir) || strings.ContainsAny(dir, ":\x00") {
			return fmt.Errorf("spec: directory %.200q in the path of a function: want an absolute one, without colons: %w", dir, ErrInvalid)
		}
	}
	switch f.Encoding {
	case "", EncodingPickle:
	case EncodingJSON:
		if f.Batch {
			return fmt.Errorf("spec: calls in batches are pickled: %w", ErrInvalid)
		}
	default:
		return fmt.Errorf("spec: encoding %q of a function: want %s or %s: %w", f.Encoding, EncodingPickle, EncodingJSON, ErrInvalid)
	}
	return nil
}

// FunctionForm is how a function is handed over.
type FunctionForm string

// The forms.
const (
	// FormPickle is a pickled object that can be called: by value, as dill and cloudpickle
	// do it, or as the name of a module's function.
	FormPickle FunctionForm = "pickle"
	// FormSource is the text of a Python file, of which Entry names the function.
	FormSource FunctionForm = "source"
	// FormReference is nothing but Entry, "module:name", which workers import.
	FormReference FunctionForm = "reference"
)

// FunctionVersion is a registered function. It does not change: to register another
// one under its name makes the next version.
type FunctionVersion struct {
	ID      string // a UUID, of this version
	Owner   string
	Name    string
	Version int // counts from 1
	Form    FunctionForm
	Code    []byte // the pickle, or the text of a FormSource
	// Entry is the function's name in a FormSource, "module:name" in a FormReference.
	Entry string
	// Python is the minor version that pickled it by value, which no other can read, as
	// in "3.11". Empty if any can, or if nobody knows.
	Python string
	// Pickler is what pickled it, with its version, as in "dill 0.3.6". Empty if unknown.
	Pickler string
	Created time.Time
	// Size is the length of Code in bytes, also where that was left out.
	Size int
}

// Bounds of a function, in bytes.
const (
	MaxFunctionName = 200
	MaxFunctionCode = 1000 << 10
)

// Validate checks what whoever registers a function gives. Its error names the field and
// wraps ErrInvalid. Whether Code is a pickle it does not look at.
func (f *FunctionVersion) Validate() error {
	if err := ValidateFunctionName(f.Name); err != nil {
		return err
	}
	if len(f.Code) > MaxFunctionCode {
		return fmt.Errorf("function %s: %d bytes of code, more than %d: hand large data over as arguments, or let workers import it: %w", f.Name, len(f.Code), MaxFunctionCode, ErrInvalid)
	}
	if !utf8.ValidString(f.Entry+f.Python+f.Pickler) || len(f.Entry) > MaxMessage || len(f.Python) > 20 || len(f.Pickler) > 100 {
		return fmt.Errorf("function %s: entry, python and pickler are short texts in UTF-8: %w", f.Name, ErrInvalid)
	}
	if major, minor, ok := strings.Cut(f.Python, "."); f.Python != "" && (!ok || !digits(major) || !digits(minor)) {
		return fmt.Errorf("function %s: python %q: want a minor version, as in 3.11: %w", f.Name, f.Python, ErrInvalid)
	}
	return f.validateForm()
}

func digits(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' })
}

// validateForm checks that code and entry are as the form wants them.
func (f *FunctionVersion) validateForm() error {
	module, entry, ok := strings.Cut(f.Entry, ":")
	switch f.Form {
	case FormPickle:
		if len(f.Code) == 0 || f.Entry != "" {
			return fmt.Errorf("function %s: a pickle has code and no entry: %w", f.Name, ErrInvalid)
		}
	case FormSource:
		if len(f.Code) == 0 || f.Entry == "" {
			return fmt.Errorf("function %s: a source needs code, and the name of the function in it as its entry: %w", f.Name, ErrInvalid)
		}
	case FormReference:
		if len(f.Code) > 0 || !ok || module == "" || entry == "" {
			return fmt.Errorf("function %s: a reference has no code, and its entry is module:name, not %q: %w", f.Name, f.Entry, ErrInvalid)
		}
	default:
		return fmt.Errorf("function %s: form %q: want %s, %s or %s: %w", f.Name, f.Form, FormPickle, FormSource, FormReference, ErrInvalid)
	}
	return nil
}

// ValidateFunctionName checks a name: Python's own, as in <lambda> or module.name, are good.
func ValidateFunctionName(name string) error {
	odd := func(r rune) bool { return unicode.IsSpace(r) || !unicode.IsPrint(r) }
	if name == "" || len(name) > MaxFunctionName || !utf8.ValidString(name) || strings.ContainsFunc(name, odd) {
		return fmt.Errorf("function name %.100q: want 1 to %d bytes of UTF-8 without spaces: %w", name, MaxFunctionName, ErrInvalid)
	}
	return nil
}
