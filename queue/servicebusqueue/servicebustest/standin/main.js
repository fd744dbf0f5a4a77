'use strict';
// node main.js PORT [JOURNAL]: a stand-in of Azure Service Bus on 127.0.0.1, for tests. AMQP
// and management share the port: what begins with AMQP's own name is AMQP.

const net = require('net');
const { Broker } = require('./broker.js'), { Front } = require('./amqp.js'), { serve } = require('./management.js');

const faults = {}, front = new Front();
front.faults = faults;
front.broker = new Broker(process.argv[3], queue => setImmediate(() => front.pump(queue)));
const management = serve(front.broker, faults);

const server = net.createServer(socket => {
  socket.setNoDelay(true);
  socket.on('error', () => {}); // whoever has gone has gone
  socket.once('data', first => {
    socket.pause();
    socket.unshift(first);
    if (first[0] === 0x41) front.accept(socket); else management.emit('connection', socket);
    socket.resume();
  });
});
server.listen(+process.argv[2], '127.0.0.1', () => console.log('listening on 127.0.0.1:' + server.address().port));
