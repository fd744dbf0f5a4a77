package client_test

import (
	"context"
	"fmt"
	"time"

	"github.com/navvy-run/navvy/client"
)

// Requests go to the service of a queue (navvy queue create scores --service …), and its
// answers are received: each is acknowledged when it has been dealt with, and comes again
// if that never happens. With the idempotency key the requests are sent once, however
// often this runs.
func ExampleClient_Messages() {
	ask := func(ctx context.Context, c *client.Client) error {
		scores := c.Messages("scores")
		_, err := scores.Send(ctx, []client.OutMessage{
			{Correlation: "order-9", Body: []byte("42")},
			{Correlation: "order-10", Body: []byte("17")},
		}, client.SendOptions{IdempotencyKey: "orders of today"})
		for err == nil {
			var answers []client.Message
			answers, err = scores.Receive(ctx, client.ReceiveOptions{Max: 100, Wait: time.Minute})
			for _, m := range answers {
				fmt.Println(m.Correlation, string(m.Body)) // deal with it, durably
				if err := scores.Ack(ctx, m.Receipt); err != nil {
					return err
				}
			}
			if len(answers) == 0 {
				break
			}
		}
		return err
	}
	_ = ask // with a client of client.Dial
}
