package api

import (
	"github.com/navvy-run/navvy"
	navvyv1 "github.com/navvy-run/navvy/api/navvy/v1"
)

func fromCommand(c *navvy.Command) *navvyv1.Command {
	return &navvyv1.Command{
		Args: byteStrings(c.Args), Literal: c.Literal, Shell: c.Shell, Stdin: c.Stdin,
		Columns: byteStrings(c.Columns), Env: byteStrings(c.Env), Dir: []byte(c.Dir),
	}
}

func toCommand(c *navvyv1.Command) *navvy.Command {
	return &navvy.Command{
		Args: fromByteStrings(c.GetArgs()), Literal: c.GetLiteral(), Shell: c.GetShell(), Stdin: c.GetStdin(),
		Columns: fromByteStrings(c.GetColumns()), Env: fromByteStrings(c.GetEnv()), Dir: string(c.GetDir()),
	}
}

func fromContainer(c *navvy.Container) *navvyv1.Container {
	return &navvyv1.Container{
		Image: c.Image, Name: c.Name, Entrypoint: byteStrings(c.Entrypoint), Command: fromCommand(&c.Command),
		Pending: duration(c.Pending), Namespace: c.Namespace, Template: c.Template, Pack: int32(c.Pack),
		Buckets: fromBuckets(&c.Buckets),
	}
}

func toContainer(c *navvyv1.Container) *navvy.Container {
	return &navvy.Container{
		Image: c.GetImage(), Name: c.GetName(), Entrypoint: fromByteStrings(c.GetEntrypoint()),
		Command: *toCommand(c.GetCommand()), Pending: c.GetPending().AsDuration(),
		Namespace: c.GetNamespace(), Template: c.GetTemplate(), Pack: int(c.GetPack()), Buckets: toBuckets(c.GetBuckets()),
	}
}

func fromBuckets(b *navvy.Buckets) *navvyv1.Buckets {
	if *b == (navvy.Buckets{}) {
		return nil
	}
	return &navvyv1.Buckets{
		Input: b.Input, Output: b.Output, Prefix: b.Prefix, InputDir: b.InputDir, OutputDir: b.OutputDir,
	}
}

func toBuckets(b *navvyv1.Buckets) navvy.Buckets {
	return navvy.Buckets{
		Input: b.GetInput(), Output: b.GetOutput(), Prefix: b.GetPrefix(), InputDir: b.GetInputDir(), OutputDir: b.GetOutputDir(),
	}
}
