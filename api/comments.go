package api

import (
	_ "embed" // for the comments
	"encoding/json"
	"fmt"
	"sync"

	"google.golang.org/protobuf/reflect/protoreflect"
)

// commentsJSON has the comments of the .proto files, which generated code is without:
// by the full name of what each is about. make generate writes it.
//
//go:embed comments.json
var commentsJSON []byte

var comments = sync.OnceValue(func() map[protoreflect.FullName]string {
	all := map[protoreflect.FullName]string{}
	if err := json.Unmarshal(commentsJSON, &all); err != nil {
		panic(fmt.Errorf("api: comments.json: %w", err)) // make generate has written it
	}
	return all
})

// Comment is what the schema says about a message, a field, an enum, one of its
// values, a service or a call: its comment, in one line. Empty if it says nothing.
func Comment(name protoreflect.FullName) string { return comments()[name] }
