package netrpc

// The messages of the contract. To gob only the names of their fields matter.

// RegisterArgs are those of Manager.Register.
type RegisterArgs struct{ WorkerAddress string }

// RegisterReply is the answer of Manager.Register.
type RegisterReply struct{ Success bool }

// WorkArgs are those of Manager.GiveManagerWork.
type WorkArgs struct{ JobName string }

// WorkReply is the answer of Manager.GiveManagerWork.
type WorkReply struct {
	Reply      string // the name of the job
	StatusCode int    // 200
}

// AssignArgs are those of Worker.AssignWork.
type AssignArgs struct{ ImageName string }

// AssignReply is the answer of Worker.AssignWork.
type AssignReply struct{ WorkIsGiven bool }

// Nothing are the arguments of the calls that have none. Gob takes it for any struct,
// and any struct for it.
type Nothing struct{}

// ShutdownReply is the answer of Worker.Shutdown and Manager.Shutdown.
type ShutdownReply struct{ Shutdown bool }

// WorkersReply is the answer of Manager.GetListOfWorkersIP.
type WorkersReply struct{ WorkersIP []string }

// accepted is the status of work that is taken.
const accepted = 200
