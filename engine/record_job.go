package engine

import (
	"maps"
	"slices"

	"github.com/navvy-run/navvy"
)

// The versions of the record of a job. 2 ends with what an attempt may use and
// how it is separated from others; 3 with what it asks of its worker; 4 with whether it
// is isolated by default. 5 has nothing more, but may be about a function. 6 may be about
// a service, and ends with whether its tasks are messages. 7 ends with what is staged,
// 8 with what is copied for it by whoever waits, 9 with the package of a service and what is
// mounted. 10 has nothing more, but may be about a container, of which
// 11 says more.
const (
	jobVersionPlain     = 1
	jobVersionLimits    = 2
	jobVersionPlacement = 3
	jobVersionDefault   = 4
	jobVersionFunction  = 5
	jobVersionService   = 6
	jobVersionStage     = 7
	jobVersionTransfer  = 8
	jobVersionPackage   = 9
	jobVersionContainer = 10
	jobVersionBuckets   = 11
)

func encodeJob(j *navvy.Job) []byte {
	e := newRecord(tableJob, jobVersionBuckets, 256)
	e.string(string(j.ID))
	e.string(j.Name)
	e.string(j.Owner)
	e.string(j.Queue)
	e.int(int64(j.Priority))
	e.time(j.Accepted)
	e.uint(uint64(j.Format))
	e.uint(uint64(j.Parallelism))
	e.bool(j.MaxFails != nil)
	if j.MaxFails != nil {
		e.int(j.MaxFails.Count)
		e.float(j.MaxFails.Percent)
	}
	e.duration(j.Delay)
	e.uint(j.Shuffle)
	e.bool(j.Detached)
	e.string(j.IdempotencyKey)
	encodeSpec(e, &j.Spec)
	encodeBounds(e, &j.Spec)
	encodePlacement(e, &j.Spec)
	e.bool(j.Spec.IsolateByDefault)
	e.bool(j.Responses)
	encodeStage(e, &j.Spec.Stage)
	e.string(j.Spec.Stage.Transfer)
	e.bool(j.Spec.Stage.Cleanup)
	encodePackage(e, &j.Spec)
	encodeMounts(e, &j.Spec.Stage)
	encodeContainer(e, j.Spec.Container)
	return e.b
}

func decodeJob(b []byte) (*navvy.Job, error) {
	d, version := readRecord(b, tableJob, jobVersionBuckets, "job")
	j := &navvy.Job{
		ID:          navvy.JobID(d.string()),
		Name:        d.string(),
		Owner:       d.string(),
		Queue:       d.string(),
		Priority:    int32(d.int()),
		Accepted:    d.time(),
		Format:      navvy.InputFormat(d.uint()),
		Parallelism: int(d.uint()),
	}
	if d.bool() {
		j.MaxFails = &navvy.MaxFails{Count: d.int(), Percent: d.float()}
	}
	j.Delay = d.duration()
	j.Shuffle = d.uint()
	j.Detached = d.bool()
	j.IdempotencyKey = d.string()
	decodeSpec(d, &j.Spec)
	if version > jobVersionPlain {
		decodeBounds(d, &j.Spec)
	}
	if version > jobVersionLimits {
		decodePlacement(d, &j.Spec)
	}
	if version > jobVersionPlacement {
		j.Spec.IsolateByDefault = d.bool()
	}
	if version > jobVersionFunction {
		j.Responses = d.bool()
	}
	if version > jobVersionService {
		decodeStage(d, &j.Spec.Stage)
	}
	if version > jobVersionStage {
		j.Spec.Stage.Transfer = d.string()
		j.Spec.Stage.Cleanup = d.bool()
	}
	if version > jobVersionTransfer {
		decodePackage(d, &j.Spec)
		decodeMounts(d, &j.Spec.Stage)
	}
	if version > jobVersionContainer {
		decodeContainer(d, j.Spec.Container)
	}
	return j, d.end()
}

// The kinds of spec, as they are stored.
const (
	specCommand = 1
	specNoop    = 2

	specFunction = 3 // from jobVersionFunction on
	specService  = 4 // from jobVersionService on

	specContainer = 5 // from jobVersionContainer on
)

func encodeSpec(e *encoder, s *navvy.Spec) {
	e.duration(s.Timeout)
	e.duration(s.Grace)
	e.uint(uint64(s.Retry.Max))
	e.duration(s.Retry.Backoff)
	e.duration(s.Retry.BackoffMax)
	if s.Noop != nil {
		e.uint(specNoop)
		return
	}
	if f := s.Function; f != nil {
		e.uint(specFunction)
		e.string(f.ID)
		e.string(f.Name)
		e.uint(uint64(f.Version))
		e.string(string(f.Encoding))
		e.bool(f.Batch)
		e.strings(f.Path)
		e.string(f.Modules)
		return
	}
	if v := s.Service; v != nil {
		e.uint(specService)
		e.string(v.Form)
		e.strings(v.Env)
		e.string(v.Dir)
		return
	}
	if c := s.Container; c != nil {
		e.uint(specContainer)
		e.string(c.Image)
		e.string(c.Name)
		e.strings(c.Entrypoint)
		e.duration(c.Pending)
		encodeCommand(e, &c.Command)
		return
	}
	e.uint(specCommand)
	encodeCommand(e, s.Command)
}

func encodeCommand(e *encoder, c *navvy.Command) {
	e.strings(c.Args)
	e.bool(c.Literal)
	e.bool(c.Shell)
	e.bool(c.Stdin)
	e.strings(c.Columns)
	e.strings(c.Env)
	e.string(c.Dir)
}

func decodeCommand(d *decoder) navvy.Command {
	return navvy.Command{
		Args: d.strings(), Literal: d.bool(), Shell: d.bool(), Stdin: d.bool(),
		Columns: d.strings(), Env: d.strings(), Dir: d.string(),
	}
}

func decodeSpec(d *decoder, s *navvy.Spec) {
	s.Timeout = d.duration()
	s.Grace = d.duration()
	s.Retry = navvy.Retry{Max: int(d.uint()), Backoff: d.duration(), BackoffMax: d.duration()}
	switch d.uint() {
	case specNoop:
		s.Noop = &navvy.Noop{}
	case specFunction:
		s.Function = &navvy.Function{
			ID: d.string(), Name: d.string(), Version: int(d.uint()), Encoding: navvy.Encoding(d.string()), Batch: d.bool(),
			Path: d.strings(), Modules: d.string(),
		}
	case specService:
		s.Service = &navvy.Service{Form: d.string(), Env: d.strings(), Dir: d.string()}
	case specContainer:
		s.Container = &navvy.Container{Image: d.string(), Name: d.string(), Entrypoint: d.strings(), Pending: d.duration()}
		s.Container.Command = decodeCommand(d)
	case specCommand:
		c := decodeCommand(d)
		s.Command = &c
	default:
		d.fail("the kind of work is unknown")
	}
}

// encodeBounds writes what an attempt may use, and how it is separated from others.
func encodeBounds(e *encoder, s *navvy.Spec) {
	e.bool(s.Isolate)
	e.string(s.Network)
	for _, n := range limitNumbers(&s.Limits) {
		e.int(*n)
	}
	e.uint(uint64(len(s.Limits.Ulimits)))
	for _, u := range s.Limits.Ulimits {
		e.string(u.Name)
		e.uint(u.Soft)
		e.uint(u.Hard)
	}
}

func decodeBounds(d *decoder, s *navvy.Spec) {
	s.Isolate = d.bool()
	s.Network = d.string()
	for _, n := range limitNumbers(&s.Limits) {
		*n = d.int()
	}
	const least = 3 // bytes of a ulimit
	if n := d.count(least); n > 0 {
		s.Limits.Ulimits = make([]navvy.Ulimit, n)
	}
	for i := range s.Limits.Ulimits {
		s.Limits.Ulimits[i] = navvy.Ulimit{Name: d.string(), Soft: d.uint(), Hard: d.uint()}
	}
}

// encodeStage writes what is staged.
func encodeStage(e *encoder, s *navvy.Stage) {
	e.uint(uint64(len(s.In)))
	for _, in := range s.In {
		e.string(in.From)
		e.string(in.To)
	}
	e.uint(uint64(len(s.Out)))
	for _, out := range s.Out {
		e.string(out.Pattern)
		e.string(out.To)
		e.bool(out.Optional)
	}
}

func decodeStage(d *decoder, s *navvy.Stage) {
	const leastIn, leastOut = 2, 3 // bytes of one
	if n := d.count(leastIn); n > 0 {
		s.In = make([]navvy.StagedInput, n)
	}
	for i := range s.In {
		s.In[i] = navvy.StagedInput{From: d.string(), To: d.string()}
	}
	if n := d.count(leastOut); n > 0 {
		s.Out = make([]navvy.StagedOutput, n)
	}
	for i := range s.Out {
		s.Out[i] = navvy.StagedOutput{Pattern: d.string(), To: d.string(), Optional: d.bool()}
	}
}

// encodePackage writes the package of a service.
func encodePackage(e *encoder, s *navvy.Spec) {
	there := s.Service != nil && s.Service.Package != nil
	e.bool(there)
	if !there {
		return
	}
	p := s.Service.Package
	e.string(p.Name)
	e.string(p.Version)
	e.string(p.Owner)
	e.string(p.SHA256)
}

func decodePackage(d *decoder, s *navvy.Spec) {
	if !d.bool() {
		return
	}
	p := &navvy.Package{Name: d.string(), Version: d.string(), Owner: d.string(), SHA256: d.string()}
	if s.Service == nil {
		d.fail("what has a package is no service")
		return
	}
	s.Service.Package = p
}

// encodeMounts writes what is mounted.
func encodeMounts(e *encoder, s *navvy.Stage) {
	e.uint(uint64(len(s.Mounts)))
	for _, m := range s.Mounts {
		e.string(m.From)
		e.string(m.To)
	}
}

func decodeMounts(d *decoder, s *navvy.Stage) {
	const least = 2 // bytes of one
	if n := d.count(least); n > 0 {
		s.Mounts = make([]navvy.StagedFolder, n)
	}
	for i := range s.Mounts {
		s.Mounts[i] = navvy.StagedFolder{From: d.string(), To: d.string()}
	}
}

// encodePlacement writes what an attempt asks of its worker, by name.
func encodePlacement(e *encoder, s *navvy.Spec) {
	e.uint(uint64(len(s.Labels)))
	for _, name := range sortedNames(s.Labels) {
		e.string(name)
		e.string(s.Labels[name])
	}
	e.uint(uint64(len(s.Resources)))
	for _, name := range sortedNames(s.Resources) {
		e.string(name)
		e.int(s.Resources[name])
	}
}

// sortedNames are the names of a map, which is empty as a rule.
func sortedNames[V any](m map[string]V) []string {
	if len(m) == 0 {
		return nil
	}
	return slices.Sorted(maps.Keys(m))
}

func decodePlacement(d *decoder, s *navvy.Spec) {
	s.Labels = decodeNamed(d, d.string)
	s.Resources = decodeNamed(d, d.int)
}

// decodeNamed reads values by name, which stand in the order of their names.
func decodeNamed[V any](d *decoder, value func() V) map[string]V {
	const least = 2 // bytes of one
	n := d.count(least)
	if n == 0 {
		return nil
	}
	named := make(map[string]V, n)
	last := ""
	for i := range n {
		name := d.string()
		if i > 0 && name <= last {
			d.fail("names are not in order")
		}
		last = name
		named[name] = value()
	}
	return named
}

// limitNumbers are the limits that are one number each, in the order in which they are stored.
func limitNumbers(l *navvy.Limits) [9]*int64 {
	return [...]*int64{&l.CPUs, &l.CPUShares, &l.Memory, &l.PIDs, &l.ReadBPS, &l.WriteBPS, &l.ReadIOPS, &l.WriteIOPS, &l.Output}
}

// encodeContainer writes what version 10 does not say of a container; nothing for other kinds.
func encodeContainer(e *encoder, c *navvy.Container) {
	if c == nil {
		return
	}
	e.string(c.Namespace)
	e.string(string(c.Template))
	e.uint(uint64(max(c.Pack, 0)))
	for _, text := range bucketTexts(&c.Buckets) {
		e.string(*text)
	}
}

func decodeContainer(d *decoder, c *navvy.Container) {
	if c == nil {
		return
	}
	c.Namespace = d.string()
	if template := d.string(); template != "" {
		c.Template = []byte(template)
	}
	c.Pack = int(d.uint())
	for _, text := range bucketTexts(&c.Buckets) {
		*text = d.string()
	}
}

func bucketTexts(b *navvy.Buckets) []*string {
	return []*string{&b.Input, &b.Output, &b.Prefix, &b.InputDir, &b.OutputDir}
}
