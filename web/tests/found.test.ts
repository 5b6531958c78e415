import assert from 'node:assert/strict'
import test from 'node:test'
import { isOutside, placeOf } from '../src/model/found'

const of = (type: string, id: string, category: string | null = null) => placeOf({ type, id, name: 'A & B', category })

test('what is found leads to the page that shows it', () => {
  assert.deepEqual(
    ['workflow', 'run', 'template', 'connector_def'].map((type) => of(type, 'x')),
    ['/workflows/x', '/runs/x', '/templates?q=A%20%26%20B', '/connectors'],
  )
})

test('a type of node leads to the workflows that have it', () => {
  assert.equal(of('action', 'http-request'), '/workflows?actions=http-request')
  assert.equal(of('operation', 'shop.list'), '/workflows?actions=shop.list')
  assert.equal(of('trigger', 'cronjob'), '/workflows?type=cronjob')
})

test('an operation of the API leads to its documentation, outside the app', () => {
  const href = of('doc', 'list_runs', 'Runs')
  assert.deepEqual([href, isOutside(href ?? '')], ['/docs#/Runs/list_runs', true])
})

test('a kind that a newer server knows leads nowhere', () => {
  assert.equal(of('parcel', 'x'), null)
})
