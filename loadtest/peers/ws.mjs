// `ws` from npm, answering what `loadtest swarm --dialect bare` says (floor/floor.c has the words).
// Broadcasts as its README does: a loop over the clients.
import { WebSocketServer } from 'ws'

const channels = new Map()
const server = new WebSocketServer({ host: '127.0.0.1', port: 0, perMessageDeflate: false, backlog: 4096 })

server.on('listening', () => console.log(`port ${server.address().port}`))
server.on('connection', (client) => {
  client.on('message', (message) => {
    const text = message.toString()
    if (text[0] === 'S') {
      const channel = text.slice(1)
      if (!channels.has(channel)) channels.set(channel, new Set())
      channels.get(channel).add(client)
      client.on('close', () => channels.get(channel).delete(client))
      client.send('joined')
      return
    }
    const end = text.indexOf('\n')
    if (text[0] === 'A') client.send('published'.padEnd(61))
    const payload = text.slice(end + 1)
    for (const subscriber of channels.get(text.slice(1, end)) ?? []) subscriber.send(payload)
  })
})
