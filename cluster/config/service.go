package config

// Form is the service as --service of navvy worker start and navvy queue create writes it,
// see docs/services.md.
func (s *Service) Form() string {
	switch s.Kind {
	case ServiceEcho:
		return "echo"
	case ServiceCommand:
		return "cgi-raw:" + s.Command
	case ServiceGRPC:
		if s.Command == "" {
			return "grpc:" + s.Address
		}
		return "grpc-cmd:" + s.Command
	case ServiceGRPCAny:
		if s.Command == "" {
			return "grpc-any:" + s.Address
		}
		return "grpc-any-cmd:" + s.Address + " " + s.Command
	case ServiceCGI, ServiceLines, ServiceLinesJSON:
	}
	return string(s.Kind) + ":" + s.Command
}
