/** What leaves a workflow and comes into one holds no secret, and each step still names the right one. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { Exact, parse, stringify } from '../src/api/exact'
import { paste } from '../src/editor/edits'
import { copyOf } from '../src/paste/copy'
import { readPasted } from '../src/paste/read'

const CURL = String.raw`curl -X POST 'https://api.example.com/orders?all=1' \
  -H 'Authorization: Bearer s3cret' -H 'X-Kind: t' --data '{"price": 1.10, "text": "it'\''s <b>"}'`
const CURL_OF_SECRETS = String.raw`curl 'https://me:s3cret-1@api.example.com/?apikey=s3cret-2&all=1' \
  -H 'X-Kind: Basic s3cret-3-long' -F password=s3cret-4 -F 'text={"password": "s3cret-5"}' -F a=1`
const YAML = `definition:
  nodes:
    say: {type: format, payload: {template: x, values: [1.10]}, children: [more]}
    more: {type: log}
`

test('a cURL command becomes a request without its secret', async () => {
  const read = await readPasted(CURL)
  assert.ok(read?.kind === 'curl')
  assert.equal(
    stringify(read.curl),
    '{"payload":{"url":"https://api.example.com/orders?all=1","method":"POST",' +
      '"json":{"price":1.10,"text":"it\'s <b>"},"headers":{"x-kind":"t"}},"leftOut":["Authorization"]}',
  )
})

test('a cURL command of secrets alone keeps what is none', async () => {
  const read = await readPasted(CURL_OF_SECRETS)
  assert.ok(read?.kind === 'curl')
  assert.deepEqual(read.curl, {
    payload: { url: 'https://api.example.com/?all=1', method: 'POST', form: { a: '1' } },
    leftOut: ['X-Kind', 'user and password', 'apikey', 'form.password', 'form.text'],
  })
})

test('steps are read from YAML, an address is one, and other text is nothing', async () => {
  const read = await readPasted(YAML)
  assert.ok(read?.kind === 'steps')
  assert.deepEqual(Object.keys(read.nodes), ['say', 'more'])
  assert.equal(stringify(read.nodes.say?.payload), '{"template":"x","values":[1.10]}')
  const address = `0x${'ab'.repeat(20)}`
  assert.deepEqual(await readPasted(address), { kind: 'contract', address })
  assert.equal(await readPasted('nothing of the kind'), null)
})

test('copied steps keep their ways, name each other anew, and hold no secret', () => {
  const ask = {
    type: 'http-request',
    payload: {
      url: 'https://me:s3cret-1@api.example.com/x',
      headers: { Authorization: 'Bearer s3cret-2', 'x-auth-token': 's3cret-3', accept: '*/*' },
      json: {
        text: "{{ 'Bearer s3cret-4-long' }}",
        password: 7331,
        fields: [{ name: 'apiKey', value: 's3cret-5' }, 'https://x.example.com/?token=s3cret-6'],
        inside: '{"password": "s3cret-7"}',
        token: '{{$env.TOKEN}}',
        amount: 1.5,
      },
    },
    pinned: { body: 's3cret-8' },
    children: ['say'],
  }
  const say = {
    type: 'format',
    payload: { template: '{{ask.status}} {{$nodes.ask.x}} ask.y {{"ask."}}' },
    children: [],
  }
  const flow = { nodes: { ask, say } }
  const copied = copyOf(flow, ['ask', 'say'], {})
  assert.ok(copied.leftOut.includes('ask.headers.Authorization') && copied.leftOut.includes('ask.pinned'))
  const pasted = paste(flow, copied.nodes)
  assert.deepEqual(pasted.ids, ['ask2', 'say2'])
  assert.deepEqual(pasted.flow.nodes.ask2?.payload, {
    headers: { accept: '*/*' },
    json: { fields: [{ name: 'apiKey' }], token: '{{$env.TOKEN}}', amount: 1.5 },
  })
  assert.equal(pasted.flow.nodes.ask2?.pinned, undefined)
  assert.deepEqual(pasted.flow.nodes.ask2?.children, ['say2'])
  assert.equal(pasted.flow.nodes.say2?.payload?.template, '{{ask2.status}} {{$nodes.ask2.x}} ask.y {{"ask."}}')
  assert.equal(pasted.flow.nodes.ask, ask)
})

test('numbers come back as they were', () => {
  const wei = '115792089237316195423570985008687907853269984665640564039457584007913129639935'
  const numbers = ['3127.418290517364281904', wei, `-${wei}`, '0.1000000000000000055', '1.10', '7', '-0', '1e-30']
  const text = `[${numbers.join(',')},"1.10"]`
  const read = parse(text) as unknown[]
  assert.ok(read[1] instanceof Exact)
  assert.equal(read[5], 7)
  assert.equal(stringify(read), text)
})
