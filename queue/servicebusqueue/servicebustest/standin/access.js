'use strict';
// Who may do what: three keys, and signatures made with them, as Azure's shared access
// policies have it.

const crypto = require('crypto');

const KEYS = {
  Root: { key: 'cm9vdA==', rights: ['Manage', 'Send', 'Listen'] },
  Sender: { key: 'c2VuZGVy', rights: ['Send'] },
  Listener: { key: 'bGlzdGVuZXI=', rights: ['Listen'] },
};

// path is the name of what a resource's URI is about, as queues are found by it.
const path = uri => uri.replace(/^[a-z]+:\/\/[^/]*\//, '').toLowerCase();

// verify gives the rights that a signature proves, and for what, or nothing.
function verify(signature) {
  const parts = {};
  for (const part of signature.replace(/^SharedAccessSignature /, '').split('&')) {
    const i = part.indexOf('=');
    parts[part.slice(0, i)] = part.slice(i + 1);
  }
  const policy = KEYS[parts.skn];
  if (!policy || !(+parts.se * 1000 > Date.now())) return undefined;
  const want = crypto.createHmac('sha256', policy.key).update(parts.sr + '\n' + parts.se).digest('base64');
  if (decodeURIComponent(parts.sig) !== want) return undefined;
  return { rights: policy.rights, path: path(decodeURIComponent(parts.sr)) };
}

module.exports = { verify, path };
