package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/navvy-run/navvy"
	"github.com/navvy-run/navvy/api"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
	"github.com/navvy-run/navvy/engine"
	"github.com/navvy-run/navvy/manager"
	"github.com/navvy-run/navvy/server/auth"
)

// fleet implements the Fleet service.
type fleet struct {
	navvyv1.UnimplementedFleetServer
	*Server
}

// List implements the call of that name.
func (s *fleet) List(ctx context.Context, _ *navvyv1.FleetListRequest) (*navvyv1.FleetListResponse, error) {
	connected := map[string]*navvyv1.FleetWorker{}
	for _, w := range s.mgr.Workers() {
		connected[w.Name] = &navvyv1.FleetWorker{Status: workerStatus(&w), State: stateOf(&w)}
	}
	err := each(ctx, s.eng.Registry(), engine.KindWorker, "", func(name string, r *rostered) error {
		w := connected[name]
		if w == nil {
			w = &navvyv1.FleetWorker{State: "lost", Status: &navvyv1.WorkerStatus{
				Name: name, Kinds: r.Kinds, Slots: int32(r.Slots), Version: api.Text(r.Build),
			}}
			if r.Left {
				w.State = "left"
			}
			connected[name] = w
		}
		w.Joined, w.Connected = timestamppb.New(r.Joined), timestamppb.New(r.Connected)
		return nil
	})
	if err != nil {
		return nil, s.fail(err)
	}
	resp := &navvyv1.FleetListResponse{}
	for _, w := range connected {
		resp.Workers = append(resp.Workers, w)
	}
	slices.SortFunc(resp.Workers, func(a, b *navvyv1.FleetWorker) int {
		return cmp.Compare(a.GetStatus().GetName(), b.GetStatus().GetName())
	})
	return resp, nil
}

// stateOf is how a connected worker is.
func stateOf(w *manager.WorkerStatus) string {
	switch {
	case w.Leaving:
		return "draining"
	case w.Quarantine != "":
		return "quarantined"
	case w.Silent:
		return "silent"
	default:
		return "ready"
	}
}

func workerStatus(w *manager.WorkerStatus) *navvyv1.WorkerStatus {
	return &navvyv1.WorkerStatus{
		Name: w.Name, Kinds: w.Kinds, Running: int64(w.Running), Abilities: api.FromAbilities(w.Abilities),
		Slots: int32(w.Slots), Version: api.Text(w.Version), Offer: api.FromOffer(&w.Offer), Used: api.FromOffer(&w.Used),
		Quarantine: api.Text(w.Quarantine), Owners: api.Text(w.Owners),
	}
}

func noWorker(name string) error { return fmt.Errorf("worker %q: %w", name, navvy.ErrNotFound) }

// Drain implements the call of that name.
func (s *fleet) Drain(ctx context.Context, req *navvyv1.FleetDrainRequest) (*navvyv1.FleetDrainResponse, error) {
	auth.Note(ctx, slog.String("worker", req.GetName()))
	if s.mgr.DrainWorker(req.GetName()) {
		return &navvyv1.FleetDrainResponse{}, nil
	}
	_, err := s.eng.Registry().Get(ctx, engine.KindWorker, req.GetName())
	switch {
	case err == nil:
		err = fmt.Errorf("worker %s is not connected, so that nobody can tell it to end: %w", req.GetName(), navvy.ErrUnavailable)
	case errors.Is(err, navvy.ErrNotFound):
		err = noWorker(req.GetName())
	}
	return nil, s.fail(err)
}

// Remove implements the call of that name.
func (s *fleet) Remove(ctx context.Context, req *navvyv1.FleetRemoveRequest) (*navvyv1.FleetRemoveResponse, error) {
	return &navvyv1.FleetRemoveResponse{}, s.fail(s.remove(ctx, req.GetName()))
}

// remove lets a worker in no more before it is forgotten: a crash in between leaves
// one that is on the roster and cannot come back, which is removed again.
func (s *fleet) remove(ctx context.Context, name string) error {
	auth.Note(ctx, slog.String("worker", name))
	_, err := s.eng.Registry().Get(ctx, engine.KindWorker, name)
	if errors.Is(err, navvy.ErrNotFound) {
		err = noWorker(name)
	}
	if err != nil {
		return err
	}
	revoker := &identity{Server: s.Server}
	if err := revoker.revokeWorker(ctx, name); err != nil {
		return err
	}
	s.mgr.RemoveWorker(name, fmt.Sprintf("its worker was removed by %s", auth.From(ctx).Name))
	return s.eng.Registry().Delete(ctx, engine.KindWorker, name)
}
