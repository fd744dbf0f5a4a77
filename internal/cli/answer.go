package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/gateway/cloudworker"
	"github.com/navvy-run/navvy/internal/otlp"
	"github.com/navvy-run/navvy/parcel"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/share"
	"github.com/navvy-run/navvy/share/place"
	"github.com/navvy-run/navvy/worker/answer"
)

// answerHelp is what worker start says of a worker without a server.
const answerHelp = `start --requests --responses makes it a worker without a server: it takes requests
from a queue of a broker, calls a service of yours with each, and sends the answers to
another queue, with the request's id as their correlation id. A request is acknowledged
when its answer is confirmed, and one that fails comes again after a pause; after
--attempts deliveries it goes to the dead letters. Any number of workers may serve one
pair of queues. SIGTERM lets what is worked on end; what has not after --drain-timeout
goes back to its queue at once. docs/brokers.md has the URLs, docs/services.md the
services. A URL with a password is given in a file, or in NAVVY_REQUESTS and
NAVVY_RESPONSES. The variables of CloudWorker hosts (Queues__…) are read, too.
With OTEL_EXPORTER_OTLP_ENDPOINT, such as http://127.0.0.1:4318, each request and each
call of the service is traced to an OpenTelemetry collector (docs/services.md).`

// answerFlags are the flags of a worker without a server.
type answerFlags struct {
	limitFlags
	claimsFlags
	requests, requestsFile   string
	responses, responsesFile string
	service, pkg             string
	lease, timeout           string
	attempts                 int
	mustExist                bool
}

func (f *answerFlags) add(cmd *cobra.Command) {
	fs := cmd.Flags()
	fs.StringVar(&f.requests, "requests", "", "take requests from the queue of this `URL` (default $NAVVY_REQUESTS)")
	fs.StringVar(&f.requestsFile, "requests-file", "", "a `FILE` that holds the URL, for one with a password; - for standard input")
	fs.StringVar(&f.responses, "responses", "", "send answers to the queue of this `URL` (default $NAVVY_RESPONSES)")
	fs.StringVar(&f.responsesFile, "responses-file", "", "a `FILE` that holds the URL; - for standard input")
	fs.StringVar(&f.service, "service", "", "what answers: `FORM` is "+strings.Join(serviceForms(), ", "))
	fs.StringVar(&f.pkg, "package", "", "the service's programs start in this package, `NAME@VERSION` of the share default, or a place: share://NAME/PATH, a URL; an archive, or a folder")
	fs.StringVar(&f.lease, "lease", "", "how long a request is leased; it is renewed while it is worked on (default 60s)")
	fs.StringVar(&f.timeout, "timeout", "", "how long the service may take to answer one request (default: no bound)")
	fs.IntVar(&f.attempts, "attempts", 5, "deliveries of a request before it goes to the dead letters")
	fs.BoolVar(&f.mustExist, "must-exist", false, "do not make queues that are missing")
	f.claimsFlags.add(fs)
	completeForms(cmd)
	f.addLimits(cmd, "Limits of each process of a service")
}

// onlyWith refuses flags that would be without effect.
func onlyWith(cmd *cobra.Command, with string, names ...string) error {
	for _, name := range names {
		if cmd.Flags().Changed(name) {
			return usagef("--%s goes with %s, which is not there", name, with)
		}
	}
	return nil
}

// wanted tells whether the worker is to be one without a server.
func (f *answerFlags) wanted(a *app, join string) bool {
	if f.requests != "" || f.requestsFile != "" || f.responses != "" || f.responsesFile != "" || f.service != "" {
		return true
	}
	if join != "" {
		return false
	}
	_, ok, err := cloudworker.FromEnvironment(a.environ())
	return ok || err != nil || a.env("NAVVY_REQUESTS") != ""
}

// startAnswering checks what the flags say, and answers requests.
func (a *app) startAnswering(ctx context.Context, f *workerFlags) error {
	if f.join != "" {
		return usagef("--join is for a worker of a server, --requests, --responses and --service for one without: give one or the other")
	}
	log, err := f.logger(a)
	if err != nil {
		return err
	}
	s := &answering{app: a, flags: f, log: log}
	if err := s.read(); err != nil {
		return err
	}
	return untilTold(ctx, s.run)
}

// answering is a worker without a server that runs.
type answering struct {
	app   *app
	flags *workerFlags
	log   *slog.Logger

	requests, responses queuePlace
	slots               int
	timeout, drain      time.Duration
	service             string
	upTime              time.Duration
	dir                 string       // where the service works
	pkg                 *place.Place // what is deployed for it instead; nil: nothing
	large               *largeBodies
	spans               *otlp.Sender
}

// queuePlace says where one of the queues is.
type queuePlace struct {
	url        string
	connection string // a connection string, where the broker has such
	lease      time.Duration
}

// read reads flags, files and environment.
func (s *answering) read() error {
	f, a := &s.flags.answer, s.app
	settings, _, err := cloudworker.FromEnvironment(a.environ())
	if err != nil {
		return &usageError{err}
	}
	if settings == nil {
		settings = &cloudworker.Settings{}
	}
	if s.requests, err = a.queuePlace("requests", "NAVVY_REQUESTS", f.requests, f.requestsFile, &settings.Requests); err != nil {
		return err
	}
	if s.responses, err = a.queuePlace("responses", "NAVVY_RESPONSES", f.responses, f.responsesFile, &settings.Responses); err != nil {
		return err
	}
	if queue.Same(s.requests.url, s.responses.url) {
		return usagef("--requests and --responses name one queue: each answer would be a request")
	}
	if s.service, s.upTime = f.service, settings.UpTimeout; s.service == "" {
		s.service = settings.Service
	}
	if s.service == "" {
		return usagef("--service is missing: what answers the requests; one of %s", strings.Join(serviceForms(), ", "))
	}
	if err := checkForm(s.service); err != nil {
		return err
	}
	if err := s.readPackage(); err != nil {
		return err
	}
	return s.readNumbers(settings)
}

// readPackage reads where the package of the service is.
func (s *answering) readPackage() error {
	text := s.flags.answer.pkg
	switch {
	case text == "":
		return nil
	case serviceProgram(s.service) == "":
		return withHint(usagef("--package: service %s starts no program that could use it", s.service), formHint)
	case place.Is(text):
		p, err := parsePlace(text)
		s.pkg = &p
		return err
	}
	p, err := packageArg(text)
	s.pkg = &place.Place{Name: defaultShare, Path: p.File()}
	return err
}

// deploy makes the directory of the service's package, if it has one; empty if not.
func (s *answering) deploy(ctx context.Context, dir string) (string, error) {
	if s.pkg == nil {
		return "", nil
	}
	err := s.app.withShare(ctx, *s.pkg, false, func(from *share.Share) error { return deployPlace(ctx, from, *s.pkg, dir) })
	if p, named := navvy.ParsePackage(s.flags.answer.pkg); named == nil {
		err = noPackage(err, &p)
	}
	if errors.Is(err, navvy.ErrInvalid) || errors.Is(err, navvy.ErrCorrupt) {
		return "", withHint(fmt.Errorf("--package: %w", err), "it is not what a package is; navvy package put makes one")
	} else if err != nil {
		return "", shareHint(fmt.Errorf("--package: %w", err))
	}
	s.log.Info("package deployed", "package", s.flags.answer.pkg)
	return dir, nil
}

func (s *answering) readNumbers(settings *cloudworker.Settings) (err error) {
	f := s.flags
	lease, err := durationFlag("lease", f.answer.lease)
	if err != nil {
		return err
	}
	if lease > 0 {
		s.requests.lease = lease
	}
	if s.timeout, err = durationFlag("timeout", f.answer.timeout); err != nil {
		return err
	}
	if s.drain, err = durationFlag("drain-timeout", f.drain); err != nil {
		return err
	}
	if f.answer.attempts < 1 {
		return usagef("--attempts %d: want one delivery at least", f.answer.attempts)
	}
	if s.slots = settings.Concurrency; f.jobs != "" {
		s.slots, err = parallelism(f.jobs)
	} else if s.slots == 0 {
		s.slots = 10
	}
	if err != nil {
		return err
	}
	s.dir, err = os.Getwd()
	return err
}

// queuePlace is what a flag, a file, the environment or the settings of a CloudWorker say
// of a queue.
func (a *app) queuePlace(name, variable, flag, file string, s *cloudworker.Queue) (queuePlace, error) {
	text, err := a.urlFlag(name, flag, file, ", or set "+variable)
	if err != nil {
		return queuePlace{}, err
	}
	q := queuePlace{url: cmp.Or(text, a.env(variable))}
	if q.url == "" {
		q = queuePlace{url: s.URL, connection: s.Connection, lease: s.Lease}
	}
	if q.url == "" {
		return q, usagef("--%s is missing: the URL of a queue such as redis://localhost:6379/NAME, or --%s-file, or %s", name, name, variable)
	}
	return q, nil
}

// smallFile reads a file of a few words; - is standard input.
func (a *app) smallFile(name string) (string, error) {
	var text []byte
	var err error
	if name == "-" {
		text, err = io.ReadAll(io.LimitReader(a.in, 2<<20))
	} else {
		text, err = os.ReadFile(name)
	}
	return string(text), err
}

// run opens the queues and the service, and answers until soft ends.
func (s *answering) run(soft, hard context.Context) (err error) {
	s.openTracing(soft)
	defer s.closeTracing()
	if s.large, err = s.app.openClaims(soft, &s.flags.answer.claimsFlags, s.requests.url, s.responses.url); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.large.close()) }()
	requests, err := s.open(soft, s.requests, s.slots)
	if err != nil {
		return err
	}
	responses, err := s.open(soft, s.responses, 1)
	if err != nil {
		return errors.Join(err, s.close(requests))
	}
	return errors.Join(s.serve(soft, hard, requests, responses), s.close(requests, responses))
}

// closeTime is how long the last words to a broker may take.
const closeTime = 15 * time.Second

func (s *answering) close(queues ...*queue.Queue) error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	var err error
	for _, q := range queues {
		err = errors.Join(err, q.Close(ctx))
	}
	return err
}

func (s *answering) open(ctx context.Context, q queuePlace, outstanding int) (*queue.Queue, error) {
	opened, err := queue.Open(ctx, q.url, s.app.brokers(q.connection), s.large.use(q.url, &queue.Options{
		Lease: q.lease, Outstanding: outstanding, MustExist: s.flags.answer.mustExist, Logger: s.log,
	}))
	return opened, brokerError(err)
}

// brokerError says what to do about a queue that cannot be opened.
func brokerError(err error) error {
	switch {
	case errors.Is(err, navvy.ErrInvalid):
		return &usageError{err}
	case errors.Is(err, navvy.ErrUnavailable):
		return withHint(err, "is the broker up, and is that its address? One that goes away later is waited for, one that was never there is not")
	case errors.Is(err, navvy.ErrNotFound):
		return withHint(err, "queues that are missing are made, unless --must-exist forbids it; what else the URL names, such as a virtual host, must be there")
	}
	return err
}

// serve has the service answer.
func (s *answering) serve(soft, hard context.Context, requests, responses *queue.Queue) error {
	work, err := os.MkdirTemp("", "navvy-worker-")
	if err != nil {
		return err
	}
	defer parcel.Remove(work) //nolint:errcheck // of a directory for temporary files
	tree, err := s.deploy(soft, filepath.Join(work, "package"))
	if err != nil {
		return err
	}
	svc, err := s.openService(soft, filepath.Join(work, "work"), tree)
	if err != nil {
		return err
	}
	w := answer.New(requests, responses, svc.invoke, &answer.Options{
		Slots: s.slots, Attempts: s.flags.answer.attempts, Ready: svc.Ready, Logger: s.log,
		Tracer: s.spans.Tracer(), System: s.system(), Kind: s.kind(),
	})
	if err := s.app.notify(notifyReady); err != nil {
		s.log.Warn("systemd", "error", err)
	}
	s.log.Info("worker started", "requests", requests.Name(), "responses", responses.Name(), "slots", s.slots)
	ending, end := context.WithCancel(hard)
	defer end()
	over, limited := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(limited)
		s.limitDrain(soft, over, end)
	}()
	err = w.Run(soft, ending)
	close(over)
	<-limited
	n := w.Stats()
	s.log.Info("worker ended", "answered", n.Answered, "failed", n.Failed, "dead", n.Dead, "lost", n.Lost, "returned", n.Returned)
	closing, cancel := context.WithTimeout(context.WithoutCancel(hard), closeTime)
	defer cancel()
	return errors.Join(err, svc.Close(closing))
}

// limitDrain ends what is worked on when it has had its time after the worker was told to end.
func (s *answering) limitDrain(soft context.Context, over <-chan struct{}, end func()) {
	select {
	case <-over:
		return
	case <-soft.Done():
	}
	s.log.Info("the worker is about to end", "drain_timeout", s.drain)
	if err := s.app.notify(notifyStopping); err != nil {
		s.log.Warn("systemd", "error", err)
	}
	timer := time.NewTimer(s.drain)
	defer timer.Stop()
	select {
	case <-over:
	case <-timer.C:
		end()
	}
}
