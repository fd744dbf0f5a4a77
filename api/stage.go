package api

import (
	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

func fromStage(s *navvy.Stage) *navvyv1.Stage {
	if s.Zero() && s.Transfer == "" && !s.Cleanup {
		return nil
	}
	m := &navvyv1.Stage{Transfer: s.Transfer, Cleanup: s.Cleanup}
	for _, in := range s.In {
		m.In = append(m.In, &navvyv1.StagedInput{From: []byte(in.From), To: []byte(in.To)})
	}
	for _, out := range s.Out {
		m.Out = append(m.Out, &navvyv1.StagedOutput{Pattern: []byte(out.Pattern), To: []byte(out.To), Optional: out.Optional})
	}
	return m
}

func toStage(m *navvyv1.Stage) navvy.Stage {
	s := navvy.Stage{Transfer: m.GetTransfer(), Cleanup: m.GetCleanup()}
	for _, in := range m.GetIn() {
		s.In = append(s.In, navvy.StagedInput{From: string(in.GetFrom()), To: string(in.GetTo())})
	}
	for _, out := range m.GetOut() {
		s.Out = append(s.Out, navvy.StagedOutput{Pattern: string(out.GetPattern()), To: string(out.GetTo()), Optional: out.GetOptional()})
	}
	return s
}
