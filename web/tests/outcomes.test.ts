/** What the app says of what a run sent: true in every mode, for every outcome. */
import assert from 'node:assert/strict'
import test from 'node:test'
import type { Effects, Mode } from '../src/api/client'
import { noOutput, requestOutcome, retryOf, runEnd, runHeading, transactionOutcome } from '../src/model/outcomes'
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
  ({ requests, transactions }) as unknown as Effects
const REFUSED = { path: 'post_it', nodeId: 'post_it', ...REQUESTS.refused }
const UNKNOWN = { path: 'post_it', nodeId: 'post_it', ...REQUESTS.unknown }
const PAID = { path: 'pay', nodeId: 'pay', status: 'final', hash: '0x1' }

test('the heading of a run that failed says first what is final', () => {
  const told = (mode: Mode, found: Effects, status = 'failure', failed: string | null = 'post_it') =>
    runHeading({ mode, status, failed, effects: found })
  assert.equal(told('live', effects()), 'Nothing was sent. Post it failed.')
  assert.equal(told('live', effects([REFUSED], [PAID])), '1 transaction, 1 request went out. Post it failed.')
  assert.equal(told('dust', effects([], [PAID, PAID])), '2 transactions went out. Post it failed.')
  assert.equal(told('live', effects([UNKNOWN], [PAID])), 'Not known yet whether Post it was sent.')
  assert.equal(told('live', effects([], [{ ...PAID, status: 'sent' }])), 'Not known yet whether Pay was sent.')
  assert.equal(told('live', effects(), 'cancelled', null), 'Nothing was sent. The run ended: cancelled.')
  assert.equal(told('simulate', effects([])), 'This was a simulation, so nothing was sent. Post it failed.')
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
