package rest

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/client"
	"github.com/navvy-run/navvy/output"
)

// results writes one result a line.
func (e *exchange) results() error {
	req, err := e.request()
	if err != nil {
		return err
	}
	return e.stream(req, func(m proto.Message) []byte {
		var b []byte
		for _, r := range m.(*navvyv1.ResultsResponse).GetResults() {
			b = append(appendMessage(b, r.ProtoReflect()), '\n')
		}
		return b
	})
}

// errEnough ends a stream of which only the first message is wanted.
var errEnough = errors.New("enough")

// first answers with the first message of a stream.
func (e *exchange) first() error {
	req, err := e.request()
	if err != nil {
		return err
	}
	err = e.each(req, func(m proto.Message) error {
		e.answer(http.StatusOK, typeJSON, marshal(m))
		return errEnough
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return err
}

// streamParam says which stream of a task's output is wanted.
const streamParam = "stream"

// wantedStreams are those that a value of streamParam stands for.
var wantedStreams = map[string][]output.Stream{
	"":       {output.Stdout, output.Stderr},
	"both":   {output.Stdout, output.Stderr},
	"stdout": {output.Stdout},
	"stderr": {output.Stderr},
	"value":  {output.Value},
}

// output writes what a task wrote, as its bytes are.
func (e *exchange) output() error {
	req := &navvyv1.ReadOutputRequest{}
	if err := e.fillPath(req); err != nil {
		return err
	}
	query := e.r.URL.Query()
	wanted, ok := wantedStreams[query.Get(streamParam)]
	if !ok || len(query[streamParam]) > 1 {
		return invalid("parameter %s: want stdout, stderr or both, or value", streamParam)
	}
	delete(query, streamParam)
	if err := fillQuery(req.ProtoReflect(), query, e.route.offers); err != nil {
		return err
	}
	task := navvy.TaskID{Job: navvy.JobID(req.GetId()), Index: req.GetIndex()}
	err := e.client.Output(e.ctx, task, client.OutputOptions{Attempt: api.AttemptID(req), Follow: req.GetFollow()}, client.OutputSink{
		Write: func(s output.Stream, p []byte) error {
			if !slices.Contains(wanted, s) {
				return nil
			}
			e.begin(http.StatusOK, typeBytes)
			return e.write(p)
		},
		Flush: func() error {
			e.begin(http.StatusOK, typeBytes)
			return e.control.Flush()
		},
	})
	if err == nil {
		e.begin(http.StatusOK, typeBytes)
	}
	return err
}

// worker answers with one of the workers.
func (e *exchange) worker() error {
	if err := fillQuery((&navvyv1.FleetListRequest{}).ProtoReflect(), e.r.URL.Query(), nothing); err != nil {
		return err
	}
	list := &navvyv1.FleetListResponse{}
	if err := e.invoke(&navvyv1.FleetListRequest{}, list); err != nil {
		return err
	}
	for _, w := range list.GetWorkers() {
		if w.GetStatus().GetName() == e.vars["name"] {
			e.answer(http.StatusOK, typeJSON, marshal(w))
			return nil
		}
	}
	return fmt.Errorf("worker %s: %w", e.vars["name"], navvy.ErrNotFound)
}
