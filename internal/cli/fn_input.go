package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/navvy-run/navvy"
)

// functionArg reads NAME or NAME@VERSION; the version is 0 for the newest. An id is a name, too.
func functionArg(arg string) (name string, version int, err error) {
	name = arg
	if at := strings.LastIndexByte(arg, '@'); at > 0 {
		if n, err := strconv.ParseUint(arg[at+1:], 10, 31); err == nil {
			if name, version = arg[:at], int(n); n == 0 {
				return "", 0, usagef("%q: versions count from 1", arg)
			}
		}
	}
	if err := navvy.ValidateFunctionName(name); err != nil {
		return "", 0, &usageError{err}
	}
	return name, version, nil
}

// functionOf is the function of a spec that an argument names, called with JSON.
func functionOf(arg string) (*navvy.Function, error) {
	name, version, err := functionArg(arg)
	if err != nil {
		return nil, err
	}
	return &navvy.Function{Name: name, Version: version, Encoding: navvy.EncodingJSON}, nil
}

// functionText names the function of a spec as verbs take it.
func functionText(f *navvy.Function) string {
	if f.Version == 0 {
		return f.Name
	}
	return f.Name + "@" + strconv.Itoa(f.Version)
}

// printsValue tells whether the value of the job's function is for standard output: a
// text, not a pickle.
func printsValue(j *navvy.Job) bool {
	return j.Spec.Function != nil && j.Spec.Function.Encoding == navvy.EncodingJSON
}

// callInput is the input of a call in JSON, as docs/functions.md has it.
type callInput struct {
	Args   []json.RawMessage          `json:"args"`
	Kwargs map[string]json.RawMessage `json:"kwargs,omitempty"`
}

// appendCall appends the input of a call with one argument, or with spread of one whose
// arguments are the elements of an array.
func appendCall(dst, value []byte, spread bool) ([]byte, error) {
	value = bytes.TrimSpace(value)
	if err := checkJSON(value); err != nil {
		return nil, err
	}
	if spread && value[0] != '[' {
		return nil, fmt.Errorf("want an array of arguments, as in [3, \"a\"], not %s: %w", short(string(value)), navvy.ErrInvalid)
	}
	b := bytes.NewBuffer(dst)
	b.WriteString(`{"args":`)
	if !spread {
		b.WriteByte('[')
	}
	_ = json.Compact(b, value) // which was found to be JSON
	if !spread {
		b.WriteByte(']')
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// appendWrong appends the input of a call that is to fail, as it cannot be made: what is
// wrong, in words that are no JSON.
func appendWrong(dst []byte, wrong error) []byte {
	return append(dst, strings.TrimSuffix(wrong.Error(), ": "+navvy.ErrInvalid.Error())...)
}

// checkJSON says what keeps a text from being a value of JSON.
func checkJSON(text []byte) error {
	if !utf8.Valid(text) {
		return fmt.Errorf("want a value in JSON, which is UTF-8: %w", navvy.ErrInvalid)
	}
	var value json.RawMessage
	if err := json.Unmarshal(text, &value); err != nil {
		return fmt.Errorf("want a value in JSON, not %q: %v: %w", short(string(text)), err, navvy.ErrInvalid) //nolint:errorlint // one cause is enough
	}
	return nil
}

// callFromArgs makes the input of a call of arguments in JSON, some of them KEY=JSON,
// and of an object with more of those; stdin gives what "-" stands for.
func callFromArgs(args []string, kwargs string, stdin func() ([]byte, error)) ([]byte, error) {
	call := callInput{Args: []json.RawMessage{}, Kwargs: map[string]json.RawMessage{}}
	if kwargs != "" {
		if err := json.Unmarshal([]byte(kwargs), &call.Kwargs); err != nil || !utf8.ValidString(kwargs) || call.Kwargs == nil {
			return nil, usagef("--kwargs %s: want an object in JSON, as in '{\"low\": 1}'", short(kwargs))
		}
	}
	named := false
	for i, arg := range args {
		key, text, err := callArg(arg, stdin)
		if err != nil {
			return nil, withHint(&usageError{fmt.Errorf("argument %d: %w", i+1, err)}, "%s", argumentHint(arg))
		}
		switch _, twice := call.Kwargs[key]; {
		case key == "" && named:
			return nil, usagef("argument %d: what has no name stands before what has one", i+1)
		case key == "":
			call.Args = append(call.Args, text)
		case twice:
			return nil, usagef("argument %d: %s is given twice", i+1, key)
		default:
			named, call.Kwargs[key] = true, text
		}
	}
	return encodeCall(&call)
}

// callArg reads JSON, KEY=JSON, or - in place of the JSON; key is empty if there is none.
func callArg(arg string, stdin func() ([]byte, error)) (key string, text []byte, err error) {
	key, value, named := strings.Cut(arg, "=")
	if !named || !isIdentifier(key) {
		key, value = "", arg
	}
	if text = []byte(value); value == "-" {
		if text, err = stdin(); err != nil {
			return "", nil, err
		}
	}
	return key, text, checkJSON(text)
}

func encodeCall(call *callInput) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(call); err != nil {
		return nil, fmt.Errorf("arguments: %w", err)
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// argumentHint is for who writes an argument as other commands take it.
func argumentHint(arg string) string {
	if strings.HasPrefix(arg, "--") {
		return "flags stand before the function's name"
	}
	if key, value, named := strings.Cut(arg, "="); named && isIdentifier(key) {
		arg = value
	}
	quoted, _ := json.Marshal(arg) // a string can always be written
	return "a text has quotes of its own: '" + string(quoted) + "'"
}

// isIdentifier tells whether Python takes a word as the name of an argument, roughly.
func isIdentifier(word string) bool {
	for i, r := range word {
		if r != '_' && !unicode.IsLetter(r) && (i == 0 || !unicode.IsDigit(r)) {
			return false
		}
	}
	return word != ""
}

// inputForPeople is an input in one piece: of a function, its arguments.
func inputForPeople(j *navvy.Job, input []byte) string {
	f := j.Spec.Function
	if f == nil {
		return inputText(j, input)
	}
	var call callInput
	if f.Encoding != navvy.EncodingJSON {
		return fmt.Sprintf("a pickle of %s", count(int64(len(input)), "byte"))
	} else if json.Unmarshal(input, &call) != nil {
		return string(input)
	}
	var words []string
	for _, arg := range call.Args {
		words = append(words, string(arg))
	}
	for _, key := range slices.Sorted(maps.Keys(call.Kwargs)) {
		words = append(words, key+"="+string(call.Kwargs[key]))
	}
	return strings.Join(words, ", ")
}
