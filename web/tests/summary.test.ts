/** The one line of a step, and the names of steps that have none. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { Exact } from '../src/api/exact'
import { readable } from '../src/model/amounts'
import { summaryOf } from '../src/model/summary'

const ETH = { symbol: 'ETH', decimals: 18 }
const TO = `0x${'11'.repeat(20)}`

test('a step says what it does in one line', () => {
  const SAID: [string, Record<string, unknown>, string | null][] = [
    ['http-request', { url: 'https://api.example.com/price?key=1' }, 'GET api.example.com/price'],
    ['http-request', { url: 'http://a.example/{{$nodes.get.result.id}}/', method: 'POST' }, 'POST a.example/{id}'],
    ['http-request', {}, null],
    ['interval', { everyMs: 600_000 }, 'every 10 minutes'],
    ['cronjob', { schedule: '0 9 * * MON' }, 'mondays at 09:00'],
    ['cronjob', { schedule: '*/7 * * * *' }, '*/7 * * * *'],
    ['if', { expression: '$nodes.get.result.body.price < 100' }, 'price is below 100'],
    ['if', { expression: 'size($trigger.body) > 1' }, 'size($trigger.body) > 1'],
    ['send-native', { amount: '10000000000000000', recipient: TO }, '0.01 ETH → 0x1111…1111'],
    [
      'send-native',
      { amount: new Exact('3127100000000000000001'), recipient: '{{$trigger.body.to}}' },
      '3127.100000000000000001 ETH → {to}',
    ],
    ['send-native', { amount: '{{$trigger.body.wei}}', recipient: TO }, '{wei} ETH → 0x1111…1111'],
    ['send-native', {}, null],
    ['notify', { body: 'ETH is at {{$nodes["get it"].result["usd price"]}}\nnow' }, 'ETH is at {usd price} now'],
    ['manual', {}, null],
  ]
  for (const [type, payload, said] of SAID) assert.equal(summaryOf({ type, payload }, ETH), said, `${type} ${said}`)
  assert.equal(summaryOf({ type: 'send-native', payload: { amount: '1' } }), null)
})

test('a second step of a type has a name that can be read', () => {
  assert.equal(readable('httpRequest2'), 'HTTP request 2')
  assert.equal(readable('if12'), 'If 12')
  assert.equal(readable('swapUniswapV2'), 'Swap Uniswap V2')
  assert.equal(readable('base64'), 'Base64')
  assert.equal(readable('hmacSha256'), 'Hmac sha256')
})
