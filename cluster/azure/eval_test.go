package azure

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// A small reader of the expressions of ARM templates: as much as the templates use, and no
// more, so that one that uses something else fails here. What it cannot do is a panic, which
// evaluate turns into an error.

type scope struct {
	cloud      *cloud
	group      string
	parameters map[string]any
	copies     map[string]int
	seen       map[string]bool // parameters that were used
	refs       []string        // resource IDs that were asked for
}

type parser struct {
	s    *scope
	text string
	pos  int
	dry  bool // read, and do not evaluate
}

func (s *scope) evaluate(text string) (v any, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("%s: %v", text, r)
		}
	}()
	p := &parser{s: s, text: text}
	v = p.expression()
	p.blank()
	if p.pos != len(p.text) {
		panic("something is left: " + p.text[p.pos:])
	}
	return v, nil
}

func (p *parser) blank() {
	for p.pos < len(p.text) && p.text[p.pos] == ' ' {
		p.pos++
	}
}

func (p *parser) peek() byte {
	p.blank()
	if p.pos == len(p.text) {
		return 0
	}
	return p.text[p.pos]
}

func (p *parser) want(c byte) {
	if p.peek() != c {
		panic(fmt.Sprintf("want %q at %d", c, p.pos))
	}
	p.pos++
}

func (p *parser) word() string {
	start := p.pos
	for p.pos < len(p.text) && (p.text[p.pos] == '_' || p.text[p.pos] >= '0' && p.text[p.pos] <= '9' || p.text[p.pos]|0x20 >= 'a' && p.text[p.pos]|0x20 <= 'z') {
		p.pos++
	}
	return p.text[start:p.pos]
}

func (p *parser) expression() any {
	var v any
	switch c := p.peek(); {
	case c == '\'':
		end := strings.IndexByte(p.text[p.pos+1:], '\'')
		v = p.text[p.pos+1 : p.pos+1+end]
		p.pos += end + 2
	case c >= '0' && c <= '9':
		n, err := strconv.Atoi(p.word())
		if err != nil {
			panic(err)
		}
		v = n
	default:
		v = p.function(p.word())
	}
	for {
		switch p.peek() {
		case '.':
			p.pos++
			v = p.inside(v, p.word())
		case '[':
			p.pos++
			key := p.expression()
			p.want(']')
			v = p.inside(v, key)
		default:
			return v
		}
	}
}

func (p *parser) inside(v, key any) any {
	if p.dry {
		return nil
	}
	found := at(v, key)
	if found == nil {
		panic(fmt.Sprintf("there is no %v", key))
	}
	return found
}

func (p *parser) function(name string) any {
	p.want('(')
	var args []any
	dry := p.dry
	for p.peek() != ')' {
		if len(args) > 0 {
			p.want(',')
		}
		if name == "if" && len(args) > 0 { // only one of the values is evaluated
			p.dry = dry || args[0] != (len(args) == 1)
		}
		args = append(args, p.expression())
	}
	p.dry = dry
	p.want(')')
	if p.dry {
		if name == "parameters" {
			p.s.seen[args[0].(string)] = true
		}
		return nil
	}
	return p.s.call(name, args)
}

func (s *scope) call(name string, args []any) any {
	if f, ok := plainFunctions[name]; ok {
		return f(args)
	}
	switch name {
	case "parameters":
		s.seen[args[0].(string)] = true
		v, ok := s.parameters[args[0].(string)]
		if !ok {
			panic(fmt.Sprintf("there is no parameter %v", args[0]))
		}
		return v
	case "copyIndex":
		i, ok := s.copies[args[0].(string)]
		if !ok {
			panic(fmt.Sprintf("there is no copy %v", args[0]))
		}
		return i
	case "resourceId":
		return s.resourceID(args)
	case "listKeys", "reference":
		s.refs = append(s.refs, args[0].(string))
		return s.cloud.ask(name, args[0].(string))
	}
	panic("the function " + name + " is not known")
}

// plainFunctions are those that look at nothing but their arguments.
var plainFunctions = map[string]func([]any) any{
	"format": func(args []any) any {
		out := args[0].(string)
		for i, a := range args[1:] {
			out = strings.ReplaceAll(out, fmt.Sprintf("{%d}", i), fmt.Sprint(a))
		}
		return out
	},
	"json": func(args []any) any {
		var v any
		if err := json.Unmarshal([]byte(args[0].(string)), &v); err != nil {
			panic(err)
		}
		return v
	},
	"concat": func(args []any) any {
		all := []any{}
		for _, a := range args {
			all = append(all, a.([]any)...)
		}
		return all
	},
	"if": func(args []any) any {
		if args[0].(bool) {
			return args[1]
		}
		return args[2]
	},
	"contains": func(args []any) any {
		_, ok := args[0].(map[string]any)[args[1].(string)]
		return ok
	},
	"createObject": func(args []any) any {
		m := map[string]any{}
		for i := 0; i < len(args); i += 2 {
			m[args[i].(string)] = args[i+1]
		}
		return m
	},
	"not":         func(args []any) any { return !args[0].(bool) },
	"length":      func(args []any) any { return len(args[0].([]any)) },
	"and":         func(args []any) any { return args[0].(bool) && args[1].(bool) },
	"equals":      func(args []any) any { return args[0] == args[1] },
	"empty":       func(args []any) any { return args[0].(string) == "" },
	"createArray": func(args []any) any { return append([]any{}, args...) },
	"null":        func([]any) any { return nil },
	"environment": func([]any) any { return map[string]any{"suffixes": map[string]any{"storage": "core.windows.net"}} },
}

func (s *scope) resourceID(args []any) string {
	parts := strings.Split(args[0].(string), "/")
	if len(parts)-1 != len(args)-1 {
		panic("resourceId: a name for each part of the type")
	}
	id := "/subscriptions/" + testSubscription + "/resourceGroups/" + s.group + "/providers/" + parts[0]
	for i, part := range parts[1:] {
		id += "/" + part + "/" + args[i+1].(string)
	}
	return id
}

// expand replaces the expressions in a part of a template.
func (s *scope) expand(v any) (any, error) {
	switch v := v.(type) {
	case string:
		if strings.HasPrefix(v, "[") && strings.HasSuffix(v, "]") && !strings.HasPrefix(v, "[[") {
			return s.evaluate(v[1 : len(v)-1])
		}
		return v, nil
	case []any:
		out := make([]any, len(v))
		for i := range v {
			var err error
			if out[i], err = s.expand(v[i]); err != nil {
				return nil, err
			}
		}
		return out, nil
	case map[string]any:
		return s.expandObject(v)
	}
	return v, nil
}

func (s *scope) expandObject(v map[string]any) (any, error) {
	out := map[string]any{}
	for key, inner := range v {
		if list, ok := inner.([]any); ok && key == "copy" {
			if err := s.copyInto(out, list); err != nil {
				return nil, err
			}
			continue
		}
		expanded, err := s.expand(inner)
		if err != nil {
			return nil, err
		}
		if expanded != nil {
			out[key] = expanded
		}
	}
	return out, nil
}

func (s *scope) copyInto(out map[string]any, list []any) error {
	for _, c := range list {
		name := at(c, "name").(string)
		n, err := s.expand(at(c, "count"))
		if err != nil {
			return err
		}
		all := []any{}
		for i := range n.(int) {
			s.copies[name] = i
			one, err := s.expand(at(c, "input"))
			if err != nil {
				return err
			}
			all = append(all, one)
		}
		delete(s.copies, name)
		out[name] = all
	}
	return nil
}
