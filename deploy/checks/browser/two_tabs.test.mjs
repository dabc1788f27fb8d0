// The page of `tidewire dev` in a real browser: against the real program, and against a scripted server
// for what one healthy node never does.

import assert from 'node:assert/strict'
import { chromium as browserType } from 'playwright-core'

import { chromium, run, startNode } from './harness.mjs'
import { scripted } from './scripted.mjs'

const browser = await browserType.launch({ executablePath: chromium(), args: ['--no-sandbox'] })

/** A tab on a channel of its own case, once it is connected. */
async function tab(context, url, channel) {
  const page = await context.newPage()
  await page.goto(`${url}/#${encodeURIComponent(channel)}`)
  await connected(page)
  return page
}

const connected = (page) => page.locator('#status[data-state="open"]').waitFor()
const published = (page) => page.locator('#log li[data-offset]')
const texts = async (page) => (await published(page).allInnerTexts()).map((text) => text.split('\n')[0])
const offsets = (page) => published(page).evaluateAll((rows) => rows.map((row) => Number(row.dataset.offset)))

async function say(page, text) {
  await page.fill('#text', text)
  await page.click('button[type="submit"]')
}

async function hears(page, text) {
  await page.locator('#log li[data-offset]', { hasText: text }).waitFor()
}

const withNode = {
  async open() {
    const node = await startNode()
    const context = await browser.newContext()
    return { url: node.url, context, close: () => context.close().finally(node.stop) }
  },
  cases: {
    async 'two tabs talk, in one order, with one offset each'({ url, context }) {
      const first = await tab(context, url, 'case/talk')
      const second = await tab(context, url, 'case/talk')

      await say(first, 'is anybody there?')
      await hears(second, 'is anybody there?')
      await say(second, 'yes')
      await hears(first, 'yes')

      assert.deepEqual(await texts(first), ['is anybody there?', 'yes'])
      assert.deepEqual(await texts(second), await texts(first))
      assert.deepEqual(await offsets(first), [1, 2])
      assert.deepEqual(await offsets(second), [1, 2])
    },

    async 'a newcomer sees what was said before'({ url, context }) {
      const first = await tab(context, url, 'case/late')
      for (const text of ['one', 'two', 'three']) await say(first, text)
      await hears(first, 'three')

      const second = await tab(context, url, 'case/late')
      await hears(second, 'three')

      assert.deepEqual(await texts(second), ['one', 'two', 'three'])
    },

    async 'a tab that reloads resumes its session and misses nothing'({ url, context }) {
      const first = await tab(context, url, 'case/reload')
      const second = await tab(context, url, 'case/reload')
      await say(first, 'before')
      await hears(second, 'before')

      await second.goto('about:blank')
      await say(first, 'meanwhile')
      await hears(first, 'meanwhile')
      await second.goBack()
      await connected(second)
      await hears(second, 'meanwhile')
      await say(first, 'after')
      await hears(second, 'after')

      assert.equal(await second.locator('#status').getAttribute('data-resumed'), 'true')
      assert.deepEqual(await texts(second), ['before', 'meanwhile', 'after'])
      assert.deepEqual(await offsets(second), [1, 2, 3])
    },

    async 'a tab that was disconnected catches up in order'({ url, context }) {
      const first = await tab(context, url, 'case/catch-up')
      const second = await tab(context, url, 'case/catch-up')
      await say(first, 'one')
      await hears(second, 'one')

      await second.click('#switch')
      await second.locator('#status[data-state="closed"]').waitFor()
      for (const text of ['two', 'three', 'four']) await say(first, text)
      await hears(first, 'four')
      await second.click('#switch')
      await hears(second, 'four')

      assert.deepEqual(await texts(second), ['one', 'two', 'three', 'four'])
    },

    async 'the page asks nobody but its own server, and logs no error'({ url, context }) {
      const page = await context.newPage()
      const strangers = []
      const errors = []
      page.on('request', (request) => {
        const own = request.url().startsWith(url) || request.url().startsWith('data:')
        if (!own) strangers.push(request.url())
      })
      page.on('pageerror', (error) => errors.push(error.message))
      page.on('console', (message) => { if (message.type() === 'error') errors.push(message.text()) })

      await page.goto(`${url}/#case%2Fquiet`)
      await connected(page)

      assert.deepEqual(strangers, [])
      assert.deepEqual(errors, [])
    },
  },
}

const suites = [scripted(browser), withNode]
let good = false
try {
  good = await run(suites)
} finally {
  await browser.close()
}
process.exitCode = good ? 0 : 1
