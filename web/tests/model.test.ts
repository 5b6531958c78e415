/** What the pages count and say: the state of steps after events, amounts, and a policy in a form. */
import assert from 'node:assert/strict'
import test from 'node:test'
import type { RunEvent } from '../src/api/stream'
import { amount, difference, dollarsToUnits, fromUnits, money, thousandths, unitsInDollars } from '../src/model/amounts'
import { fold, itemsOf, merge, placeOf, runStatus } from '../src/model/fold'
import { fieldsOf, withFields } from '../src/policy/fields'
import type { Policy } from '../src/policy/sentences'

const event = (seq: number, type: string, more: object = {}) => ({ seq, type, at: `${seq}`, ...more }) as RunEvent
const ITEM = (seq: number, type: string, index: number) =>
  event(seq, type, { nodeId: 'say', path: `each[${index}].say` })
const EVENTS = [
  event(1, 'run_started'),
  event(2, 'node_started', { nodeId: 'root' }),
  event(3, 'node_succeeded', { nodeId: 'root', result: 1 }),
  ITEM(4, 'node_started', 0),
  ITEM(5, 'node_succeeded', 0),
  ITEM(6, 'node_started', 1),
  ITEM(7, 'node_failed', 1),
  event(8, 'run_finished', { status: 'failure' }),
]

test('events that come late, twice or out of order give the same', () => {
  const merged = [EVENTS.slice(2, 5), EVENTS.slice(0, 4), EVENTS, EVENTS].reduce((old, more) => merge(old, more), [])
  assert.deepEqual(merged, EVENTS)
  assert.deepEqual(fold(merged, merged.length), fold(EVENTS, EVENTS.length))
  assert.equal(runStatus(merged), 'failure')
  assert.equal(runStatus(EVENTS.slice(0, 7)), 'running')
  assert.equal(runStatus([]), undefined)
})

test('events that are folded as they come give what all of them give, and a state that was shown stays as it was', () => {
  const said = [...EVENTS.slice(0, 7), event(8, 'log', { nodeId: 'root', message: 'paid' })]
  const fresh = () => said.map((one) => ({ ...one }))
  const coming = fresh()
  const before = fold(coming, 3).root
  for (let upTo = 1; upTo <= coming.length; upTo++) assert.deepEqual(fold(coming, upTo), fold(fresh(), upTo))
  assert.equal(before?.message, undefined)
  assert.equal(fold(coming, 8).root?.message, 'paid')
  assert.deepEqual(fold(coming, 2), fold(fresh(), 2))
  const [first, ...others] = fresh()
  const late = merge([first as RunEvent, ...others.slice(2)], others.slice(0, 2))
  fold([first as RunEvent, ...others.slice(2)], 6)
  assert.deepEqual(fold(late, late.length), fold(fresh(), said.length))
})

test('a step in a loop has the state of its worst item, or of the one that is looked at', () => {
  const at = (upTo: number, picked = {}) => fold(EVENTS, upTo, picked).say
  assert.equal(at(5)?.status, 'success')
  assert.deepEqual([at(8)?.status, at(8)?.items], ['failure', { done: 1, failed: 1, all: 2 }])
  assert.equal(at(8, { each: 0 })?.status, 'success')
  assert.deepEqual(
    itemsOf(EVENTS, 8, 'each').map(({ index, status }) => [index, status]),
    [
      [0, 'success'],
      [1, 'failure'],
    ],
  )
})

test('amounts are cut and never rounded, and exact where they are whole', () => {
  assert.equal(amount('-62.342017482'), '−62.3420…')
  assert.equal(money('0.001993'), '$0.001993')
  assert.equal(money('1311.719'), '$1,311.71')
  assert.equal(fromUnits(1n, 18), '0.000000000000000001')
  assert.equal(fromUnits(-3127100000000000000001n, 18), '-3127.100000000000000001')
  assert.equal(difference('101', '100'), '+1.000 %')
  assert.equal(difference('99999999999999999999', '100000000000000000000'), '−<0.001 %')
  assert.deepEqual([thousandths('0.5', '1'), thousandths('3', '2'), thousandths('1', '0')], [500, 1000, 1000])
})

test('a policy comes out of its form as it went in, with what the form does not show', () => {
  const limit = { asset: null, maxUnits: null, maxUsd: null, maxCount: null, maxGasUsd: null, windowMs: null }
  const policy = {
    chains: [1, '*'],
    assets: ['*'],
    recipients: ['0x01'],
    contracts: [],
    methods: ['transfer(address,uint256)', { method: 'approve(address,uint256)', where: 'args.1 < 5' }],
    limits: [
      { ...limit, maxCount: 3, windowMs: 3_600_000, per: 'workflow', of: { recipients: ['0x01'] } },
      {
        ...limit,
        asset: '0x02',
        maxUnits: '115792089237316195423570985008687907853269984665640564039457',
        per: null,
        of: null,
      },
    ],
    gas: [{ chainId: 1, maxGas: 5, maxFeePerGas: null, maxGasUsd: null }],
    approvalAbove: { usd: null, assets: { '0x02': '7' }, totals: [] },
    approval: { quorum: 2 },
    newRecipientHours: 24,
  } as unknown as Policy
  assert.deepEqual(withFields(policy, fieldsOf(policy)), policy)
  const asked = withFields(policy, { ...fieldsOf(policy), askUsd: ' 50 ', gasUsd: '2' })
  assert.equal(asked.approvalAbove?.usd, '50')
  assert.equal(asked.gas.length, 2)
})

test('dollars become base units and back, exactly', () => {
  assert.equal(dollarsToUnits('31.2741829051', '3127.41829051', 18), '10000000000000000')
  assert.equal(dollarsToUnits('$1,000', '1', 6), '1000000000')
  assert.equal(dollarsToUnits('1', '3', 18), '333333333333333333')
  assert.equal(dollarsToUnits('0.01', '100000', 0), '0')
  assert.equal(dollarsToUnits('many', '3', 18), null)
  assert.equal(dollarsToUnits('1', '0', 18), null)
  assert.equal(unitsInDollars('10000000000000000', '3127.41829051', 18), '31.2741829051')
  assert.equal(unitsInDollars('1', '0.5', 18), '0.0000000000000000005')
  assert.equal(unitsInDollars('max', '2', 18), null)
})

test('an item is found by its number or by what became of it', () => {
  const items = Array.from({ length: 5000 }, (_, index) => ({
    index,
    status: index % 1000 === 7 ? 'failed' : 'success',
    ...(index === 4007 && { message: 'no such payee' }),
  }))
  assert.deepEqual([placeOf(items, ' 4321 ', -1), placeOf(items, '5001', -1), placeOf(items, '0', -1)], [4320, -1, -1])
  assert.deepEqual(
    [placeOf(items, 'failed', -1), placeOf(items, 'Failed', 7), placeOf(items, 'failed', 4007)],
    [7, 1007, 7],
  )
  assert.deepEqual([placeOf(items, 'Payee', 12), placeOf(items, 'elsewhere', -1)], [4007, -1])
  assert.equal(placeOf(items.slice(10), '11', -1), 0, 'a loop whose first items are not there')
})
