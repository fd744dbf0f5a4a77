'use strict';
// Management over HTTP: makes a queue and shows it, in Atom entries, as much of it as
// whoever makes queues needs. POST /$standin tells the stand-in to misbehave.

const http = require('http');
const { verify } = require('./access.js');

const FIVE_MINUTES = 300000;

function milliseconds(duration) {
  const m = /^PT(?:(\d+)M)?(?:(\d+(?:\.\d+)?)S)?$/.exec(duration);
  return m ? (+(m[1] || 0) * 60 + +(m[2] || 0)) * 1000 : NaN;
}

const element = (xml, name) => (new RegExp('<' + name + '>([^<]*)</' + name + '>').exec(xml) || [])[1];

const failure = (status, detail) => ({ status, xml: '<Error><Code>' + status + '</Code><Detail>' + detail + '</Detail></Error>' });

function entry(broker, queue) {
  const counts = { Active: broker.list(queue, 0).length, DeadLetter: broker.list(broker.find(queue.dead), 0).length, Scheduled: 0, TransferDeadLetter: 0, Transfer: 0 };
  const date = new Date(0).toISOString();
  return '<entry xmlns="http://www.w3.org/2005/Atom"><title type="text">' + queue.name + '</title><content type="application/xml">' +
    '<QueueDescription xmlns="http://schemas.microsoft.com/netservices/2010/10/servicebus/connect">' +
    '<LockDuration>PT' + queue.settings.lock / 1000 + 'S</LockDuration><MaxDeliveryCount>' + queue.settings.deliveries + '</MaxDeliveryCount>' +
    '<RequiresDuplicateDetection>' + !!queue.settings.unique + '</RequiresDuplicateDetection><Status>Active</Status>' +
    '<CountDetails>' + Object.entries(counts).map(([name, n]) => '<' + name + 'MessageCount>' + n + '</' + name + 'MessageCount>').join('') + '</CountDetails>' +
    ['CreatedAt', 'UpdatedAt', 'AccessedAt'].map(name => '<' + name + '>' + date + '</' + name + '>').join('') + '</QueueDescription></content></entry>';
}

function create(broker, name, xml) {
  if (broker.find(name)) return failure(409, 'SubCode=40900. Conflict.');
  const settings = {
    lock: milliseconds(element(xml, 'LockDuration') || 'PT1M'),
    deliveries: +(element(xml, 'MaxDeliveryCount') || 10),
    unique: element(xml, 'RequiresDuplicateDetection') === 'true',
  };
  if (!(settings.lock >= 5000 && settings.lock <= FIVE_MINUTES)) return failure(400, 'LockDuration is out of range.');
  if (!(settings.deliveries >= 1 && settings.deliveries <= 2000)) return failure(400, 'MaxDeliveryCount is out of range.');
  broker.create(name, settings);
  return { status: 201, xml: entry(broker, broker.find(name)) };
}

function answer(broker, faults, request, body) {
  const name = decodeURIComponent(request.url.replace(/^\//, '').replace(/\?.*/, ''));
  if (name === '$standin') {
    Object.assign(faults, JSON.parse(body));
    return { status: 200, xml: '' };
  }
  const who = verify(request.headers.authorization || '');
  if (!who) return failure(401, 'MalformedToken: the signature is wrong.');
  if (!who.rights.includes('Manage')) return failure(401, 'Manage,EntityRead claims required for this operation.');
  if (request.method === 'PUT') return create(broker, name, body);
  const queue = broker.find(name);
  return queue ? { status: 200, xml: entry(broker, queue) } : failure(404, 'No such queue.');
}

// serve gives a server that connections are handed to.
function serve(broker, faults) {
  return http.createServer((request, response) => {
    const body = [];
    request.on('data', chunk => body.push(chunk));
    request.on('end', () => {
      const { status, xml } = answer(broker, faults, request, Buffer.concat(body).toString());
      response.writeHead(status, { 'Content-Type': 'application/atom+xml;type=entry;charset=utf-8' });
      response.end(xml);
    });
  });
}

module.exports = { serve };
