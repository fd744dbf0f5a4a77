package place

import "time"

// File is what a share knows of a file.
type File struct {
	Key      string
	Size     int64 // bytes
	Modified time.Time
	// SHA256 is the checksum of what it holds, in hexadecimal digits; empty if nobody has
	// noted it, as with files that others have put there, or it was not asked for.
	SHA256 string
}

// PutOptions are how a file is put. The zero value is the default.
type PutOptions struct {
	// IfAbsent refuses to put a file in the place of another, with an error that wraps
	// navvy.ErrExists. Defaults to false: what is there is replaced.
	IfAbsent bool
	// SHA256 is what the file must hold, in hexadecimal digits; if it does not, it is not
	// put, with an error that wraps navvy.ErrCorrupt. Defaults to none: anything.
	SHA256 string
	// Progress is told of bytes when they have gone on their way, from the goroutine of
	// Put. Defaults to none.
	Progress func(n int64)
}
