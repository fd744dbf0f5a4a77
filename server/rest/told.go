package rest

import (
	"mime"
	"strconv"
	"strings"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/client"
)

// A caller who streams inputs, and accepts lines, is answered while they still come: with
// the job's id, then with how many are durable, and at the end with the job. So it can
// read results, and make inputs of them.

// durableField is how many inputs are durable, in a line of such an answer.
const durableField = "durable"

// accepts tells whether the caller asks for this type of answer by its name.
func (e *exchange) accepts(want string) bool {
	for _, header := range e.r.Header.Values("Accept") {
		for one := range strings.SplitSeq(header, ",") {
			if media, _, err := mime.ParseMediaType(one); err == nil && media == want {
				return true
			}
		}
	}
	return false
}

// tell writes what is new since last. A caller who has gone is noticed by whoever reads.
func (e *exchange) tell(last, taken client.Taken) {
	if taken.ID == "" {
		return
	}
	if last.ID == "" {
		e.accepted(taken.ID, taken.Existed, typeNDJSON)
		_ = e.push(acceptedLine(taken.ID, taken.Existed))
	}
	if taken.Durable > last.Durable {
		b := strconv.AppendInt([]byte(`{"`+durableField+`":`), taken.Durable, 10)
		_ = e.push(append(b, "}\n"...))
	}
}

// toldAll ends such an answer.
func (e *exchange) toldAll(id navvy.JobID) error {
	status, err := navvyv1.NewJobsClient(e.conn).Get(e.ctx, &navvyv1.GetRequest{Id: string(id)})
	if err != nil {
		return api.FromWire(err)
	}
	return e.push(marshal(status))
}
