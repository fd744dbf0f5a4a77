'use strict';
// What the stand-in keeps: queues, their messages and locks, and a journal of it all, which
// a killed one is started again with. A dead letter queue belongs to each queue, under
// Azure's name for it.

const fs = require('fs'), crypto = require('crypto');

const DEAD = '/$deadletterqueue';

// at is where a message of that number belongs.
function at(ready, seq) {
  let low = 0, high = ready.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ready[middle].seq < seq) low = middle + 1; else high = middle;
  }
  return low;
}

class Broker {
  // file is where the journal is; without one everything is in memory. changed hears of a
  // queue that has something to deliver.
  constructor(file, changed) {
    this.queues = new Map();
    this.messages = new Map(); // by number
    this.locks = new Map(); // by token
    this.changed = changed;
    this.last = 0;
    if (!file) return;
    if (fs.existsSync(file)) this.replay(fs.readFileSync(file, 'utf8'));
    this.journal = fs.openSync(file, 'a');
  }

  // write returns when an entry survives the death of this process.
  write(entry) {
    if (this.journal !== undefined) fs.writeSync(this.journal, JSON.stringify(entry) + '\n');
  }

  replay(text) {
    const lines = text.split('\n');
    lines.pop(); // empty, or half an entry, of which nobody was told
    for (const line of lines) {
      const e = JSON.parse(line);
      switch (e.op) {
        case 'queue': this.add(e.name, e.settings); break;
        case 'put': this.insert({ seq: e.seq, queue: e.queue, time: e.time, count: 0, payload: Buffer.from(e.payload, 'base64') }); break;
        case 'lock': this.hold(this.messages.get(e.seq), e.token, e.until); break;
        case 'back': this.free(e.seq, e.count); break;
        case 'gone': this.drop(e.seq); break;
        case 'dead': this.bury(e.seq, e.reason, e.description); break;
      }
    }
  }

  find(address) { return this.queues.get(address.toLowerCase()); }

  // create makes a queue and that of its dead letters.
  create(name, settings) {
    this.write({ op: 'queue', name, settings });
    this.add(name, settings);
  }

  add(name, settings) {
    const key = name.toLowerCase();
    this.queues.set(key, { key, name, settings, ready: [], seen: new Set(), dead: key + DEAD });
    this.queues.set(key + DEAD, { key: key + DEAD, name: name + DEAD, settings, ready: [] });
  }

  // list are the messages of a queue from a number on, in their order.
  list(queue, from) {
    return [...this.messages.values()].filter(m => m.queue === queue.key && m.seq >= from).sort((a, b) => a.seq - b.seq);
  }

  // put takes a message in for good; where duplicates are detected a second one of an ID is
  // forgotten, however late.
  put(queue, payload, id) {
    if (queue.settings.unique) {
      if (queue.seen.has(id)) return;
      queue.seen.add(id);
    }
    const m = { seq: ++this.last, queue: queue.key, time: Date.now(), count: 0, payload };
    this.write({ op: 'put', seq: m.seq, queue: m.queue, time: m.time, payload: payload.toString('base64') });
    this.insert(m);
    this.changed(queue);
  }

  insert(m) {
    this.last = Math.max(this.last, m.seq);
    this.messages.set(m.seq, m);
    this.ready(m);
  }

  ready(m) {
    const list = this.queues.get(m.queue).ready;
    list.splice(at(list, m.seq), 0, m);
  }

  // take locks the next message.
  take(queue) {
    const m = queue.ready[0], token = crypto.randomBytes(16).toString('hex');
    const until = Date.now() + queue.settings.lock;
    this.write({ op: 'lock', seq: m.seq, token, until });
    return this.hold(m, token, until);
  }

  hold(m, token, until) {
    const list = this.queues.get(m.queue).ready, i = at(list, m.seq);
    if (list[i] === m) list.splice(i, 1);
    const old = m.lock;
    if (old) this.unlock(m);
    m.lock = { token, until, message: m };
    m.lock.timer = setTimeout(() => this.expired(m, token), Math.max(until - Date.now(), 0));
    this.locks.set(token, m.lock);
    return m.lock;
  }

  unlock(m) {
    clearTimeout(m.lock.timer);
    this.locks.delete(m.lock.token);
    m.lock = undefined;
  }

  expired(m, token) {
    if (m.lock && m.lock.token === token) this.back(m, true);
  }

  // renew begins a lock anew; it gives when it ends.
  renew(token) {
    const m = this.locks.get(token).message, until = Date.now() + this.queues.get(m.queue).settings.lock;
    this.write({ op: 'lock', seq: m.seq, token, until });
    return this.hold(m, token, until).until;
  }

  // back gives a message back. Among dead letters nothing is counted.
  back(m, counts) {
    const queue = this.queues.get(m.queue);
    const count = m.count + (counts && queue.dead ? 1 : 0);
    if (queue.dead && count >= queue.settings.deliveries) {
      return this.kill(m, 'MaxDeliveryCountExceeded', 'Message could not be consumed after ' + count + ' delivery attempts.');
    }
    this.write({ op: 'back', seq: m.seq, count });
    this.free(m.seq, count);
    this.changed(queue);
  }

  free(seq, count) {
    const m = this.messages.get(seq);
    if (m.lock) this.unlock(m);
    m.count = count;
    this.ready(m);
  }

  // remove takes a message off its queue for good.
  remove(m) {
    this.write({ op: 'gone', seq: m.seq });
    this.drop(m.seq);
  }

  drop(seq) {
    const m = this.messages.get(seq);
    if (m.lock) this.unlock(m);
    this.messages.delete(seq);
  }

  // kill moves a message to the dead letters.
  kill(m, reason, description) {
    const dead = this.queues.get(this.queues.get(m.queue).dead);
    this.write({ op: 'dead', seq: m.seq, reason, description });
    this.bury(m.seq, reason, description);
    this.changed(dead);
  }

  bury(seq, reason, description) {
    const m = this.messages.get(seq);
    if (m.lock) this.unlock(m);
    m.queue = this.queues.get(m.queue).dead;
    m.death = { DeadLetterReason: reason, DeadLetterErrorDescription: description };
    this.ready(m);
  }
}

module.exports = { Broker };
