/** What each bundled template asks, and that nothing of an example's is left in what it becomes. */
import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import test from 'node:test'
import { parse, stringify } from '../src/api/exact'
import { blanksOf, filledIn } from '../src/model/blanks'
import type { Flow } from '../src/model/graph'

const OWN = `0x${'ab'.repeat(20)}`
const SPECS = {
  cronjob: { name: 'Cronjob' },
  'send-erc20-token': { name: 'Send', effect: 'spend', connectorRequired: true, connectors: ['wallet'] },
  'email-received': { name: 'E-mail received', connectors: ['imap'], connectorRequired: true },
}

function templates(): [string, Flow][] {
  const all = '../src/dustrun/services/templates/data'
  const files = readdirSync(all).flatMap((category) =>
    readdirSync(`${all}/${category}`).map((one) => `${all}/${category}/${one}`),
  )
  assert.ok(files.length >= 40)
  return files.map((file) => {
    const { definition, payload } = parse(readFileSync(file, 'utf8')) as { definition: Flow; payload: object }
    // the example becomes the defaults of the inputs, as the server does it
    const inputs = definition.nodes.root?.payload?.inputSchema as { properties?: Record<string, object> } | undefined
    for (const [name, value] of Object.entries(payload)) {
      const field = inputs?.properties?.[name]
      if (field && !('default' in field)) Object.assign(field, { default: value })
    }
    return [file.split('/').at(-1)?.replace('.json', '') ?? '', definition]
  })
}

const ANSWERS = { url: 'https://mine.dev/x', address: OWN, text: 'mine', table: 'mine', connector: '', wallet: '' }

test('nothing that stands for somebody is left once the blanks are filled in', () => {
  for (const [name, flow] of templates()) {
    const blanks = blanksOf(flow, SPECS)
    const named = { type: 'own', id: 'con_1' }
    const filled = filledIn(
      flow,
      blanks,
      blanks.map(({ kind }) => ANSWERS[kind] || named),
    )
    const text = stringify(filled)
    assert.doesNotMatch(text, /example\.(com|org|net)|127\.0\.0\.1|123456789012|0x7099|0x3C44|0xd8dA/, name)
    assert.deepEqual(
      blanksOf(filled, SPECS).filter(
        ({ kind, example }) => kind !== 'table' && !Object.values(ANSWERS).includes(example),
      ),
      [],
      name,
    )
    assert.deepEqual(Object.keys(filled.nodes), Object.keys(flow.nodes))
  }
})

test('a template asks for what it cannot know, each once', () => {
  const all = Object.fromEntries(templates())
  const asked = (name: string) => blanksOf(all[name] as Flow, SPECS).map(({ kind, label }) => `${kind} ${label}`)
  assert.deepEqual(asked('sweep'), ['wallet Wallet', 'address Send: Recipient'])
  assert.deepEqual(asked('take-profit'), ['wallet Wallet', 'address Treasury', 'url Notice URL'])
  assert.deepEqual(asked('payout'), ['text CSV'])
  assert.deepEqual(asked('site-check'), ['url Ask: URL', 'url Down: URL'])
  assert.deepEqual(asked('invoice-by-email'), ['connector E-mail received: connector', 'url Accepted: URL'])
  assert.deepEqual(asked('every-so-often'), [])
  assert.deepEqual(asked('dca'), [])
  const health = blanksOf(all['health-factor'] as Flow, SPECS)
  assert.deepEqual(
    health.map(({ places }) => places),
    [[['root', 'args', 0]], [['notify', 'url']]],
  )
})

test('what is not answered stays, and an unknown step is left alone', () => {
  const flow: Flow = { nodes: { root: { type: 'x', payload: { url: 'https://example.com', n: [1] } } } }
  const blanks = blanksOf(flow, {})
  assert.equal(blanks.length, 1)
  assert.deepEqual(filledIn(flow, blanks, ['']), flow)
  assert.deepEqual(filledIn(flow, blanks, ['https://a.dev']).nodes.root?.payload, { url: 'https://a.dev', n: [1] })
})
