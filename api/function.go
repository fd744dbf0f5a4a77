package api

import (
	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

// FromFunctionVersion is a registered function as a message.
func FromFunctionVersion(f *navvy.FunctionVersion) *navvyv1.FunctionVersion {
	return &navvyv1.FunctionVersion{
		Id: f.ID, Owner: f.Owner, Name: f.Name, Version: int32(f.Version), Form: string(f.Form), Code: f.Code, Entry: f.Entry,
		Python: f.Python, Pickler: f.Pickler, Created: timestamp(f.Created), Size: int64(f.Size),
	}
}

// ToFunctionVersion reads the message.
func ToFunctionVersion(m *navvyv1.FunctionVersion) *navvy.FunctionVersion {
	return &navvy.FunctionVersion{
		ID: m.GetId(), Owner: m.GetOwner(), Name: m.GetName(), Version: int(m.GetVersion()), Form: navvy.FunctionForm(m.GetForm()),
		Code: m.GetCode(), Entry: m.GetEntry(), Python: m.GetPython(), Pickler: m.GetPickler(),
		Created: fromTimestamp(m.GetCreated()), Size: int(m.GetSize()),
	}
}
