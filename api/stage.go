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
	for _, f := range s.Mounts {
		m.Mounts = append(m.Mounts, &navvyv1.StagedFolder{From: []byte(f.From), To: []byte(f.To)})
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
	for _, f := range m.GetMounts() {
		s.Mounts = append(s.Mounts, navvy.StagedFolder{From: string(f.GetFrom()), To: string(f.GetTo())})
	}
	return s
}

func fromPackage(p *navvy.Package) *navvyv1.Package {
	if p == nil {
		return nil
	}
	return &navvyv1.Package{Name: Text(p.Name), Version: Text(p.Version), Owner: p.Owner, Sha256: p.SHA256}
}

func toPackage(m *navvyv1.Package) *navvy.Package {
	if m == nil {
		return nil
	}
	return &navvy.Package{Name: m.GetName(), Version: m.GetVersion(), Owner: m.GetOwner(), SHA256: m.GetSha256()}
}
