// Asks with Node's client on connections that are kept: node ask.js URL BODY CONNECTIONS ROUNDS PAUSE_MS
const http = require('node:http');
const zlib = require('node:zlib');

const [url, body, connections, rounds, pauseMs] = process.argv.slice(2);

function ask(agent) {
  const headers = { 'content-type': 'application/json', 'accept-encoding': 'gzip, deflate', 'content-length': Buffer.byteLength(body) };
  return new Promise((resolve, reject) => {
    const request = http.request(url, { method: 'POST', agent, headers }, (answer) => {
      const parts = [];
      answer.on('data', (part) => parts.push(part));
      answer.on('end', () => {
        const raw = Buffer.concat(parts);
        const text = answer.headers['content-encoding'] === 'gzip' ? zlib.gunzipSync(raw) : raw;
        resolve(`${answer.statusCode} ${text}`);
      });
    });
    request.on('error', (error) => reject(new Error(`${error.code}, reused: ${request.reusedSocket}`)));
    request.end(body);
  });
}

async function caller(number) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  for (let round = 0; round < Number(rounds); round += 1) {
    if (round) await new Promise((resolve) => setTimeout(resolve, Number(pauseMs) + (number % 20)));
    console.log(await ask(agent));
  }
  agent.destroy();
}

Promise.all(Array.from({ length: Number(connections) }, (_, number) => caller(number))).catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
