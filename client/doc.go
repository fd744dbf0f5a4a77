// Package client is what a Go program imports to use navvy: submit work, wait
// for it, read the answers, follow output, steer jobs. The command line, the
// gateways and the workers use it as well; it speaks to a server in the same
// process, behind a unix socket, or elsewhere, alike.
//
// A program on any machine connects with a certificate (navvy cert issue writes the
// three files; auth is package server/auth):
//
//	pair, err := auth.LoadPair("ann.crt", "ann.key")
//	pool, err := auth.LoadPool("ca.crt")
//	conn, me, err := client.Dial(ctx, "build1:7433", auth.ClientTLS(auth.Fixed(pair), pool))
//	defer conn.Close()
//	c := client.New(conn)
//
// Map runs a job over an iterator of inputs and is an iterator of answers. Start
// submits a job and leaves it to the server; Wait waits for a job's end, Results gives
// its answers, Read and Chunks what tasks wrote, also while they run; Stop ends it.
// What is many comes as an iterator, with an error as its last element. Submit is the
// long way, for who decides about each message.
package client
