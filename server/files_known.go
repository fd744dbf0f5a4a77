package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/share/place"
)

// What was put is registered by its content, for each owner, so that none is sent twice.
// That is a hint and no promise: another program may change the share, a crash may leave the
// one without the other. So a file is looked at before it is used, and a hint that is
// missing, or wrong, costs that the file is sent again. Owners don't meet: who knows the
// checksum of another one's file learns nothing by it.

// knownFile is a file of that content, registered by owner, content and name.
type knownFile struct {
	Version int    `json:"version"`
	Name    string `json:"name"`
}

// knownName is the content of a file, registered by owner and name.
type knownName struct {
	Version int    `json:"version"`
	SHA256  string `json:"sha256"`
}

func hashed(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// sumPrefix is what the entries of an owner's files of a content begin with.
func sumPrefix(owner, sum string) string { return hashed(owner) + "/" + sum + "/" }

func nameEntry(owner, name string) string { return hashed(owner) + "/" + hashed(name) }

// noteFile registers what a file holds. That it could not is no reason to refuse the file.
func (s *Server) noteFile(ctx context.Context, owner, name, sum string) {
	err := s.forgetting(ctx, owner, name)
	if err == nil && place.IsSHA256(sum) {
		err = s.noting(ctx, owner, name, sum)
	}
	s.hintFailed(name, err)
}

func (s *Server) noting(ctx context.Context, owner, name, sum string) error {
	file, err := encodeRecord(&knownFile{recordVersion, name})
	if err != nil {
		return err
	}
	content, err := encodeRecord(&knownName{recordVersion, sum})
	if err != nil {
		return err
	}
	return s.eng.Registry().Apply(ctx,
		engine.Change{Kind: engine.KindFileSum, Name: sumPrefix(owner, sum) + hashed(name), Value: file},
		engine.Change{Kind: engine.KindFileName, Name: nameEntry(owner, name), Value: content})
}

// forgetFile takes out of the registry what a file held that is gone.
func (s *Server) forgetFile(ctx context.Context, owner, name string) {
	s.hintFailed(name, s.forgetting(ctx, owner, name))
}

func (s *Server) forgetting(ctx context.Context, owner, name string) error {
	reg := s.eng.Registry()
	entry, err := reg.Get(ctx, engine.KindFileName, nameEntry(owner, name))
	if errors.Is(err, navvy.ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	old, err := decodeRecord[knownName](&entry)
	if err != nil {
		return err
	}
	return reg.Apply(ctx,
		engine.Change{Kind: engine.KindFileSum, Name: sumPrefix(owner, old.SHA256) + hashed(name), Delete: true},
		engine.Change{Kind: engine.KindFileName, Name: nameEntry(owner, name), Delete: true})
}

func (s *Server) hintFailed(name string, err error) {
	if err != nil {
		s.opts.Logger.Warn("what a file holds could not be noted; it may be sent again", "file", name, "error", err)
	}
}

// PutKnown implements the call of that name.
func (s *files) PutKnown(ctx context.Context, req *navvyv1.FilesPutKnownRequest) (*navvyv1.FilesPutKnownResponse, error) {
	f, err := s.putKnown(ctx, req)
	if err != nil {
		return nil, s.fail(err)
	}
	return &navvyv1.FilesPutKnownResponse{File: fromFile(f, req.GetKey())}, nil
}

// maxHints bounds how many files of one content are tried.
const maxHints = 16

func (s *files) putKnown(ctx context.Context, req *navvyv1.FilesPutKnownRequest) (*place.File, error) {
	owner, st, err := s.owner(ctx, req.GetOwner(), navvyv1.Files_PutKnown_FullMethodName)
	if err != nil {
		return nil, err
	}
	to, err := fileKey(owner, req.GetKey())
	if err != nil {
		return nil, err
	}
	sum := req.GetSha256()
	if !place.IsSHA256(sum) {
		return nil, fmt.Errorf("%.70q is no SHA-256: want 64 hexadecimal digits: %w", sum, navvy.ErrInvalid)
	}
	if err := s.roomForFile(); err != nil {
		return nil, err
	}
	hints, _, err := s.eng.Registry().List(ctx, engine.KindFileSum, sumPrefix(owner, sum), "", maxHints)
	if err != nil {
		return nil, err
	}
	for i := range hints {
		hint, err := decodeRecord[knownFile](&hints[i])
		if err != nil {
			s.hintFailed(req.GetKey(), err)
			continue
		}
		f, err := duplicate(ctx, st, owner, hint.Name, to, sum)
		if err == nil {
			s.noteFile(ctx, owner, req.GetKey(), sum)
			return f, nil
		}
		if !errors.Is(err, navvy.ErrNotFound) {
			return nil, err
		}
		s.forgetFile(ctx, owner, hint.Name)
	}
	return nil, fmt.Errorf("no file of that content is known: %w", navvy.ErrNotFound)
}

// duplicate gives what a file of an owner holds another name; navvy.ErrNotFound if it is
// not there, or holds something else.
func duplicate(ctx context.Context, st FileStore, owner, name, to, sum string) (*place.File, error) {
	from, err := fileKey(owner, name)
	if err != nil {
		return nil, err
	}
	f, err := st.Stat(ctx, from)
	if err != nil || from == to && f.SHA256 == sum {
		return &f, err
	}
	if f.SHA256 != sum {
		return nil, navvy.ErrNotFound
	}
	if err := st.Duplicate(ctx, from, to); err != nil {
		if errors.Is(err, navvy.ErrUnavailable) || errors.Is(err, navvy.ErrExhausted) || ctx.Err() != nil {
			return nil, err
		}
		return nil, fmt.Errorf("%w: %w", err, navvy.ErrNotFound) // such as one that is too large for that: it is sent
	}
	if f, err = st.Stat(ctx, to); err == nil && f.SHA256 != sum { // it was replaced in between
		err = errors.Join(navvy.ErrNotFound, st.Remove(ctx, to))
	}
	return &f, err
}
