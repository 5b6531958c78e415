/** How the blanks of a template are called, and what the server is told of the answers. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { type Blank, labelOf, valuesOf } from '../src/model/blanks'
import type { Flow } from '../src/model/graph'

const blank = (more: Partial<Blank>): Blank => ({
  name: 'x',
  kind: 'url',
  nodeId: 'root',
  field: 'url',
  isInput: false,
  about: null,
  example: 'https://example.com',
  fits: [],
  isRequired: true,
  ...more,
})

test('a blank is called by its input, or by its step and setting', () => {
  const nodes = { root: { type: 'email-received' }, ask: { type: 'http-request', titleOverride: 'Ask them' }, send: {} }
  const flow = { nodes, triggerNodeIds: ['root'] } as unknown as Flow
  const called = (more: Partial<Blank>) => labelOf(blank(more), flow, { 'email-received': { name: 'E-mail received' } })
  assert.equal(called({ field: 'noticeUrl', isInput: true }), 'Notice URL')
  assert.equal(called({ kind: 'wallet', field: 'wallet', nodeId: 'send' }), 'Wallet')
  assert.equal(called({ kind: 'connector', field: 'connector' }), 'E-mail received: connector')
  assert.equal(called({ nodeId: 'ask' }), 'Ask them: URL')
  assert.equal(called({ nodeId: 'send', kind: 'address', field: 'recipient' }), 'Send: Recipient')
})

test('what was not answered is not said, but the table that the template names', () => {
  const blanks = [blank({ name: 'a' }), blank({ name: 'b' }), blank({ name: 't', kind: 'table', example: 'orders' })]
  assert.deepEqual(valuesOf(blanks, { a: 'https://mine.dev', b: '' }), { a: 'https://mine.dev', t: 'orders' })
  assert.deepEqual(valuesOf(blanks, { t: 'mine' }), { t: 'mine' })
})
