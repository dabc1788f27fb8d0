// Socket.IO from npm over WebSocket, answering what `loadtest swarm --dialect socketio` says: its own
// rooms, its own broadcast.
import { createServer } from 'node:http'
import { Server } from 'socket.io'

const http = createServer()
const io = new Server(http, { transports: ['websocket'], serveClient: false })

io.on('connection', (socket) => {
  socket.on('subscribe', (channel, acknowledge) => {
    socket.join(channel)
    acknowledge()
  })
  socket.on('publish', (channel, data, acknowledge) => {
    io.to(channel).emit('publication', data)
    if (acknowledge) acknowledge()
  })
})
http.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () => console.log(`port ${http.address().port}`))
