'use strict';
// Messages over AMQP 1.0 on rhea, as Service Bus has it: claims, links that lend messages,
// and requests about locks.

const rhea = require('rhea'), Connection = require('rhea/lib/connection.js');
const { verify, path } = require('./access.js');

const types = rhea.types, BATCH = 0x80013700, MAX_SIZE = 256 * 1024;
const decode = rhea.message.decode;
rhea.message.decode = raw => raw; // messages are kept as they come

const nothing = { collect_sections() {} }; // a body that is not there
const busy = { condition: 'com.microsoft:server-busy', description: 'The request was terminated because the entity is being throttled.' };
const lost = { condition: 'com.microsoft:message-lock-lost', description: 'The lock supplied is invalid.' };

// guid turns the bytes of a UUID into those of .NET's GUID, and back.
const guid = b => Buffer.from([b[3], b[2], b[1], b[0], b[5], b[4], b[7], b[6], ...b.subarray(8)]);

// sections are the parts of an encoded message: the code and the bytes of each.
function sections(raw) {
  const reader = new types.Reader(raw), list = [];
  while (reader.remaining()) {
    const from = reader.position, value = reader.read();
    list.push({ code: Number(value.descriptor.value), bytes: raw.subarray(from, reader.position), value });
  }
  return list;
}

// lend is a locked message as it is delivered: the sender's, with what the broker adds.
// One that is only shown has no lock.
function lend(m, until, token) {
  const parts = sections(m.payload), old = decode(m.payload);
  const head = rhea.message.encode({
    durable: true, delivery_count: m.count, body: nothing,
    message_annotations: Object.assign({}, old.message_annotations, {
      'x-opt-sequence-number': types.wrap_long(m.seq), 'x-opt-enqueued-time': types.wrap_timestamp(m.time),
    }, token && { 'x-opt-locked-until': types.wrap_timestamp(until), 'x-opt-lock-token': types.wrap_uuid(token) }),
  });
  const rest = parts.filter(p => p.code >= 0x73 && !(m.death && p.code === 0x74));
  const list = [head, ...rest.map(p => p.bytes)];
  if (m.death) {
    const properties = Object.assign({}, old.application_properties, m.death);
    list.splice(rest.length && rest[0].code === 0x73 ? 2 : 1, 0, rhea.message.encode({ application_properties: properties, body: nothing }));
  }
  return Buffer.concat(list);
}

class Front {
  constructor() {
    this.links = new Map(); // those that receive, by the key of the queue
    this.container = rhea.create_container({
      id: 'standin', autosettle: false, autoaccept: false, treat_modified_as_released: false, session_buffer_size: 65536,
    });
    this.container.sasl_server_mechanisms.enable_anonymous();
    this.container.sasl_server_mechanisms.MSSBCBS = this.container.sasl_server_mechanisms.ANONYMOUS;
    const on = (name, f) => this.container.on(name, e => f.call(this, e));
    on('sender_open', this.reader);
    on('receiver_open', this.writer);
    on('sendable', e => e.sender.queue && this.pump(e.sender.queue));
    on('sender_draining', e => e.sender.set_drained(true));
    on('message', this.message);
    on('accepted', e => this.settle(e, m => this.broker.remove(m), rhea.message.accepted()));
    on('released', e => this.settle(e, m => this.broker.back(m, false), rhea.message.released()));
    on('modified', e => this.settle(e, m => this.broker.back(m, true), rhea.message.modified({})));
    on('rejected', e => this.settle(e, m => this.bury(m, e.delivery.remote_state.error), rhea.message.rejected()));
    for (const name of ['connection_error', 'session_error', 'sender_error', 'receiver_error', 'protocol_error', 'error', 'disconnected']) on(name, () => {});
  }

  accept(socket) { new Connection({}, this.container).accept(socket); }

  // attach answers a link that may be opened; it tells whether it may.
  attach(link, right) {
    const near = link.is_sender() ? link.source : link.target, address = path((near && near.address) || '');
    const claims = link.connection.claims || new Map(), whose = address.replace('/$management', '');
    let error;
    if (address !== '$cbs') {
      const rights = claims.get(address);
      if (!rights || right && !rights.includes(right)) {
        error = { condition: 'amqp:unauthorized-access', description: 'Unauthorized access. ' + (right || 'Some') + ' claim is required.' };
      } else if (!this.broker.find(whose)) {
        error = { condition: 'amqp:not-found', description: 'The messaging entity could not be found.' };
      }
    }
    if (error) {
      link.close(error);
      return undefined;
    }
    for (const mode of ['snd_settle_mode', 'rcv_settle_mode']) link.local.attach[mode] = link.remote.attach[mode];
    link.set_source({ address: link.source && link.source.address });
    link.set_target({ address: link.target && link.target.address });
    return address;
  }

  // reader is a link on which the client receives: messages, or answers.
  reader({ sender }) {
    const address = path((sender.source && sender.source.address) || ''), asks = address === '$cbs' || address.endsWith('/$management');
    if (this.attach(sender, asks ? undefined : 'Listen') === undefined) return;
    if (asks) {
      const replies = sender.connection.replies = sender.connection.replies || new Map();
      for (const name of [sender.target && sender.target.address, sender.name]) replies.set(name, sender); // clients call it by either
      return;
    }
    sender.queue = this.broker.find(address);
    if (!this.links.has(sender.queue.key)) this.links.set(sender.queue.key, new Set());
    this.links.get(sender.queue.key).add(sender);
  }

  // writer is a link on which the client sends: messages, or requests.
  writer({ receiver }) {
    const address = path((receiver.target && receiver.target.address) || ''), asks = address === '$cbs' || address.endsWith('/$management');
    receiver.local.attach.max_message_size = MAX_SIZE;
    receiver.address = this.attach(receiver, asks ? undefined : 'Send');
  }

  // pump delivers what there is to those who have room for it, in turns.
  pump(queue) {
    const links = this.links.get(queue.key);
    for (const link of links || []) if (!link.is_open()) links.delete(link);
    for (let sent = true; sent && queue.ready.length;) {
      sent = false;
      for (const link of links || []) {
        const out = link.session.outgoing, waiting = out.next_delivery_id - out.next_pending_delivery;
        if (!queue.ready.length || link.credit <= waiting || out.available() < 1) continue;
        const lock = this.broker.take(queue), token = Buffer.from(lock.token, 'hex');
        link.send(lend(lock.message, lock.until, token), guid(token), 0).token = lock.token;
        sent = true;
      }
    }
  }

  // answer settles a delivery, about which the client has nothing more to say.
  answer(delivery, state) {
    delivery.update(true, state.described());
    delivery.remote_settled = true;
  }

  settle({ delivery, connection }, how, state) {
    if (this.faults.busy > 0) {
      this.faults.busy--;
      return this.answer(delivery, rhea.message.rejected({ error: busy }));
    }
    const lock = this.broker.locks.get(delivery.token);
    if (!lock) return this.answer(delivery, rhea.message.rejected({ error: lost }));
    how(lock.message);
    if (this.faults.cut > 0) { // it is done, and nobody hears of it
      this.faults.cut--;
      return connection.socket.destroy();
    }
    this.answer(delivery, state);
  }

  bury(m, error) {
    const info = (error && error.info) || {};
    this.broker.kill(m, info.DeadLetterReason || '', info.DeadLetterErrorDescription || '');
  }

  message({ message, receiver, delivery }) {
    if (receiver.address === '$cbs') return this.claim(decode(message), receiver, delivery);
    if (receiver.address.endsWith('/$management')) return this.request(decode(message), receiver, delivery);
    if (this.faults.busy > 0) {
      this.faults.busy--;
      return delivery.update(true, rhea.message.rejected({ error: busy }).described());
    }
    const queue = this.broker.find(receiver.address);
    const list = delivery.format === BATCH ? sections(message).filter(p => p.code === 0x75).map(p => Buffer.from(types.unwrap(p.value))) : [message];
    for (const payload of list) this.broker.put(queue, payload, decode(payload).message_id);
    delivery.update(true, rhea.message.accepted().described());
  }

  reply(m, receiver, delivery, code, text, body, more) {
    delivery.accept();
    const to = (receiver.connection.replies || new Map()).get(m.reply_to);
    if (!to) return;
    const status = types.wrap_int(code);
    to.send({
      correlation_id: m.message_id, body,
      application_properties: Object.assign({ statusCode: status, statusDescription: text, 'status-code': status, 'status-description': text }, more),
    });
  }

  // claim takes a signature, and remembers what it is good for on this connection.
  claim(m, receiver, delivery) {
    const who = verify(String(m.body)), name = path(m.application_properties.name);
    if (!who || name !== who.path && !name.startsWith(who.path + '/')) {
      return this.reply(m, receiver, delivery, 401, 'InvalidSignature: The token has an invalid signature.', '');
    }
    const connection = receiver.connection;
    connection.claims = connection.claims || new Map();
    connection.claims.set(name, who.rights);
    this.reply(m, receiver, delivery, 200, 'OK', '');
  }

  // request answers what is asked about locks and messages.
  request(m, receiver, delivery) {
    const reply = (...rest) => this.reply(m, receiver, delivery, ...rest);
    const gone = () => reply(410, lost.description, {}, { errorCondition: lost.condition });
    const locks = (m.body['lock-tokens'] || []).map(t => this.broker.locks.get(Buffer.from(t).toString('hex')));
    if (this.faults.busy > 0) {
      this.faults.busy--;
      return reply(503, busy.description, {}, { errorCondition: busy.condition });
    }
    switch (m.application_properties.operation) {
      case 'com.microsoft:renew-lock': {
        if (locks.includes(undefined)) return gone();
        const until = locks.map(l => this.broker.renew(l.token));
        return reply(200, 'OK', types.wrap_map({ expirations: types.wrap_array(until, 0x83) }));
      }
      case 'com.microsoft:update-disposition':
        if (locks.includes(undefined)) return gone();
        for (const { message } of locks) this.dispose(message, m.body);
        return reply(200, 'OK', {});
      case 'com.microsoft:peek-message': return this.peek(m, receiver, reply);
      default: return reply(501, 'The stand-in does not know this operation.', {});
    }
  }

  // peek shows messages in their order, whoever has them.
  peek(m, receiver, reply) {
    const queue = this.broker.find(receiver.address.replace('/$management', ''));
    const list = this.broker.list(queue, Number(m.body['from-sequence-number'])).slice(0, m.body['message-count']);
    if (!list.length) return reply(204, 'No messages.', {});
    reply(200, 'OK', types.wrap_map({ messages: types.wrap_list(list.map(one => types.wrap_map({ message: types.wrap_binary(lend(one)) }))) }));
  }

  dispose(message, body) {
    switch (body['disposition-status']) {
      case 'completed': return this.broker.remove(message);
      case 'suspended': return this.broker.kill(message, body['deadletter-reason'] || '', body['deadletter-description'] || '');
      default: return this.broker.back(message, true);
    }
  }
}

module.exports = { Front };
