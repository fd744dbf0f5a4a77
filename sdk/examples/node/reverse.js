#!/usr/bin/env node
// A service of navvy in JavaScript: it answers a text with its words in reverse order.
//
//     navvy worker start --requests URL --responses URL --service 'grpc-cmd:node reverse.js'
//
// It wants the package @grpc/grpc-js, and nothing that protoc would have to write: the
// messages of navvy.service.v1.UserService have so few fields that they are read and
// written here.
'use strict';

const grpc = require('@grpc/grpc-js');

// invoke answers one request. Many run at once, as promises.
async function invoke({ input }) {
  let text;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(input);
  } catch {
    throw { code: grpc.status.INVALID_ARGUMENT, details: 'the input is no text' }; // it never will be
  }
  const words = text.split(/\s+/).filter((word) => word !== '');
  if (words.length === 1 && words[0] === 'fail') {
    throw new Error('as you wish'); // the request is tried again a few times
  }
  return Buffer.from(words.reverse().join(' '));
}

// initialize makes the service ready, before the first request.
async function initialize() {}

// dispose ends the service, after the last request.
async function dispose() {}

function readVarint(data, at) {
  let value = 0;
  for (let factor = 1; ; factor *= 128) {
    const byte = data[at++];
    value += (byte & 0x7f) * factor;
    if (byte < 0x80) return [value, at];
  }
}

// readRequest reads an InvokeRequest: input, id and attempt.
function readRequest(data) {
  const request = { input: Buffer.alloc(0), id: '', attempt: 0 };
  for (let at = 0; at < data.length; ) {
    let tag, value;
    [tag, at] = readVarint(data, at);
    switch (tag & 7) {
      case 0:
        [value, at] = readVarint(data, at);
        break;
      case 2: {
        let size;
        [size, at] = readVarint(data, at);
        value = data.subarray(at, at + size);
        at += size;
        break;
      }
      default: // a field that navvy has learnt since: eight bytes, or four
        at += (tag & 7) === 1 ? 8 : 4;
    }
    if (tag === ((1 << 3) | 2)) request.input = value;
    if (tag === ((2 << 3) | 2)) request.id = value.toString();
    if (tag === 3 << 3) request.attempt = value;
  }
  return request;
}

// writeAnswer writes an InvokeResponse.
function writeAnswer(output) {
  const head = [(1 << 3) | 2];
  let size = output.length;
  for (; size >= 0x80; size = Math.floor(size / 128)) head.push((size & 0x7f) | 0x80);
  head.push(size);
  return Buffer.concat([Buffer.from(head), output]);
}

function method(name, read, write) {
  return {
    path: `/navvy.service.v1.UserService/${name}`,
    requestStream: false,
    responseStream: false,
    requestSerialize: (message) => message,
    requestDeserialize: read,
    responseSerialize: write,
    responseDeserialize: (message) => message,
  };
}

function answering(handle) {
  return (call, done) => handle(call.request).then((answer) => done(null, answer), done);
}

const nothing = () => Buffer.alloc(0);
const server = new grpc.Server({ 'grpc.max_receive_message_length': -1, 'grpc.max_send_message_length': -1 });
server.addService(
  {
    Initialize: method('Initialize', nothing, nothing),
    Invoke: method('Invoke', readRequest, writeAnswer),
    Dispose: method('Dispose', nothing, nothing),
  },
  { Initialize: answering(initialize), Invoke: answering(invoke), Dispose: answering(dispose) },
);
server.bindAsync(process.env.NAVVY_SERVICE_ADDR, grpc.ServerCredentials.createInsecure(), (err) => {
  if (err) throw err;
});

function stop() {
  server.tryShutdown(() => process.exit(0));
}
process.on('SIGTERM', stop);
process.stdin.on('end', stop).resume(); // standard input ends with navvy, however that ends
