import assert from 'node:assert/strict'
import test from 'node:test'
import { bodyOf, placesOf, type Wanted } from '../src/model/newKey'
import { NO_LIMITS } from '../src/model/permissions'

const NOW = Date.parse('2026-01-01T00:00:00Z')
const wanted = (more: Partial<Wanted>): Wanted => ({
  name: ' ci ',
  kind: 'read',
  own: '',
  ends: 'never',
  limits: NO_LIMITS,
  ...more,
})

test('a preset is sent by its name, and what has no end has none', () => {
  assert.deepEqual(bodyOf(wanted({}), NOW), { name: 'ci', scope: 'read' })
})

test('listed permissions are taken once each, however they are parted', () => {
  const { permissions } = bodyOf(wanted({ kind: 'other', own: ' run:read,\nrun:stream run:read ' }), NOW)
  assert.deepEqual(permissions, ['run:read', 'run:stream'])
})

test('who decides approvals may read what they decide, and not spend', () => {
  const { permissions } = bodyOf(wanted({ kind: 'approve' }), NOW)
  assert.ok(permissions?.includes('approval:decide') && permissions.includes('run:read'))
  assert.ok(!permissions?.includes('wallet:spend'))
})

test('an end is so many days from now, and limits are sent only if there are some', () => {
  assert.deepEqual(bodyOf(wanted({ ends: '30', limits: { ...NO_LIMITS, workflowIds: ['wf_1'] } }), NOW), {
    name: 'ci',
    scope: 'read',
    expiresAt: '2026-01-31T00:00:00.000Z',
    workflowIds: ['wf_1'],
  })
})

test('folders and tags are a scope, apart from what is named by id', () => {
  const { folders, tags } = placesOf([
    { folder: 'payroll', tags: ['money'] },
    { folder: null, tags: ['eu', 'money'] },
  ])
  const chosen = [...folders, ...tags, { id: 'wf_1' }].map((one) => one.id)
  const { workflowIds, workflowScope } = bodyOf(wanted({ limits: { ...NO_LIMITS, workflowIds: chosen } }), NOW)
  assert.deepEqual([workflowIds, workflowScope], [['wf_1'], ['folder:payroll', 'tag:eu', 'tag:money']])
})
