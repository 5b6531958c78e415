/** What a search for a step finds. */
import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import test from 'node:test'
import { rank, type Searched, SYNONYMS } from '../src/model/palette'

const spec = (type: string, name: string, summary = '', tags: string[] = []): Searched => ({
  type,
  name,
  summary,
  tags,
})
const SPECS = [
  spec('notify', 'Notify', 'Sends a message to people.', ['message']),
  spec('send-native', 'Send native', 'Sends the coin of a chain.'),
  spec('send-webhook', 'Send webhook', 'Sends a signed webhook.'),
  spec('http-request', 'HTTP request', 'Calls an API over HTTP.'),
  spec('get-price', 'Get price', 'What a token is worth; may ask an API.'),
]
const found = (text: string) => {
  const asked = text.split(' ')
  const ranked = SPECS.map((one) => ({ type: one.type, rank: rank(one, asked) })).filter((one) => one.rank >= 0)
  return ranked.sort((a, b) => b.rank - a.rank).map((one) => one.type)
}

test('a step is found by what people call it', () => {
  assert.deepEqual(found('slack'), ['notify'])
  assert.deepEqual(found('email'), ['notify'])
  assert.deepEqual(found('transfer'), ['send-native'])
  assert.deepEqual(found('send money'), ['send-native'])
  assert.deepEqual(found('api'), ['http-request', 'get-price'])
})

test('own words come before synonyms, and nothing is found by nothing of it', () => {
  assert.equal(found('send')[0], 'send-native')
  assert.deepEqual(found('send webhook'), ['send-webhook'])
  assert.deepEqual(found('xyzzy'), [])
  assert.deepEqual(found('slack xyzzy'), [])
})

test('every synonym names a type that there is', () => {
  const schema = readFileSync('../docs/reference/definition.schema.json', 'utf8')
  for (const [word, types] of SYNONYMS)
    for (const type of types) assert.ok(schema.includes(`"${type}"`), `${word}: ${type}`)
})
