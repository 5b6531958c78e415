import assert from 'node:assert/strict'
import test from 'node:test'
import { fullness, limitsOf, mayGive, NO_LIMITS, told, wordsOf } from '../src/model/permissions'
import { isWhole, sees } from '../src/model/rights'

type Me = Parameters<typeof sees>[0]
const me = (permissions: string[], workflowIds: string[] | null = null) =>
  ({ permissions, workflowIds, walletIds: null, connectorIds: null }) as unknown as Me

test('permissions are told in words, the longest lists shortly', () => {
  assert.equal(wordsOf('run:read'), 'See runs')
  assert.equal(told(['run:cancel', 'run:read']), 'See runs, Stop runs')
  assert.match(told(['run:read', 'run:stream', 'wallet:read', 'table:read', 'key:read']), /and 2 more$/)
  assert.equal(told(['admin', 'run:read']), 'Everything in the organisation')
  assert.equal(told(['a:new-one']), 'a:new-one')
})

test('nobody gives more than they have, and an administrator nothing of the whole server', () => {
  assert.ok(mayGive(me(['run:read']), 'run:read') && !mayGive(me(['run:read']), 'run:cancel'))
  assert.ok(mayGive(me(['admin']), 'wallet:spend') && !mayGive(me(['admin']), 'operator'))
  assert.ok(!mayGive(me(['admin']), 'metrics:read') && mayGive(me(['operator']), 'metrics:read'))
})

test('a page is for those who have its permission, and some for those without limits', () => {
  assert.ok(sees(me([]), {}) && !sees(me([]), { needs: 'key:read' }))
  const accounts = { needs: 'key:read', whole: true } as const
  assert.ok(sees(me(['key:read']), accounts) && !sees(me(['key:read'], ['wf_1']), accounts))
  assert.ok(!isWhole(undefined))
})

test('limits are sent only if there are some, folders and tags apart', () => {
  assert.deepEqual(limitsOf(NO_LIMITS), {})
  assert.deepEqual(limitsOf({ workflowIds: ['wf_1', 'tag:money'], walletIds: ['wal_1'], connectorIds: ['conn_1'] }), {
    workflowIds: ['wf_1'],
    workflowScope: ['tag:money'],
    walletIds: ['wal_1'],
    connectorIds: ['conn_1'],
  })
})

test('what is almost full is said before it is', () => {
  assert.deepEqual(
    [fullness(89, 100), fullness(90, 100), fullness(100, 100), fullness(1, null)],
    ['', 'near', 'full', ''],
  )
  assert.equal(fullness(0, 0), 'full')
})
