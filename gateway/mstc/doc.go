// Package mstc answers the clients of the MSTC Cloud Worker, which have images run over
// buckets: they send requests over RabbitMQ, or REST, and wait for a text. Each request
// becomes a job of one container. docs/gateways.md has the contract, of both generations.
//
// A request over RabbitMQ is acknowledged as soon as it is durable here, so that no timeout
// of the broker's matters, however long the container runs. With it the intent to answer is
// durable: a server that was killed answers after its restart.
package mstc
