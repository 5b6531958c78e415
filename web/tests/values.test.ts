/** What a step can take from the steps before it, and how it is written into a field. */
import assert from 'node:assert/strict'
import test from 'node:test'
import type { Run } from '../src/api/client'
import { Exact } from '../src/api/exact'
import { reference } from '../src/inspector/caret'
import { brief, contextOf, preview } from '../src/inspector/paths'
import { expressionsIn, resolved } from '../src/model/inputs'
import { leavesOf, named } from '../src/model/values'

const run = { id: 'run_1', payload: { id: 7 }, executionState: { get: { status: 'success', result: { price: 1 } } } }

test('values are listed nearest step first, then those of the start', () => {
  const roots = {
    $nodes: { near: { result: { a: { b: 1 }, 'two words': 'x', list: [{ c: 2 }], flat: [1] } }, far: { result: null } },
    $trigger: { body: { id: 'i' } },
  }
  const leaves = leavesOf(roots, { $nodes: { far: { result: { price: 'number' } } } }, ['near', 'far'])
  assert.deepEqual(
    leaves.map((one) => [one.path, one.isShape]),
    [
      ['$nodes.near.result.a', false],
      ['$nodes.near.result["two words"]', false],
      ['$nodes.near.result.list', false],
      ['$nodes.near.result.flat', false],
      ['$nodes.near.result.a.b', false],
      ['$nodes.near.result.list[0]', false],
      ['$nodes.near.result.list[0].c', false],
      ['$nodes.far.result.price', true],
      ['$trigger.body.id', false],
    ],
  )
  assert.equal(named(leaves, 'Two Words')?.path, '$nodes.near.result["two words"]')
  assert.equal(named(leaves, 'nothing'), undefined)
})

test('a large result is not listed to its end', () => {
  const many = Object.fromEntries(Array.from({ length: 5_000 }, (_, i) => [`k${i}`, i]))
  assert.ok(leavesOf({ $nodes: { a: { result: many } } }, {}, ['a']).length <= 200)
})

test('a step that was tested has its result, and nothing is called undefined', () => {
  const context = contextOf(run as unknown as Run, ['get', 'ask'], '', undefined, { ask: { result: { ok: true } } })
  assert.deepEqual(context.roots, {
    $trigger: { body: { id: 7 } },
    $nodes: { get: { result: { price: 1 }, status: 'success' }, ask: { result: { ok: true } } },
    get: { result: { price: 1 }, status: 'success' },
    ask: { result: { ok: true } },
  })
  assert.equal(context.isTrial, true)
  assert.equal(preview(context, '{{ask.status}}'), null)
  assert.equal(preview(context, 'is {{ask.result.ok}}'), 'is true')
  assert.equal(brief(undefined), '')
})

test('a value is put in braces, unless it is within an expression', () => {
  assert.equal(reference('a.b', '', false), '{{a.b}}')
  assert.equal(reference('a.b', 'x {{ 1 + ', false), 'a.b')
  assert.equal(reference('a.b', 'x {{c}} ', false), '{{a.b}}')
  assert.equal(reference('a.b', '', true), 'a.b')
})

test('the settings of a step are tested with the values that are known', () => {
  const payload = {
    url: 'https://example.com/{{a.result.id}}?q={{ nothing.result }}',
    json: {
      sum: '{{a.result.sum}}',
      list: ['{{ a.result.none }}', 1],
      kept: '{{{{x}}}}',
      both: '{{a.result.id}}{{a.result.sum}}',
    },
  }
  const values: Record<string, unknown> = { 'a.result.id': 7, 'a.result.sum': new Exact('1.10'), 'a.result.none': null }
  const known = (one: string) => ({ found: one in values, value: values[one] })
  assert.deepEqual(expressionsIn(payload), ['a.result.id', 'nothing.result', 'a.result.sum', 'a.result.none'])
  assert.deepEqual(resolved(payload, known), {
    url: 'https://example.com/7?q={{ nothing.result }}',
    json: { sum: new Exact('1.10'), list: [null, 1], kept: '{{{{x}}}}', both: '71.10' },
  })
})
