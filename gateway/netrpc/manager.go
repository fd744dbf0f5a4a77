package netrpc

// manager are the calls that come in, as net/rpc finds them.
type manager struct{ g *Gateway }

// Register makes a worker known until it is found dead. Twice is once.
func (m *manager) Register(args RegisterArgs, reply *RegisterReply) error {
	if err := m.g.register(args.WorkerAddress); err != nil {
		return err
	}
	reply.Success = true
	return nil
}

// GiveManagerWork takes work, and returns when it is durable.
func (m *manager) GiveManagerWork(args WorkArgs, reply *WorkReply) error {
	if err := m.g.give(args.JobName); err != nil {
		return err
	}
	reply.Reply, reply.StatusCode = args.JobName, accepted
	return nil
}

// GetListOfWorkersIP gives the addresses of the workers that there are.
func (m *manager) GetListOfWorkersIP(_ Nothing, reply *WorkersReply) error {
	reply.WorkersIP = m.g.addresses()
	return nil
}

// Shutdown shuts all workers down, and forgets them. The server stays.
func (m *manager) Shutdown(_ Nothing, reply *ShutdownReply) error {
	if err := m.g.shutdownWorkers(); err != nil {
		return err
	}
	reply.Shutdown = true
	return nil
}
