package rest

import (
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// maxValue bounds the body of a value, in bytes; what a value may have exactly, the
// services say.
const maxValue = 1 << 20

// etag is a version as the header of HTTP of this name; see RFC 9110, section 8.8.3.
func etag(version uint64) string { return `"` + strconv.FormatUint(version, 10) + `"` }

// ifMatch is the version that If-Match names; 0 if there is none.
func (e *exchange) ifMatch() (uint64, error) {
	header := e.r.Header.Get("If-Match")
	if header == "" {
		return 0, nil
	}
	text, ok := strings.CutPrefix(header, `"`)
	version, err := strconv.ParseUint(strings.TrimSuffix(text, `"`), 10, 64)
	if !ok || err != nil || version == 0 || etag(version) != header {
		return 0, invalid("If-Match %s: want one ETag as a value came with, as in \"17\" in quotes", header)
	}
	return version, nil
}

// condition turns what a condition that does not hold fails with into what HTTP says then.
func condition(err error) error {
	if errors.Is(err, navvy.ErrExists) || errors.Is(err, navvy.ErrConflict) {
		return &httpError{http.StatusPreconditionFailed, "precondition_failed", err.Error()}
	}
	return err
}

// getValue answers with a value's bytes.
func (e *exchange) getValue() error {
	req, err := e.request()
	if err != nil {
		return err
	}
	resp := &navvyv1.GetValueResponse{}
	if err := e.invoke(req, resp); err != nil {
		return err
	}
	v := resp.GetValue()
	tag := etag(v.GetVersion())
	e.w.Header().Set("ETag", tag)
	e.w.Header().Set("Last-Modified", v.GetChanged().AsTime().UTC().Format(http.TimeFormat))
	if e.r.Header.Get("If-None-Match") == tag {
		e.status = http.StatusNotModified
		e.w.WriteHeader(e.status)
		return nil
	}
	e.answer(http.StatusOK, typeBytes, v.GetValue())
	return nil
}

// putValue writes a value. If-None-Match: * writes only if there is none, If-Match only
// the version that it names.
func (e *exchange) putValue() error {
	m, err := e.request()
	if err != nil {
		return err
	}
	req := m.(*navvyv1.PutValueRequest)
	if req.IfVersion, err = e.ifMatch(); err != nil {
		return err
	}
	switch header := e.r.Header.Get("If-None-Match"); {
	case header == "*":
		req.IfAbsent = true
	case header != "":
		return invalid("If-None-Match %s: want *, for no value", header)
	}
	if req.Value, err = e.body(maxValue); err != nil {
		return err
	}
	resp := &navvyv1.PutValueResponse{}
	if err := e.invoke(req, resp); err != nil {
		return condition(err)
	}
	e.w.Header().Set("ETag", etag(resp.GetVersion()))
	e.answer(http.StatusOK, typeJSON, marshal(resp))
	return nil
}

// deleteValue takes a value away, with If-Match only the version that it names.
func (e *exchange) deleteValue() error {
	m, err := e.request()
	if err != nil {
		return err
	}
	req := m.(*navvyv1.DeleteValueRequest)
	if req.IfVersion, err = e.ifMatch(); err != nil {
		return err
	}
	resp := &navvyv1.DeleteValueResponse{}
	if err := e.invoke(req, resp); err != nil {
		return condition(err)
	}
	e.answer(http.StatusOK, typeJSON, marshal(resp))
	return nil
}
