package config

import (
	"strconv"
	"strings"
	"time"
)

// environment sorts the variables: what set up the hosts of CloudWorker becomes settings of
// ours, the service's own stay in its environment.
func (t *translation) environment() {
	for i, v := range t.from.EnvironmentVariables {
		key := "EnvironmentVariables[" + strconv.Itoa(i) + "]"
		value, small := v.Value, strings.ToLower(v.Name)
		switch _, twice := t.variables[small]; {
		case v.Name == "" || len(v.Name) > maxKey:
			t.no(key+".Name", "want 1 to %d letters", maxKey)
		case v.SecureValue != nil && v.SecureValue.Plain() && v.SecureValue.Text != "":
			t.no(key+".SecureValue", "a secret is not written into this file: in place of it write {\"env\": NAME} or {\"file\": PATH}")
		case v.SecureValue != nil && !v.SecureValue.Plain():
			value = v.SecureValue
		case value == nil:
			t.no(key, "%s has neither a Value nor a SecureValue", short(v.Name))
		case twice:
			t.no(key+".Name", "%s is there twice", short(v.Name))
		}
		t.variables[small] = olderVariable{Name: v.Name, Value: value}
		t.same("workers.environment."+short(v.Name), key+".Name")
		t.lines["$"+small] = t.lineOf(key)
	}
	if len(t.mistakes.List) == 0 {
		t.settings()
	}
}

// settings takes those of a host out of the environment.
func (t *translation) settings() {
	t.setting("Worker__Concurrency", "workers.concurrency", func(text string) string {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 || n > maxConcurrency {
			return "want a number from 1 to " + strconv.Itoa(maxConcurrency)
		}
		t.to.Workers.Concurrency = n
		return ""
	})
	t.setting("Queues__MessageLease", "queue.lease", func(text string) string {
		span, ok := netSpan(text)
		t.to.Queue.Lease = Duration(span)
		return unless(ok, "want a time span such as 60 or 00:01:00")
	})
	t.setting("Queues__QueueType", "queue.kind", func(text string) string {
		t.to.Queue.Kind = QueueKind(strings.ToLower(text))
		kind := t.to.Queue.Kind
		return unless(kind == QueueServiceBus || kind == QueueStorage, "want servicebus or storage")
	})
	into := func(to *string) func(string) string {
		return func(text string) string { *to = text; return unless(text != "", "it is empty") }
	}
	t.setting("Queues__Request__QueueName", "queue.request", into(&t.to.Queue.Request))
	t.setting("Queues__Response__QueueName", "queue.response", into(&t.to.Queue.Response))
	// How often an empty queue is asked, and whether a busy one is waited for, navvy knows.
	delete(t.variables, "queues__queryinterval")
	delete(t.variables, "queues__retryonthrottled")
}

func unless(ok bool, message string) string {
	if ok {
		return ""
	}
	return message
}

// setting takes a variable out of the environment for what it sets; set says what is wrong
// with it.
func (t *translation) setting(name, ours string, set func(text string) string) {
	small := strings.ToLower(name)
	v, ok := t.variables[small]
	if !ok {
		return
	}
	delete(t.variables, small)
	if ours != "" {
		t.older[ours] = "EnvironmentVariables, " + v.Name
		t.lines[ours] = t.lines["$"+small]
	}
	message := "a setting of the cluster is written as a text"
	if v.Value.Plain() {
		message = set(v.Value.Text)
	}
	if message != "" {
		t.mistakes.add(t.lines["$"+small], "EnvironmentVariables, "+v.Name, "%s", message)
	}
}

// service makes the service of its name and its variables. All that is left of those is the
// environment.
func (t *translation) service() {
	s := &t.to.Service
	kind := strings.ToLower(t.from.Service)
	switch kind {
	case "", "echo":
		s.Kind = ServiceEcho
	case "cgi":
		s.Kind = ServiceCGI
		s.Command = t.command("CGI_FileName", "CGI_Arguments")
		if s.Command == "" {
			t.no("EnvironmentVariables", "CGI_FileName is missing: the program that cgi starts")
		}
	case "grpc":
		s.Kind = ServiceGRPCAny
		t.setting("GRPC_ServerURL", "service.address", func(text string) string {
			s.Address = strings.TrimSuffix(strings.TrimPrefix(text, "http://"), "/")
			return ""
		})
		s.Command = t.command("GRPC_ServerFileName", "GRPC_ServerArguments")
		t.setting("GRPC_ServerUpTimeout", "service.up_timeout", func(text string) string {
			span, ok := netSpan(text)
			s.UpTimeout = Duration(span)
			return unless(ok, "want a time span such as 30 or 00:00:30")
		})
		if s.Address == "" {
			t.no("EnvironmentVariables", "GRPC_ServerURL is missing: where the server listens, such as http://localhost:8080")
		}
	case "custom":
		t.no("Service", "navvy loads no .NET assemblies: have the service listen as a gRPC server, or be a program that answers lines, see docs/services.md")
	default:
		t.no("Service", "%s", choose(t.from.Service, words{"echo", "cgi", "grpc"}))
	}
	t.rest()
}

// rest makes the environment of the service of the variables that are left.
func (t *translation) rest() {
	for _, small := range sorted(t.variables) {
		v := t.variables[small]
		if owned := strings.HasPrefix(small, "queues__") || strings.HasPrefix(small, "applicationinsights__") || small == "service__assemblypath"; owned {
			t.mistakes.add(t.lines["$"+small], "EnvironmentVariables, "+v.Name, "the cluster makes its queues and its monitor, and knows its service; take it out")
			continue
		}
		if t.to.Workers.Environment == nil {
			t.to.Workers.Environment = map[string]Value{}
		}
		t.to.Workers.Environment[v.Name] = *v.Value
	}
}

// command makes a command of ours of a program and its arguments.
func (t *translation) command(file, arguments string) string {
	var list []string
	t.setting(file, "service.command", func(text string) string {
		if text != "" {
			list = append(list, quote(text))
		}
		return ""
	})
	t.setting(arguments, "", func(text string) string {
		for _, argument := range netArguments(text) {
			list = append(list, quote(argument))
		}
		return ""
	})
	return strings.Join(list, " ")
}

// quote writes a word as a command line has it.
func quote(word string) string {
	safe := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-./:=,+@%", r)
	}
	if word != "" && strings.TrimFunc(word, safe) == "" {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

// netArguments splits arguments as .NET does: at spaces outside of "…", where "" is a quote,
// and \ stands for itself but before a quote.
func netArguments(text string) []string {
	var list []string
	var word strings.Builder
	begun, inside := false, false
	for text != "" {
		if literal, n := backslashes(text); n > 0 {
			word.WriteString(literal)
			text, begun = text[n:], true
			continue
		}
		c := text[0]
		switch {
		case c == '"' && inside && strings.HasPrefix(text, `""`):
			word.WriteByte('"')
			text = text[1:]
		case c == '"':
			inside, begun = !inside, true
		case !inside && (c == ' ' || c == '\t'):
			if begun {
				list = append(list, word.String())
			}
			word.Reset()
			begun = false
		default:
			word.WriteByte(c)
			begun = true
		}
		text = text[1:]
	}
	if begun {
		list = append(list, word.String())
	}
	return list
}

// backslashes takes those that a text begins with: what they stand for, and how many bytes
// that were, with a quote that they escape.
func backslashes(text string) (literal string, n int) {
	slashes := len(text) - len(strings.TrimLeft(text, `\`))
	switch {
	case !strings.HasPrefix(text[slashes:], `"`):
		return text[:slashes], slashes
	case slashes%2 == 1:
		return text[:slashes/2] + `"`, slashes + 1
	default:
		return text[:slashes/2], slashes
	}
}

// netSpan reads a time span as .NET writes it, HOURS:MINUTES:SECONDS, or a number of seconds.
func netSpan(text string) (time.Duration, bool) {
	var span time.Duration
	parts := strings.Split(text, ":")
	if len(parts) != 1 && len(parts) != 3 {
		return 0, false
	}
	for _, part := range parts {
		n, err := strconv.ParseUint(part, 10, 24)
		if err != nil || len(parts) == 3 && n > 59 {
			return 0, false
		}
		span = span*60 + time.Duration(n)*time.Second
	}
	return span, span > 0
}
