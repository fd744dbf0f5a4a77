package cli

import (
	"strings"

	"github.com/spf13/pflag"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/gateway/mstc"
	"github.com/navvy-run/navvy/internal/holder"
)

// mstcFlags are those of server about clients of the MSTC Cloud Worker.
type mstcFlags struct {
	mstc    holder.MSTCOptions
	urlFile string
}

// defaultMSTC is where those clients look for REST.
const defaultMSTC = "127.0.0.1:8080"

func (f *mstcFlags) add(fs *pflag.FlagSet) {
	fs.StringVar(&f.mstc.Address, "mstc", "", "run images for clients of the MSTC Cloud Worker, over RabbitMQ and over REST on `ADDR` (--mstc=ADDR), which is "+defaultMSTC+" unless it is said; or https://ADDR, which asks for certificates (docs/gateways.md)")
	fs.Lookup("mstc").NoOptDefVal = defaultMSTC
	fs.StringVar(&f.urlFile, "mstc-url-file", "", "a `FILE` with the URL of that RabbitMQ, amqp://USER:PASSWORD@HOST:PORT; - for standard input (default: WORK_QUEUE_HOST, _PORT, _USER and _PASS say it)")
	fs.StringVar(&f.mstc.Owner, "mstc-owner", "", "the `NAME` of the user whose jobs those are (default "+mstc.DefaultOwner+")")
	fs.StringVar(&f.mstc.Queue, "mstc-queue", "", "the queue, a `NAME`, of those jobs (default "+navvy.DefaultQueue+")")
}

// findMSTC finds out where the broker of MSTC clients is.
func (a *app) findMSTC(f *serverFlags) error {
	m := &f.mstcFlags
	if m.mstc.Address == "" {
		if m.urlFile != "" || m.mstc.Owner != "" || m.mstc.Queue != "" {
			return usagef("--mstc-url-file, --mstc-owner and --mstc-queue are about --mstc, which is not given")
		}
		return nil
	}
	m.mstc.Insecure = f.faas.Insecure
	if m.urlFile != "" {
		text, err := a.smallFile(m.urlFile)
		if err != nil {
			return usagef("--mstc-url-file: %w", err)
		}
		m.mstc.Broker = strings.TrimSpace(text)
	} else {
		var err error
		if m.mstc.Broker, err = mstc.FromEnvironment(a.env); err != nil {
			return &usageError{err}
		}
	}
	if m.mstc.Broker == "" {
		return withHint(usagef("--mstc: where is RabbitMQ?"), "name a file with its URL with --mstc-url-file, or set WORK_QUEUE_HOST")
	}
	if err := mstc.CheckBroker(m.mstc.Broker); err != nil {
		return &usageError{err}
	}
	return nil
}

// checkMSTC refuses what makes no sense about MSTC clients.
func (f *serverFlags) checkMSTC() error {
	if f.mstc.Address == "" {
		return nil
	}
	job := navvy.Job{Owner: f.mstc.Owner, Queue: f.mstc.Queue}
	if err := job.ValidateNames(); err != nil {
		return usagef("--mstc-owner, --mstc-queue: %w", err)
	}
	return plainAddress(f.mstc.Check(), f.mstc.Address, "with --insecure-listen navvy server lets anybody in")
}
