// The page against a server that does as a case tells it: what a failover, a drain or a refusal looks like
// from a browser.

import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'

import { root } from './harness.mjs'

const ORIGIN = 'http://page.test'
/** The page needs nothing from elsewhere, so it works under a policy that allows nothing from elsewhere. */
const POLICY =
  "default-src 'none'; connect-src 'self'; img-src data:; script-src 'unsafe-inline'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
const EPOCH = 'aaaaaaaaaaaaaaaa'
const NEWER_EPOCH = 'bbbbbbbbbbbbbbbb'

/** The connections a page has made, in order, each with the commands it has sent. */
class Server {
  constructor(page) {
    this.page = page
    this.connections = []
    this.waiting = []
  }

  async listen() {
    const html = await readFile(join(root, 'crates/tidewire/src/page/index.html'), 'utf8')
    await this.page.route(`${ORIGIN}/**`, (route) => {
      const ticket = { tenant: 'demo', token: 'a-token', url: 'ws://page.test/v1/demo/ws' }
      return new URL(route.request().url()).pathname === '/dev/token'
        ? route.fulfill({ json: ticket })
        : route.fulfill({ body: html, contentType: 'text/html', headers: { 'content-security-policy': POLICY } })
    })
    await this.page.routeWebSocket('ws://page.test/**', (socket) => this.accept(socket))
    await this.page.goto(`${ORIGIN}/`)
  }

  accept(socket) {
    const connection = { socket, commands: [], send: (event) => socket.send(JSON.stringify(event)) }
    socket.onMessage((text) => {
      connection.commands.push(JSON.parse(text))
      this.wake()
    })
    this.connections.push(connection)
    this.wake()
  }

  wake() {
    this.waiting = this.waiting.filter((look) => !look())
  }

  /** Waits for the `nth` connection, counted from 0. */
  connection(nth) {
    return this.until(() => this.connections[nth], `connection ${nth}`)
  }

  /** Waits for a command of a kind on a connection. */
  command(connection, kind) {
    return this.until(() => connection.commands.find((command) => command[kind]), kind)
  }

  until(look, what) {
    return new Promise((tell, fail) => {
      const timer = setTimeout(() => fail(new Error(`${what} did not come in 10 s`)), 10_000)
      const seen = () => {
        const found = look()
        if (!found) return false
        clearTimeout(timer)
        tell(found)
        return true
      }
      if (!seen()) this.waiting.push(seen)
    })
  }

  /** Answers the `connect` of a connection. */
  async welcome(connection, { resumed = false, resume_token = 'resume-1' } = {}) {
    const { id } = await this.command(connection, 'connect')
    const session = '0'.repeat(32)
    const times = { resume_window_ms: 120_000, ping_interval_ms: 25_000 }
    connection.send({ id, connected: { session, resume_token, resumed, node: 'node-a', ...times } })
  }

  /** A page that is connected and subscribed. */
  async established() {
    const connection = await this.connection(0)
    await this.welcome(connection)
    const { id } = await this.command(connection, 'subscribe')
    connection.send({ id, subscribed: { channel: 'chat/lobby', epoch: EPOCH, offset: 0 } })
    return connection
  }
}

const publications = (epoch, ...items) => ({ publications: { channel: 'chat/lobby', epoch, items } })
const item = (offset, text, id, user = 'ann') => ({ offset, time: 0, id, user, data: { name: 'ann', text } })
const texts = async (page) =>
  (await page.locator('#log li[data-offset]').allInnerTexts()).map((text) => text.split('\n')[0])
const hears = (page, text) => page.locator('#log li[data-offset]', { hasText: text }).waitFor()
const notes = (page) => page.locator('#log li.note').allInnerTexts()

const cases = {
  async 'a newcomer connects with a token and asks for the last 20'(page, server) {
    const connection = await server.established()

    const { connect } = await server.command(connection, 'connect')
    const { subscribe } = await server.command(connection, 'subscribe')
    assert.deepEqual(connect, { token: 'a-token' })
    assert.deepEqual(subscribe, { channel: 'chat/lobby', last: 20 })
  },

  async 'after a loss it resumes from its position and repeats what was not acknowledged'(page, server) {
    const first = await server.established()
    first.send(publications(EPOCH, item(1, 'one', 'id-1')))
    await hears(page, 'one')
    await page.fill('#text', 'unheard')
    await page.click('button[type="submit"]')
    const { publish } = await server.command(first, 'publish')

    await first.socket.close({ code: 1012 })
    const second = await server.connection(1)
    await server.welcome(second, { resumed: true, resume_token: 'resume-2' })

    const { connect } = await server.command(second, 'connect')
    assert.equal(connect.resume.token, 'resume-1')
    assert.match(connect.resume.nonce, /^[0-9a-f]{32}$/)
    assert.deepEqual(connect.resume.positions, [{ channel: 'chat/lobby', epoch: EPOCH, offset: 1 }])
    assert.deepEqual((await server.command(second, 'publish')).publish, publish)
  },

  async 'attempts of one series carry one nonce'(page, server) {
    const first = await server.established()
    await first.socket.close({ code: 4508 })
    const second = await server.connection(1)
    const lost = await server.command(second, 'connect')

    await second.socket.close({ code: 1013 })
    const third = await server.connection(2)

    const again = await server.command(third, 'connect')
    assert.equal(again.connect.resume.nonce, lost.connect.resume.nonce)
  },

  async 'a drain moves it before the old connection ends, without loss or double'(page, server) {
    const first = await server.established()
    first.send({ reconnect: { after_ms: 0, window_ms: 15_000, token: 'resume-hint' } })
    const second = await server.connection(1)
    const { connect } = await server.command(second, 'connect')
    first.send(publications(EPOCH, item(1, 'from the old node')))
    await hears(page, 'from the old node')

    await server.welcome(second, { resumed: true, resume_token: 'resume-3' })
    second.send({ subscribed: { channel: 'chat/lobby', recovered: true, epoch: EPOCH, offset: 0 } })
    second.send(publications(EPOCH, item(1, 'from the old node'), item(2, 'from the new node')))
    await hears(page, 'from the new node')

    assert.equal(connect.resume.token, 'resume-hint')
    assert.deepEqual(await texts(page), ['from the old node', 'from the new node'])
    assert.equal(await page.locator('#status').getAttribute('data-state'), 'open')
    assert.equal(server.connections.length, 2)
  },

  async 'a rewind brings nothing twice, and a gap is told'(page, server) {
    const connection = await server.established()
    connection.send(publications(EPOCH, item(1, 'one', 'id-1'), item(2, 'two', 'id-2')))
    await hears(page, 'two')

    connection.send({ gap: { channel: 'chat/lobby', reason: 'rewind', epoch: NEWER_EPOCH, offset: 0, missed: 3 } })
    connection.send(publications(NEWER_EPOCH, item(1, 'two', 'id-2'), item(2, 'three', 'id-3')))
    await hears(page, 'three')

    assert.deepEqual(await texts(page), ['one', 'two', 'three'])
    assert.ok((await notes(page)).some((note) => note.includes('3 publications are missing')))
  },

  async 'an id is its user\'s own, and no reason to drop anything without a rewind'(page, server) {
    const connection = await server.established()

    connection.send(publications(EPOCH, item(1, 'one', 'id-1'), item(2, 'two', 'id-1', 'bob')))
    connection.send({ gap: { channel: 'chat/lobby', reason: 'rewind', epoch: NEWER_EPOCH, offset: 1 } })
    connection.send(publications(NEWER_EPOCH, item(2, 'three', 'id-1'), item(3, 'two', 'id-1', 'bob')))
    connection.send(publications(NEWER_EPOCH, item(4, 'four', 'id-2')))
    await hears(page, 'four')

    assert.deepEqual(await texts(page), ['one', 'two', 'three', 'four'])
  },

  async 'a hole that nobody announced is shown'(page, server) {
    const connection = await server.established()

    connection.send(publications(EPOCH, item(1, 'one'), item(4, 'four')))
    await hears(page, 'four')

    assert.ok((await notes(page)).some((note) => note.includes('offsets 2 to 3 never came')))
  },

  async 'a session that another connection took is left to it, and a new one begins'(page, server) {
    const first = await server.established()
    first.send(publications(EPOCH, item(1, 'one')))
    await hears(page, 'one')

    await first.socket.close({ code: 4408 })
    const second = await server.connection(1)
    await server.welcome(second)

    assert.deepEqual((await server.command(second, 'connect')).connect, { token: 'a-token' })
    const { subscribe } = await server.command(second, 'subscribe')
    assert.deepEqual(subscribe.since, { epoch: EPOCH, offset: 1 })
  },

  async 'a refusal that would only repeat ends the attempts until asked'(page, server) {
    const first = await server.established()

    await first.socket.close({ code: 4400 })
    await page.locator('#status[data-state="closed"]').waitFor()
    await page.click('#switch')
    await server.welcome(await server.connection(1), { resumed: true })

    await page.locator('#status[data-state="open"]').waitFor()
    assert.equal(server.connections.length, 2)
  },

  async 'a refused publication says why, a postponed one is repeated under its id'(page, server) {
    const connection = await server.established()
    await page.fill('#text', 'hello')
    await page.click('button[type="submit"]')
    const { id, publish } = await server.command(connection, 'publish')

    const error = { name: 'x', message: 'not now', retry_after_ms: 0 }
    connection.send({ id, error: { ...error, code: 2000, retryable: true } })
    const again = await server.until(
      () => connection.commands.find((command) => command.publish && command.id !== id), 'a second publish')
    connection.send({ id: again.id, error: { ...error, code: 1100, message: 'not yours', retryable: false } })
    await page.locator('#log li.refused').waitFor()

    assert.deepEqual(again.publish, publish)
    assert.match(await page.locator('#log li.refused').innerText(), /not sent: not yours/)
  },

  async 'a postponed publication is not overtaken by what is written after it'(page, server) {
    const connection = await server.established()
    await page.fill('#text', 'first')
    await page.click('button[type="submit"]')
    const { id } = await server.command(connection, 'publish')
    const error = { name: 'x', message: 'not now', code: 2000, retryable: true, retry_after_ms: 500 }
    connection.send({ id, error })
    connection.send(publications(EPOCH, item(1, 'heard')))
    await hears(page, 'heard')
    await page.fill('#text', 'second')
    await page.click('button[type="submit"]')

    const sent = () => connection.commands.filter((command) => command.publish).map(({ publish }) => publish.data.text)
    await server.until(() => sent().length >= 3, 'both')
    assert.deepEqual(sent(), ['first', 'first', 'second'])
  },

  async 'what others write is text, never markup'(page, server) {
    const connection = await server.established()

    connection.send(publications(EPOCH, item(1, '<img src=x onerror=alert(1)>')))
    await hears(page, '<img')

    assert.equal(await page.locator('#log img').count(), 0)
  },
}

/** The suite: each case has a browser context, a page and a server of its own. */
export function scripted(browser) {
  const play = (story) => async () => {
    const context = await browser.newContext()
    const page = await context.newPage()
    page.setDefaultTimeout(10_000)
    const server = new Server(page)
    await server.listen()
    await story(page, server).finally(() => context.close())
  }
  return {
    open: async () => ({ close: async () => {} }),
    cases: Object.fromEntries(Object.entries(cases).map(([name, story]) => [name, play(story)])),
  }
}
