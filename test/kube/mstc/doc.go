// Package mstc tests what clients of the MSTC Cloud Worker do, with the means that they have:
// pika of Debian's Python, a real RabbitMQ, and a real Kubernetes that runs their images.
package mstc
