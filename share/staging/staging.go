package staging

import (
	"cmp"
	"log/slog"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Options say what is copied. Server and Bucket are required.
type Options struct {
	Server Server
	Bucket string
	// Prefix begins the names of the objects.
	Prefix string
	// Patience is for how long what fails is tried again. Defaults to DefaultPatience.
	Patience time.Duration
	// Parallel is how many files are copied at once. Defaults to 4.
	Parallel int
	// Logger is told of what is tried again. Defaults to dropping it.
	Logger *slog.Logger
}

// DefaultPatience is for how long what fails is tried again, unless it is said.
const DefaultPatience = 5 * time.Minute

const defaultParallel = 4

// Count is how much was copied.
type Count struct{ Files, Bytes int64 }

func (o *Options) tries() *tries {
	return &tries{patience: cmp.Or(o.Patience, DefaultPatience), log: o.logger()}
}

func (o *Options) logger() *slog.Logger {
	if o.Logger == nil {
		return slog.New(slog.DiscardHandler)
	}
	return o.Logger
}

// Below is the name of an object in the directory: what is behind the folder that prefix
// names, or stands in. So "run/7-" finds "run/7-a.txt" as 7-a.txt.
func Below(prefix, key string) string { return key[strings.LastIndex(prefix, "/")+1:] }

// Target is the name of the object of a file in the directory: the prefix, and a dash if
// that ends with a letter or a digit, before it.
func Target(prefix, name string) string {
	if last, _ := utf8.DecodeLastRuneInString(prefix); prefix != "" && (unicode.IsLetter(last) || unicode.IsDigit(last)) {
		prefix += "-"
	}
	return prefix + name
}
