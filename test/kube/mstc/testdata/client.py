"""A client of the MSTC Cloud Worker, as the contract has it.

Usage: client.py PORT. Reads requests from standard input, a line {"id": …, "body": …} each,
sends them, and prints their answers as they come, as {"id": …, "body": …}. The body is sent
as it is: it need not be JSON.
"""

import json
import sys

import pika

EXCHANGE = "mstc.exchange"
WORK = "mstc.queue.work"

requests = [json.loads(line) for line in sys.stdin]
connection = pika.BlockingConnection(
    pika.ConnectionParameters("127.0.0.1", int(sys.argv[1]), heartbeat=30)
)
channel = connection.channel()
channel.exchange_declare(EXCHANGE, exchange_type="direct", durable=True)
for queue in (WORK, "mstc.queue.response"):
    channel.queue_declare(queue, durable=True)
channel.queue_bind(WORK, EXCHANGE, routing_key=WORK)
replies = channel.queue_declare("", exclusive=True).method.queue

waiting = {r["id"] for r in requests}


def answered(_channel, _method, properties, body):
    print(json.dumps({"id": properties.correlation_id, "body": json.loads(body)}), flush=True)
    waiting.discard(properties.correlation_id)
    if not waiting:
        channel.stop_consuming()


channel.basic_consume(replies, answered, auto_ack=True)
for r in requests:
    channel.basic_publish(
        EXCHANGE,
        WORK,
        r["body"].encode(),
        pika.BasicProperties(reply_to=replies, correlation_id=r["id"]),
    )
print(json.dumps({"sent": len(requests)}), flush=True)
if waiting:
    channel.start_consuming()
# What comes once more would come by now: the broker answers behind it.
channel.queue_declare(replies, passive=True)
connection.process_data_events()
connection.close()
