import assert from 'node:assert/strict'
import test from 'node:test'
import { check } from '../src/model/auditChain'

type Line = Record<string, string | number | null>
const bytes = (text: string) => new TextEncoder().encode(text)
const base64 = (raw: ArrayBuffer) => btoa(String.fromCharCode(...new Uint8Array(raw)))
const canonical = (line: Line) => JSON.stringify(line, Object.keys(line).sort())

async function linkOf(content: (string | number)[]) {
  const raw = await crypto.subtle.digest('SHA-256', bytes(JSON.stringify(content).replaceAll('\\u0000', '\ufffd')))
  return Array.from(new Uint8Array(raw), (one) => one.toString(16).padStart(2, '0')).join('')
}

/** An export of two parts: three entries, and one of another organisation. */
async function exported(change: (lines: Line[]) => Line[] = (lines) => lines) {
  const pair = (await crypto.subtle.generateKey('Ed25519', true, ['sign', 'verify'])) as CryptoKeyPair
  const publicKey = base64(await crypto.subtle.exportKey('raw', pair.publicKey))
  const start = (after: number, previous: string) => ({
    ...{ kind: 'start', format: 'dustrun-audit-1', organizationId: 'org_1', publicKey, after, previous },
  })
  const entry = async (id: number, previous: string, detail: string) => {
    const content = { organizationId: 'org_1', apiKeyId: 'key_1', atMs: 1, action: 'role.create', subject: 's', detail }
    return { kind: 'entry', id, previous, hash: await linkOf([previous, ...Object.values(content)]), ...content }
  }
  const one = await entry(1, '', '{"name":"Ä \u0000 \\u0000"}')
  const others = { kind: 'others', id: 2, previous: one.hash, hash: 'f'.repeat(64) }
  const three = await entry(3, others.hash, '{}')
  const end = (lastId: number, hash: string, entries: number, next: number | null) => ({
    ...{ kind: 'end', lastId, hash, entries, next, at: '2026-01-01T00:00:00.000Z' },
  })
  const first = [start(0, ''), one, others, end(2, others.hash, 1, 2)]
  const lines = change([...first, start(2, others.hash), three, end(3, three.hash, 1, null)])
  const signed = lines.map(async (line) => {
    const raw = await crypto.subtle.sign('Ed25519', pair.privateKey, bytes(`dustrun audit line\n${canonical(line)}`))
    return `${canonical({ ...line, signature: base64(raw) })}\n`
  })
  return (await Promise.all(signed)).join('')
}

test('an export is as it was written', async () => {
  const { wrong, isSigned, entries } = await check(await exported())
  assert.deepEqual([wrong, isSigned, entries], [null, true, 2])
})

test('what was changed, removed or cut off is found in its line', async () => {
  const text = await exported()
  assert.equal((await check(text.replace('"subject":"s"', '"subject":"t"'))).wrong, 2)
  const without = (line: number) =>
    text
      .split('\n')
      .toSpliced(line - 1, 1)
      .join('\n')
  assert.equal((await check(without(2))).wrong, 2)
  assert.equal((await check(without(4))).wrong, 4)
  assert.equal((await check(`${text.split('\n').slice(0, 4).join('\n')}\n`)).wrong, 5)
  assert.equal((await check('')).wrong, 1)
})

test('a signed line whose hash is not that of its content is found', async () => {
  const forged = await exported((lines) => lines.map((one) => (one.id === 3 ? { ...one, detail: '{"a":1}' } : one)))
  assert.equal((await check(forged)).wrong, 6)
})
