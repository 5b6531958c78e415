/** A form's fields as rows and as a schema. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { renameAsked } from '../src/editor/edits'
import { fieldsOf } from '../src/forms/schema'
import {
  added,
  nameOf,
  ofKind,
  type Question,
  questionsOf,
  schemaOf,
  withAbout,
  withChoices,
  withLabel,
} from '../src/model/questions'

const rows = (schema: unknown) => questionsOf(schema) as Question[]

test('a schema survives the rows, with what they do not show', () => {
  const SCHEMAS = [
    { type: 'object', properties: { a: { type: 'string', minLength: 2 }, b: { type: 'integer', minimum: 1 } } },
    {
      type: 'object',
      additionalProperties: false,
      properties: { a: { enum: ['x', 'y'], default: 'x' } },
      required: ['a'],
    },
    { type: 'object', properties: { a: { type: 'array', items: {} }, b: { enum: [1, 2] }, c: { anyOf: [] } } },
  ]
  for (const schema of SCHEMAS) assert.deepEqual(schemaOf(rows(schema), schema), schema)
  assert.deepEqual(
    rows(SCHEMAS[2]).map(({ kind }) => kind),
    [null, null, null],
  )
})

test('what rows would tell by half is not shown as rows', () => {
  for (const schema of [
    { anyOf: [{ required: ['a'] }], properties: {} },
    { type: 'array' },
    { properties: { a: true } },
    { properties: {}, required: ['a'] },
    [],
  ])
    assert.equal(questionsOf(schema), null)
})

test('fields are built, changed and removed', () => {
  assert.deepEqual(rows(undefined), [])
  const [amount] = added([], 'Amount') as [Question]
  assert.deepEqual(schemaOf([amount], undefined), {
    type: 'object',
    properties: { amount: { type: 'string' } },
    required: ['amount'],
  })
  const said = withAbout(amount, 'In USDC')
  assert.deepEqual(ofKind(said, 'number').part, { type: 'number', description: 'In USDC' })
  const choice = withChoices(ofKind(said, 'choice'), ['now', 'later'])
  assert.deepEqual(choice.part, { type: 'string', description: 'In USDC', enum: ['now', 'later'] })
  assert.deepEqual(withChoices(choice, []), choice)
  assert.deepEqual(withAbout(said, '').part, { type: 'string' })
  assert.equal(schemaOf([], { type: 'object', properties: {} }), undefined)
  assert.deepEqual(schemaOf([], { additionalProperties: false }), {
    type: 'object',
    additionalProperties: false,
    properties: {},
  })
  const chosen = rows({ properties: { a: { enum: ['x', 'y'], default: 'x' } } })[0] as Question
  assert.deepEqual(withChoices(chosen, ['y']).part, { enum: ['y'] })
})

test('a label becomes a name that expressions can use, once', () => {
  const NAMES = [
    ['Order number', 'orderNumber'],
    ['amount', 'amount'],
    ['URL', 'url'],
    ['Größe des Pakets', 'grosseDesPakets'],
    ['2nd try', 'field2ndTry'],
    ['数量', 'field'],
  ]
  for (const [label = '', name] of NAMES) assert.equal(nameOf(label, []), name)
  assert.equal(nameOf('Amount', ['amount', 'amount2']), 'amount3')
})

test('words that a name does not have are kept as the title, and a label like the name needs none', () => {
  const [one] = added([], 'Order')
  const asked = withLabel(one as Question, 'What is your order number?', [])
  assert.equal(asked.name, 'whatIsYourOrderNumber')
  assert.equal(asked.part.title, 'What is your order number?')
  const plain = withLabel(asked, 'Order number', [])
  assert.deepEqual([plain.name, plain.part.title], ['orderNumber', undefined])
  assert.equal(fieldsOf({ properties: { [asked.name]: asked.part } } as never)[0]?.label, 'What is your order number?')
})

test('a field that is renamed is renamed in what uses it, and nowhere else', () => {
  const flow = {
    nodes: {
      root: { type: 'manual', children: ['say', 'check'] },
      say: {
        type: 'log',
        pinned: { a: '{{$trigger.body.old}}' },
        payload: {
          message: '$trigger.body.old is {{$trigger.body.old}}, not {{$trigger.body.older}} or {{"$trigger.body.old"}}',
          data: [{ x: "{{$trigger.body['old'].y + $nodes.old.result}}" }],
        },
      },
      check: { type: 'if', payload: { expression: '$trigger.body.old > 1' } },
    },
  }
  const { nodes } = renameAsked(flow, 'old', 'fresh')
  assert.deepEqual(nodes.say, {
    type: 'log',
    pinned: { a: '{{$trigger.body.old}}' },
    payload: {
      message: '$trigger.body.old is {{$trigger.body.fresh}}, not {{$trigger.body.older}} or {{"$trigger.body.old"}}',
      data: [{ x: "{{$trigger.body['fresh'].y + $nodes.old.result}}" }],
    },
  })
  assert.deepEqual(nodes.check, { type: 'if', payload: { expression: '$trigger.body.fresh > 1' } })
  assert.deepEqual(nodes.root, flow.nodes.root)
})
