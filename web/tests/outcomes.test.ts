/** What the app says of what a run sent: true in every mode, for every outcome. */
import assert from 'node:assert/strict'
import test from 'node:test'
import type { Effects, Mode } from '../src/api/client'
import {
  factsOf,
  noEffects,
  noOutput,
  refusedBy,
  requestOutcome,
  retryOf,
  runEnd,
  runHeading,
  transactionOutcome,
  unknownIn,
} from '../src/model/outcomes'
import { besideOf } from '../src/model/toTheCent'
import { words } from '../src/words'

const MODES: Mode[] = ['simulate', 'dust', 'live']
const REQUESTS = {
  accepted: { sent: true, status: 'success', answered: 200 },
  refused: { sent: true, status: 'failure', answered: 503 },
  brokenOff: { sent: true, status: 'failure', answered: null },
  notSent: { sent: false, status: 'failure', answered: null },
  unknown: { sent: true, status: 'uncertain', answered: null },
  cancelled: { sent: true, status: 'cancelled', answered: null },
}

test('a request is said to be sent when it was, and how it was answered', () => {
  const told = (mode: Mode) =>
    Object.fromEntries(Object.entries(REQUESTS).map(([name, one]) => [name, requestOutcome(mode, one).text]))
  const real = {
    accepted: 'sent',
    refused: 'sent, answered 503',
    brokenOff: 'sent, failed',
    notSent: 'not sent',
    unknown: 'not known yet',
    cancelled: 'not known yet',
  }
  assert.deepEqual(told('live'), real)
  assert.deepEqual(told('dust'), real)
  for (const status of ['success', 'failure'])
    assert.equal(requestOutcome('simulate', { sent: false, status }).text, 'would send')
})

test('green is only what was sent and taken', () => {
  const green = MODES.flatMap((mode) =>
    Object.entries(REQUESTS)
      .filter(([, one]) => requestOutcome(mode, one).tone === 'ok')
      .map(([name]) => name),
  )
  assert.deepEqual(new Set(green), new Set(['accepted']))
})

test('a transaction is said to be where it stands', () => {
  const of = (mode: Mode, ...statuses: string[]) =>
    statuses.map((status) => transactionOutcome(mode, status, status === 'odd' ? '0x1' : null).text)
  const live = [
    'planned',
    'asked',
    'signed',
    'sent',
    'mined',
    'final',
    'reverted',
    'refused',
    'displaced',
    'odd',
    'new',
  ]
  const said = [
    'not sent yet',
    'waits for a person, not sent yet',
    'signed, not known yet whether it was sent',
    'sent, not in a block yet',
    'in a block',
    'sent, final',
    'sent, and undone by the chain',
    'refused, not sent',
    'another transaction took its place',
    'not known yet',
    'not sent',
  ]
  assert.deepEqual(of('live', ...live), said)
  assert.deepEqual(of('dust', ...live), said)
  assert.deepEqual(of('simulate', 'simulated', 'rejected', 'reverted', 'refused', 'notSimulable', 'new'), [
    'would send',
    'would fail',
    'would fail',
    'the policy would refuse it',
    'could not be simulated',
    'would send',
  ])
})

test('no word of a simulation says that something was sent', () => {
  for (const status of ['simulated', 'rejected', 'reverted', 'refused', 'notSimulable', 'anything'])
    assert.doesNotMatch(transactionOutcome('simulate', status).text, /^sent|final|block/)
})

const effects = (requests: object[] = [], transactions: object[] = []) =>
  ({ requests, transactions, signatures: [], called: { isComplete: true, hidden: 0 } }) as unknown as Effects
const REFUSED = { path: 'post_it', nodeId: 'post_it', ...REQUESTS.refused }
const UNKNOWN = { path: 'post_it', nodeId: 'post_it', ...REQUESTS.unknown }
const PAID = { path: 'pay', nodeId: 'pay', status: 'final', hash: '0x1' }

test('the heading of a run that failed says first what is final', () => {
  const told = (mode: Mode, found: Effects, status = 'failure', failed: string | null = 'post_it') =>
    runHeading({ mode, status, failed, effects: found })
  assert.equal(told('live', effects()), 'Nothing was changed outside. Post it failed.')
  assert.equal(told('live', effects([REFUSED], [PAID])), '1 transaction, 1 request went out. Post it failed.')
  assert.equal(told('dust', effects([], [PAID, PAID])), '2 transactions went out. Post it failed.')
  assert.equal(told('live', effects([UNKNOWN], [PAID])), 'Not known yet whether Post it was sent.')
  assert.equal(told('live', effects([], [{ ...PAID, status: 'sent' }])), 'Not known yet whether Pay was sent.')
  assert.equal(told('live', effects(), 'cancelled', null), 'Nothing was changed outside. The run ended: cancelled.')
  assert.equal(told('simulate', effects([])), 'This was a simulation, which changes nothing outside. Post it failed.')
  const flow = { nodes: { post_it: { type: 'http-request', titleOverride: 'Tell the team' } } }
  const named = runHeading({ mode: 'live', status: 'failure', failed: 'post_it', effects: effects(), flow })
  assert.equal(named, 'Nothing was changed outside. Tell the team failed.')
})

test('a heading does not say that nothing happened, when something did or is not shown', () => {
  const told = (found: Effects) => runHeading({ mode: 'live', status: 'failure', failed: 'pay', effects: found })
  const undone = { ...PAID, status: 'reverted' }
  assert.equal(told(effects([], [undone])), '1 transaction came to nothing, and cost the network fee. Pay failed.')
  assert.equal(told(effects([], [{ ...undone, hash: null }])), 'Nothing was changed outside. Pay failed.')
  const hidden = { ...effects(), called: { isComplete: true, hidden: 1 } } as unknown as Effects
  assert.equal(told(hidden), 'Runs that it called are not shown whole. Pay failed.')
  assert.doesNotMatch(told({ ...effects(), signatures: [{}] } as unknown as Effects), /Nothing/)
  assert.match(noEffects(hidden), /not shown whole/)
  assert.match(noEffects({ ...effects(), mode: 'live', status: 'running' }), /so far/)
  assert.match(noEffects({ ...effects(), mode: 'simulate', status: 'success' }), /would/)
})

test('a step without output says why', () => {
  for (const status of Object.keys(words.nodeStatus)) assert.match(noOutput(status), /output|nothing/)
  assert.equal(noOutput('failure'), 'It failed, so it has no output.')
  assert.equal(noOutput(undefined), 'It has not run, so it has no output.')
  for (const status of ['failure', 'skipped', 'cancelled', 'success']) assert.doesNotMatch(noOutput(status), /yet/)
})

test('the last event says how the run ended', () => {
  assert.deepEqual(['success', 'failure', 'partial', 'cancelled'].map(runEnd), [
    'Run finished',
    'Run failed',
    'Run partly done',
    'Run cancelled',
  ])
})

test('a retry names what is sent again, what is kept, and what is new', () => {
  const states = {
    read: { status: 'success' },
    pay: { status: 'success' },
    post_it: { status: 'failure' },
    each: {
      status: 'failure',
      iterations: [{ tell: { status: 'success' } }, { tell: { status: 'failure' } }, { tell: { status: 'skipped' } }],
    },
  }
  const sent = { ...REQUESTS.refused, nodeId: 'tell', path: 'each[1].tell' }
  const writes = new Set(['pay', 'post_it', 'tell', 'after'])
  assert.deepEqual(retryOf(states, writes, effects([REFUSED, sent], [PAID])), {
    kept: [
      { id: 'pay', times: 1 },
      { id: 'tell', times: 1 },
    ],
    again: [
      { id: 'post_it', times: 1 },
      { id: 'tell', times: 1 },
    ],
    first: [
      { id: 'tell', times: 1 },
      { id: 'after', times: 1 },
    ],
  })
})

const FLOW = {
  nodes: {
    root: { type: 'manual', children: ['pay'] },
    pay: { type: 'send-native', children: ['each'] },
    each: { type: 'for-each', loopBody: ['say'], children: ['tell'] },
    say: { type: 'log' },
    tell: { type: 'log', titleOverride: 'Tell the team' },
  },
}
const transaction = (more: object) =>
  ({ path: 'pay', nodeId: 'pay', about: 'Send', status: 'final', hash: '0x1', movements: [], ...more }) as never
const effectsOf = (...transactions: never[]) => ({ requests: [], transactions }) as never

test('of a run that failed is told what is settled, and what has not begun', () => {
  const done = effectsOf(transaction({}))
  const states = { root: { status: 'success' }, pay: { status: 'success' }, each: { status: 'failure' } }
  const found = factsOf('live', done, states, FLOW)
  assert.deepEqual(found.todo, ['Tell the team'])
  assert.deepEqual(found.sent, ['Send: sent, final'])
  assert.deepEqual(found.done, ['1 transaction final.', words.outcomes.keptByRetry])
})

test('a retry is said to keep only what its step has finished', () => {
  const found = factsOf('live', effectsOf(transaction({ status: 'mined' })), { pay: { status: 'failure' } }, FLOW)
  assert.deepEqual(found.done, ['1 transaction in a block.'])
  const called = factsOf('live', effectsOf(transaction({ path: 'call.pay' })), { pay: { status: 'success' } }, FLOW)
  assert.deepEqual(called.done, ['1 transaction final.'])
})

test('a simulation has sent and settled nothing', () => {
  const found = factsOf('simulate', effectsOf(transaction({ status: 'simulated', hash: null })), {}, FLOW)
  assert.deepEqual([found.sent, found.done], [[], []])
})

test('what was signed is unknown live, and the policy that refused is of the failed step', () => {
  const all = effectsOf(
    transaction({ status: 'signed' }),
    transaction({ nodeId: 'tell', status: 'refused', hash: null, walletId: 'wal_1', verdict: { outcome: 'deny' } }),
  )
  assert.deepEqual([unknownIn('live', all).length, unknownIn('simulate', all).length], [1, 0])
  assert.deepEqual([refusedBy(all, 'tell'), refusedBy(all, 'pay'), refusedBy(all, null)], ['wal_1', null, null])
})

test('a live run is the same as its simulation only if each digit, asset and recipient is', () => {
  const move = { kind: 'send', asset: 'eip155:1/native', amount: '1000', counterparty: '0xAB', usd: '3.12' }
  const coin = { ...move, amountFormatted: '0.001', symbol: 'ETH' }
  const live = (status: string, ...movements: object[]) =>
    ({ mode: 'live', transactions: [transaction({ status, movements })] }) as never
  const simulated = (more: object, passed = true) =>
    ({ mode: 'simulate', passed, transactions: [transaction({ movements: [{ ...coin, ...more }] })] }) as never
  assert.equal(besideOf(live('final', coin), simulated({ counterparty: '0xab', usd: '3.13' }))?.isSame, true)
  assert.equal(besideOf(live('final', coin), simulated({ amount: '1001' }))?.isSame, false)
  assert.equal(besideOf(live('final', coin), simulated({ counterparty: '0xac' }))?.isSame, false)
  assert.deepEqual(besideOf(live('final', coin), simulated({}))?.moved, { coins: ['0.001 ETH'], usd: '3.12' })
  assert.equal(besideOf(live('sent', coin), simulated({})), null)
  assert.equal(besideOf(live('final'), simulated({})), null)
  assert.equal(besideOf(live('final', coin), simulated({}, false)), null)
})
