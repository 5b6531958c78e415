/** What an approval comes to, and what the first page tells. */
import assert from 'node:assert/strict'
import test from 'node:test'
import {
  coinsOf,
  dollarsOf,
  fours,
  isSame,
  type Movement,
  payeesOf,
  plainReason,
  plainRefusal,
  type Spend,
  sum,
} from '../src/model/asked'
import { may } from '../src/model/rights'
import { sinceOf, stripsOf } from '../src/model/since'

const ADA = `0x${'aA'.repeat(20)}`
const BOB = `0x${'bB'.repeat(20)}`
const ETH = 'eip155:1/native'

const move = (more: Partial<Movement>): Movement => ({
  kind: 'send',
  asset: ETH,
  symbol: 'ETH',
  amount: '100000000000000000',
  amountFormatted: '0.1',
  usd: '312.741829051',
  counterparty: ADA,
  ofSwap: false,
  ...more,
})
const spend = (...movements: Movement[]) => ({ movements }) as Spend

test('an approval has one sum, exact, and none where a price is missing', () => {
  const two = [spend(move({})), spend(move({ counterparty: BOB, usd: '0.000000000000000001' }))]
  assert.equal(dollarsOf(two), '312.741829051000000001')
  assert.deepEqual(coinsOf(two), ['0.2 ETH'])
  assert.deepEqual(
    payeesOf(two).map((one) => one.address),
    [ADA, BOB],
  )
  assert.equal(dollarsOf([spend(move({ usd: null }))]), null)
  assert.equal(dollarsOf([]), null)
  const unknown = move({ asset: 'eip155:1/erc20:0x1', symbol: null, amountFormatted: null, amount: '7', usd: null })
  assert.deepEqual(coinsOf([spend(unknown)]), ['7 base units of eip155:1/erc20:0x1'])
  assert.equal(sum(['1', '0.50', '2.5']), '4')
  assert.equal(sum([]), '0')
})

test('an allowance without a limit says so, and a swap counts once', () => {
  const endless = move({ kind: 'approve', amount: (2n ** 256n - 1n).toString(), symbol: 'USDC' })
  assert.equal(dollarsOf([spend(endless)]), null)
  assert.deepEqual(coinsOf([spend(endless)]), ['unlimited USDC'])
  assert.equal(dollarsOf([spend(move({ kind: 'approve', ofSwap: true }), move({ usd: '5' }))]), '5')
})

test('a simulation is the same only if it moved exactly this to exactly them', () => {
  const asked = [spend(move({}))]
  assert.equal(isSame(asked, [move({ counterparty: ADA.toLowerCase() })]), true)
  for (const other of [
    { amount: '1' },
    { counterparty: BOB },
    { asset: 'eip155:2/native' },
    { kind: 'approve' as const },
  ])
    assert.equal(isSame(asked, [move(other)]), false)
  assert.equal(isSame(asked, []), false)
  assert.equal(isSame(asked, [move({}), move({})]), false)
})

test('an address is shown whole, in fours', () => {
  assert.deepEqual(
    fours('0x70997970C51812dc3A010C7d01b50e0d17dc79C8').join(' '),
    '7099 7970 C518 12dc 3A01 0C7d 01b5 0e0d 17dc 79C8',
  )
})

test('a reason is said plainly, and one that is not known as it is', () => {
  assert.equal(plainReason('312.741829051 USD is over 100 USD: a person must approve it.'), 'It is over $100.')
  assert.equal(plainReason('5 USD is over 0.5 USD: a person must approve it.'), 'It is over $0.50.')
  assert.equal(
    plainReason('It is a proxy, and has changed. A person must approve it.'),
    'It is a proxy, and has changed.',
  )
  assert.equal(plainReason('Something else.'), 'Something else.')
  const mend = 'another one must. An organisation of one person can allow it: PATCH /v1/organizations/{id} with x.'
  assert.equal(plainRefusal(`It cannot; ${mend}`), 'It cannot; another one must.')
  const lone = 'Make a key for another person; an organisation of one person can approve its own runs (x).'
  assert.equal(plainRefusal(lone), 'Make a key for another person.')
})

test('since when the first page tells', () => {
  const at = (text: string) => new Date(`2026-12-02T${text}`)
  assert.equal(sinceOf('left', at('10:00'), at('09:00').getTime()).getTime(), at('09:00').getTime())
  assert.equal(sinceOf('left', at('10:00'), null).getTime(), at('10:00').getTime() - 86_400_000)
  assert.equal(sinceOf('night', at('07:00'), null).getTime(), at('18:00').getTime() - 86_400_000)
  assert.equal(sinceOf('night', at('22:00'), null).getTime(), at('18:00').getTime())
  assert.equal(sinceOf('week', at('10:00'), 5).getTime(), at('10:00').getTime() - 7 * 86_400_000)
})

test('runs become a strip for each workflow, the oldest run first', () => {
  const run = (id: string, workflowId: string) => ({
    id,
    workflowId,
    workflowName: '',
    status: 'success',
    startedAt: '',
  })
  const strips = stripsOf([run('3', 'b'), run('2', 'a'), run('1', 'b')])
  assert.deepEqual(
    strips.map((one) => [one.workflowId, one.runs.map((each) => each.id)]),
    [
      ['b', ['1', '3']],
      ['a', ['2']],
    ],
  )
})

test('a key is asked only for what it may read', () => {
  assert.equal(may({ permissions: ['run:read'] }, 'run:read'), true)
  assert.equal(may({ permissions: ['run:read'] }, 'wallet:read'), false)
  assert.equal(may({ permissions: ['admin'] }, 'wallet:read'), true)
  assert.equal(may({ permissions: ['workflow:execute'] }, 'workflow:simulate'), true)
  assert.equal(may(undefined, 'run:read'), false)
})
