package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/spf13/pflag"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	"github.com/navvy-run/navvy/gateway/cloudworker"
	"github.com/navvy-run/navvy/internal/input"
	"github.com/navvy-run/navvy/queue"
	"github.com/navvy-run/navvy/queue/ask"
)

// brokerFlags are the flags of a map over a broker's queues.
type brokerFlags struct {
	file                     string // holds the URL of --queue
	responses, responsesFile string
	patience                 string
	claimsFlags
}

func (f *brokerFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.file, "queue-file", "", "a `FILE` that holds the URL of a broker's queue, for one with a password; - for standard input")
	fs.StringVar(&f.responses, "responses", "", "with a broker's --queue: the `URL` of the queue that its workers answer to (default $NAVVY_RESPONSES)")
	fs.StringVar(&f.responsesFile, "responses-file", "", "a `FILE` that holds that URL")
	f.claimsFlags.add(fs)
	fs.StringVar(&f.patience, "patience", "", "with a broker's --queue: give up when no answer comes for so long (default: never)")
}

// wanted tells whether the inputs go to a broker's queue.
func (f *brokerFlags) wanted(queue string) bool {
	return strings.Contains(queue, "://") || f.file != ""
}

// given names a flag that was given, and that goes with a broker's queue only.
func (f *brokerFlags) given() string {
	switch {
	case f.responses != "":
		return "--responses"
	case f.responsesFile != "":
		return "--responses-file"
	case f.patience != "":
		return "--patience"
	}
	return f.claimsFlags.given()
}

// brokerGoes are the flags of map that mean something with a broker's queue.
var brokerGoes = []string{
	"arg-file", "as-completed", "claims", "claims-over", "keep-order", "null", "output", "patience", "progress", "queue", "queue-file", "quiet", "responses", "responses-file",
}

// checkGiven refuses flags that would be ignored.
func (f *mapFlags) checkGiven() error {
	var others []string
	for _, name := range f.given {
		if !slices.Contains(brokerGoes, name) {
			others = append(others, "--"+name)
		}
	}
	if len(others) > 0 {
		return withHint(usagef("map: with a broker's --queue, whose workers do the work as they were started, nothing would come of %s", strings.Join(others, ", ")), "limits, retries and the like are the workers': see navvy worker start --help")
	}
	if slices.Contains(f.given, "queue") && f.broker.file != "" {
		return usagef("map: --queue and --queue-file: give one of them")
	}
	return nil
}

// mapQueue sends the inputs to a broker's queue, and prints the answers.
func (a *app) mapQueue(ctx context.Context, f *mapFlags, command []string, behind []input.Source) (err error) {
	a.quiet = f.quiet
	patience, err := f.checkBroker(command)
	if err != nil {
		return err
	}
	sources, comma, err := f.sources(behind)
	if err != nil {
		return err
	}
	if with := f.fielded(len(sources)); with != "" {
		return usagef("map: a request is one text: --queue does not go with %s", with)
	}
	if err := f.checkGiven(); err != nil {
		return err
	}
	urls, err := f.brokerURLs(a)
	if err != nil {
		return err
	}
	in, err := input.Open(sources, &input.Options{Null: f.null, Comma: comma, Stdin: a.in})
	if err != nil {
		return &usageError{err}
	}
	defer in.Close()
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	large, err := a.openClaims(ctx, &f.broker.claimsFlags, urls[:]...)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, large.close()) }()
	m := &queueMap{app: a, flags: f, in: in}
	for i, url := range urls {
		q, err := a.openBroker(ctx, url, large)
		if err != nil {
			return errors.Join(err, m.close())
		}
		m.queues[i] = q
	}
	err = hintDead(m.run(ctx, patience), urls[0])
	if ctx.Err() != nil {
		sent, answered, _ := m.asker.Progress()
		a.say("interrupted: %d of %d requests that were sent are answered; the others stay in the queue, and nobody waits for their answers", answered, sent)
		err = &exitError{code: api.ExitInterrupted}
	}
	return errors.Join(err, m.close())
}

// checkBroker refuses what has no meaning for requests to somebody else's workers.
func (f *mapFlags) checkBroker(command []string) (patience time.Duration, err error) {
	switch {
	case len(command) > 0:
		return 0, usagef("map: with a broker's --queue its workers' service answers the inputs: give no command")
	case f.service != "":
		return 0, usagef("map: --service goes with no broker's --queue, whose workers have theirs")
	case f.fn != "":
		return 0, usagef("map: --fn goes with no broker's --queue")
	case f.detach:
		return 0, usagef("map: --detach goes with no broker's --queue: nobody would collect the answers")
	case f.tag || f.joblog != "" || f.output == "csv":
		return 0, usagef("map: --tag, --joblog and -o csv go with no broker's --queue")
	}
	if err := f.check(); err != nil {
		return 0, err
	}
	return durationFlag("patience", f.broker.patience)
}

// brokerURLs are the URLs of the queues of requests and of answers.
func (f *mapFlags) brokerURLs(a *app) (urls [2]string, err error) {
	flag := f.queue
	if !strings.Contains(flag, "://") {
		flag = ""
	}
	for i, q := range []struct{ name, variable, flag, file string }{
		{"queue", "NAVVY_REQUESTS", flag, f.broker.file}, {"responses", "NAVVY_RESPONSES", f.broker.responses, f.broker.responsesFile},
	} {
		place, err := a.queuePlace(q.name, q.variable, q.flag, q.file, &cloudworker.Queue{})
		if err != nil {
			return urls, err
		}
		urls[i] = place.url
	}
	if queue.Same(urls[0], urls[1]) {
		return urls, usagef("map: --queue and --responses name the same queue: requests would be taken for answers, and answers for requests")
	}
	return urls, nil
}

// mapWindow is how many requests may be on their way.
const mapWindow = 2000

func (a *app) openBroker(ctx context.Context, url string, large *largeBodies) (*queue.Queue, error) {
	q, err := queue.Open(ctx, url, a.brokers(""), large.use(url, &queue.Options{Outstanding: mapWindow + 100}))
	return q, brokerError(err)
}

// queueMap is a map over a broker's queues.
type queueMap struct {
	app    *app
	flags  *mapFlags
	in     *input.Reader
	queues [2]*queue.Queue // of requests, and of answers
	asker  *ask.Asker
	out    *bufio.Writer
	wrote  int64 // answers
}

func (m *queueMap) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), closeTime)
	defer cancel()
	var err error
	for _, q := range m.queues {
		if q != nil {
			err = errors.Join(err, q.Close(ctx))
		}
	}
	return err
}

func (m *queueMap) run(ctx context.Context, patience time.Duration) error {
	var err error
	m.asker, err = ask.New(m.queues[0], m.queues[1], &ask.Options{Window: mapWindow, Unordered: m.flags.asCompleted || !m.flags.keepOrder, Patience: patience})
	if err != nil {
		return err
	}
	m.out = bufio.NewWriter(m.app.out)
	bar := m.app.newBar(&m.flags.printFlags)
	showing, hide := context.WithCancel(ctx)
	shown := make(chan struct{})
	go func() {
		defer close(shown)
		m.show(showing, bar)
	}()
	err = m.asker.Run(ctx, m.inputs(ctx), m.print)
	hide()
	<-shown
	if _, tired := errors.AsType[*ask.GaveUpError](err); (err == nil || tired) && m.flags.output == "json" {
		_, end := m.out.WriteString(map[bool]string{true: "[]\n", false: "\n]\n"}[m.wrote == 0])
		err = errors.Join(err, end)
	}
	return errors.Join(err, m.out.Flush())
}

// hintDead says where requests may be that nobody answered.
func hintDead(err error, requests string) error {
	tired, ok := errors.AsType[*ask.GaveUpError](err)
	if !ok || len(tired.Missing) == 0 {
		return err
	}
	named, secret := queue.WithoutUser(requests)
	switch _, unknown := queue.DeadLetters(requests); {
	case unknown != nil:
		return withHint(err, "does a worker answer these queues? docs/brokers.md says where dead letters are")
	case secret:
		return withHint(err, "does a worker answer these queues? navvy queue dlq --url-file FILE, with the URL of %s in FILE, shows requests that failed for good", named)
	}
	return withHint(err, "does a worker answer these queues? navvy queue dlq '%s' shows requests that failed for good", named)
}

// show keeps the bar up to date.
func (m *queueMap) show(ctx context.Context, bar *bar) {
	if bar == nil {
		return
	}
	defer bar.end()
	tick := time.NewTicker(redrawEvery / 4)
	defer tick.Stop()
	for ctx.Err() == nil {
		sent, answered, total := m.asker.Progress()
		counts := navvy.Counts{Succeeded: answered, Running: max(sent-answered, 0)}
		bar.show(&navvy.Status{Counts: counts, Open: total < 0})
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

// inputs are the inputs, one after the other.
func (m *queueMap) inputs(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for {
			batch, err := m.in.Batch(ctx)
			for _, body := range batch {
				if !yield(body, nil) {
					return
				}
			}
			if errors.Is(err, io.EOF) {
				return
			} else if err != nil {
				yield(nil, &usageError{err})
				return
			}
		}
	}
}

// askedAnswer is an answer in JSON.
type askedAnswer struct {
	Index        int64   `json:"index"`
	Answer       *string `json:"answer,omitempty"`
	AnswerBase64 []byte  `json:"answer_base64,omitempty"`
}

// print writes one answer. It must have left this process before it may leave its queue.
func (m *queueMap) print(index int64, body []byte) error {
	m.wrote++
	if m.flags.output == "text" {
		if len(body) == 0 || body[len(body)-1] != '\n' {
			body = append(body, '\n')
		}
		_, err := m.out.Write(body)
		return errors.Join(err, m.out.Flush())
	}
	answer := askedAnswer{Index: index, AnswerBase64: body}
	if utf8.Valid(body) {
		text := string(body)
		answer.Answer, answer.AnswerBase64 = &text, nil
	}
	raw, err := json.Marshal(answer)
	if err != nil {
		return err
	}
	begin, end := "", "\n"
	if m.flags.output == "json" {
		begin, end = ",\n", ""
		if m.wrote == 1 {
			begin = "[\n"
		}
	}
	_, err = fmt.Fprintf(m.out, "%s%s%s", begin, raw, end)
	return errors.Join(err, m.out.Flush())
}
