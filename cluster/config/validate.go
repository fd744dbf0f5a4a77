package config

import (
	"fmt"
	"path"
	"regexp"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/quantity"
)

// What can be a name.
var (
	clusterName   = regexp.MustCompile(`^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$`)
	namespaceName = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	variableName  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.-]*$`)
	imageName     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/:@-]*$`)
)

// Bounds of the numbers in a file.
const (
	maxWorkers     = 100_000
	maxConcurrency = 10_000
	maxAttempts    = 1_000
)

// checker notes what makes no sense.
type checker struct {
	*Cluster
	found []Mistake
}

// check lists what makes no sense in a file that was read.
func check(c *Cluster) []Mistake {
	k := &checker{Cluster: c}
	if !clusterName.MatchString(c.Name) {
		k.wrong("name", "%q: want 1 to 40 small letters, digits and -, a letter first, no - at the end: what the cluster is made of has it in its names", short(c.Name))
	}
	k.queue()
	k.shares()
	k.service()
	k.monitor()
	k.workers()
	k.autoscale()
	k.sections()
	return k.found
}

func (k *checker) wrong(key, format string, args ...any) {
	k.found = append(k.found, Mistake{Key: key, Why: fmt.Sprintf(format, args...)})
}

// contained tells whether workers are containers there.
func (p Provider) contained() bool { return p == ProviderKubernetes || p == ProviderAzure }

func (k *checker) shares() {
	for i := range k.Share {
		s, key := &k.Share[i], fmt.Sprintf("share[%d]", i)
		switch {
		case (s.From == "") == (s.Files == nil):
			k.wrong(key, "want either from, what to upload, or files, a file share of Azure")
		case s.Files != nil && k.Provider != ProviderAzure:
			k.wrong(key+".files", "a file share of Azure is for the provider azure, not %s; use from", k.Provider)
		case s.Files != nil && s.Files.Key.Plain():
			k.wrong(key+".files.key", "a secret is not written into this file: use {env: NAME} or {file: PATH}")
		}
		k.place(s.At, key+".at")
		for j := range i {
			if other := k.Share[j].At; within(s.At, other) || within(other, s.At) {
				k.wrong(key+".at", "%s and %s of share[%d] lie in one another", short(s.At), short(other), j)
				break
			}
		}
	}
}

// place checks where workers find a share.
func (k *checker) place(at, key string) {
	clean := path.Clean(at) == strings.TrimSuffix(at, "/") && !strings.ContainsAny(at, ":\x00\n")
	switch {
	case !clean || at == "/" || at == "." || at == ".." || strings.HasPrefix(at, "../"):
		k.wrong(key, "%q: want a path without .., . and :", short(at))
	case k.Provider.contained() && !path.IsAbs(at):
		k.wrong(key, "%q: want an absolute path, as workers are containers on %s: /%s", short(at), k.Provider, short(at))
	case !k.Provider.contained() && path.IsAbs(at):
		k.wrong(key, "%q: want a path below the service's working directory, as workers share the file system of the host on %s: %s", short(at), k.Provider, short(strings.TrimPrefix(at, "/")))
	}
}

// within tells whether a path is another one or below it.
func within(at, other string) bool {
	at, other = path.Clean(at), path.Clean(other)
	return at == other || strings.HasPrefix(at, other+"/")
}

func (k *checker) service() {
	s := &k.Service
	switch s.Kind {
	case ServiceEcho:
		k.echo(s)
	case ServiceGRPC, ServiceGRPCAny:
		k.grpc(s)
	case ServiceCGI, ServiceCommand, ServiceLines, ServiceLinesJSON:
		if s.Command == "" {
			k.wrong("service.command", "it is missing: the program that %s starts", s.Kind)
		}
		if s.Address != "" {
			k.wrong("service.address", "only a gRPC server has one, and the kind is %s", s.Kind)
		}
	}
}

func (k *checker) echo(s *Service) {
	if s.Command != "" {
		k.wrong("service.command", "echo has no program; for one of yours the kind is cgi, command, lines, lines-json, grpc or grpc-any")
	}
	if s.Package != "" {
		k.wrong("service.package", "echo has no program, and needs no package")
	}
	if s.Address != "" {
		k.wrong("service.address", "only a gRPC server has one, and the kind is echo")
	}
}

func (k *checker) grpc(s *Service) {
	switch {
	case s.Kind == ServiceGRPC && (s.Command == "") == (s.Address == ""):
		k.wrong("service", "grpc wants either a command, which is started, or the address of a server that runs already")
	case s.Kind == ServiceGRPCAny && s.Address == "":
		k.wrong("service.address", "it is missing: where the server listens, such as 127.0.0.1:50051; - for one that listens where NAVVY_SERVICE_ADDR says")
	case s.Address == "-" && s.Command == "":
		k.wrong("service.address", "- is for a server that navvy starts; its command is missing")
	case strings.ContainsAny(s.Address, " \t\n"):
		k.wrong("service.address", "%q: want HOST:PORT or unix:PATH", short(s.Address))
	case s.Package != "" && s.Command == "":
		k.wrong("service.package", "a package is of programs that navvy starts, and service.command names none")
	}
}

func (k *checker) monitor() {
	switch m := &k.Monitor; {
	case m.Kind == MonitorPrometheus && k.Provider == ProviderAzure:
		k.wrong("monitor.kind", "prometheus is for local, ssh and kubernetes; on azure it is insights")
	case m.Kind == MonitorInsights && k.Provider != ProviderAzure:
		k.wrong("monitor.kind", "insights is for azure; on %s it is prometheus", k.Provider)
	case m.Collector != "" && m.Kind != MonitorInsights:
		k.wrong("monitor.collector", "it is for monitor.kind insights, which is for azure")
	case m.Dir != "" && m.Kind == MonitorNone:
		k.wrong("monitor.dir", "without monitor.kind nothing is written there")
	case m.Dir != "" && k.Provider.contained():
		k.wrong("monitor.dir", "only local and ssh write into a directory; %s keeps its monitor itself", k.Provider)
	}
}

func (k *checker) workers() {
	w := &k.Workers
	if w.Count > maxWorkers {
		k.wrong("workers.count", "%d are too many, %d are the most", w.Count, maxWorkers)
	}
	if w.Concurrency > maxConcurrency {
		k.wrong("workers.concurrency", "%d are too many, %d are the most", w.Concurrency, maxConcurrency)
	}
	k.limits()
	switch {
	case k.Provider.contained() && w.Image == "":
		k.wrong("workers.image", "it is missing: workers are containers on %s, of an image with navvy in it, see docs/kubernetes.md", k.Provider)
	case !k.Provider.contained() && w.Image != "":
		k.wrong("workers.image", "workers are processes on %s; an image is for kubernetes and azure", k.Provider)
	case w.Image != "" && !imageName.MatchString(w.Image):
		k.wrong("workers.image", "%q is no reference of an image, such as registry.host/navvy:1.0", short(w.Image))
	case placeholder(strings.SplitN(w.Image, "/", 2)[0]):
		k.wrong("workers.image", "%s stands for an image of yours: fill in one with navvy in it, from a registry that the workers reach", w.Image)
	}
	k.environment(w)
	if err := navvy.ValidateLabels(w.Labels); err != nil {
		k.wrong("workers.labels", "%s", why(err))
	}
}

func (k *checker) environment(w *Workers) {
	for _, name := range sorted(w.Environment) {
		key := "workers.environment." + short(name)
		switch {
		case !variableName.MatchString(name):
			k.wrong(key, "want letters, digits, _, . and - as the name of a variable, no digit first")
		case strings.HasPrefix(strings.ToUpper(name), "NAVVY_"):
			k.wrong(key, "names with NAVVY_ are navvy's own")
		case strings.ContainsRune(w.Environment[name].Text, 0):
			k.wrong(key, "a variable holds no zero byte")
		}
	}
}

// limits checks what each worker may have.
func (k *checker) limits() {
	var cpus, memory navvy.Limits
	k.limit("workers.cpus", k.Workers.CPUs, quantity.ParseCPUs, &cpus, &cpus.CPUs)
	k.limit("workers.memory", k.Workers.Memory, quantity.ParseSize, &memory, &memory.Memory)
}

func (k *checker) limit(key, text string, parse func(string) (int64, error), l *navvy.Limits, n *int64) {
	if text == "" {
		return
	}
	var err error
	if *n, err = parse(text); err == nil && *n == 0 {
		k.wrong(key, "%s: want more than 0; take the key out for no bound", text)
		return
	}
	if err == nil {
		err = l.Validate()
	}
	if err != nil {
		k.wrong(key, "%s", why(err))
	}
}

func (k *checker) autoscale() {
	w, a := &k.Workers, k.Workers.Autoscale
	switch {
	case a == nil:
	case k.Provider != ProviderKubernetes:
		k.wrong("workers.autoscale", "only kubernetes scales by itself; on %s write workers.count, and change it by navvy cluster scale", k.Provider)
	case a.Max > maxWorkers:
		k.wrong("workers.autoscale.max", "%d are too many, %d are the most", a.Max, maxWorkers)
	case a.Min > a.Max:
		k.wrong("workers.autoscale.min", "%d is more than the max, which is %d", a.Min, a.Max)
	case w.Count != 0 && (w.Count < a.Min || w.Count > a.Max):
		k.wrong("workers.count", "%d is not between the bounds of autoscale, %d and %d; take it out, and autoscale decides", w.Count, a.Min, a.Max)
	}
}
