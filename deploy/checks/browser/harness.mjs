// Runs cases one after the other, and says how each ended.

import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { delimiter, dirname, join, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = resolve(dirname(fileURLToPath(import.meta.url)), '../../..')

/** Runs every case of every suite; the last line is what the test command counts. */
export async function run(suites) {
  let passed = 0
  let failed = 0
  for (const { cases, open } of suites) {
    let subject
    try {
      subject = await open()
    } catch (failure) {
      failed += Object.keys(cases).length
      console.log(`browser: FAILED to begin a suite: ${failure.message}`)
      continue
    }
    for (const [name, play] of Object.entries(cases)) {
      try {
        await play(subject)
        passed += 1
        console.log(`browser: ok: ${name}`)
      } catch (failure) {
        failed += 1
        console.log(`browser: FAILED: ${name}\n${failure.stack}`)
      }
    }
    await subject.close()
  }
  console.log(`browser: ${passed} passed, ${failed} failed`)
  return failed === 0 && passed > 0
}

export function chromium() {
  const named = process.env.CHROMIUM_BIN
  if (named) return named
  const folders = process.env.PATH.split(delimiter)
  const found = folders.map((folder) => join(folder, 'chromium')).find(existsSync)
  if (!found) throw new Error('chromium is not installed (Debian package chromium); CHROMIUM_BIN can name another')
  return found
}

/** Starts `tidewire dev` on a free port and waits for the address it prints. */
export function startNode() {
  const program = process.env.TIDEWIRE_BIN ?? join(root, 'target/debug/tidewire')
  if (!existsSync(program)) throw new Error(`${program} is missing; build it with: cargo build --package tidewire`)
  // Without what is meant for the checks: the program refuses variables it does not know.
  const ours = Object.entries(process.env).filter(([name]) => !name.startsWith('TIDEWIRE_'))
  const child = spawn(program, ['dev', '--listen', '127.0.0.1:0'], {
    env: Object.fromEntries(ours),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const ended = new Promise((tell) => child.once('exit', tell))
  let printed = ''
  const address = new Promise((tell, fail) => {
    const give = (why) => fail(new Error(`tidewire dev ${why}:\n${printed}`))
    const timer = setTimeout(() => give('printed no address in 20 s'), 20_000)
    const read = (chunk) => {
      printed += chunk
      const url = /http:\/\/(?:127\.0\.0\.1|localhost):\d+/.exec(printed)
      if (!url) return
      clearTimeout(timer)
      tell(url[0])
    }
    child.stdout.on('data', read)
    child.stderr.on('data', read)
    child.once('error', () => give('did not start'))
    child.once('exit', (code) => give(`ended with ${code}`))
  })
  const stop = async () => {
    child.kill('SIGKILL')
    await ended
  }
  return address.then((url) => ({ url, stop }), async (failure) => {
    await stop()
    throw failure
  })
}
