package config

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
)

// Encode writes a cluster in JSON, always alike, as Parse reads it: that gives an equal one,
// but for Dir. References to secrets stay references.
func Encode(c *Cluster) []byte {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(c); err != nil {
		panic("config: a cluster cannot be written: " + err.Error()) // there is nothing in it that JSON has not
	}
	return []byte(escape(b.String()))
}

// escape writes as \u…… what JSON takes and YAML does not, or takes for a line's end.
// Outside of texts JSON has none of them.
func escape(text string) string {
	odd := func(r rune) bool { return r >= 0x7f && r < 0xa0 || r == 0xfeff || r == 0xfffe || r == 0xffff }
	if !strings.ContainsFunc(text, odd) {
		return text
	}
	var b strings.Builder
	for _, r := range text {
		if odd(r) {
			fmt.Fprintf(&b, `\u%04x`, r)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}
