/** Conditions as rows, as expressions and as typed words, in every direction. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { Exact } from '../src/api/exact'
import { walk } from '../src/inspector/paths'
import {
  fitted,
  type Group,
  holds,
  isWhole,
  kindOf,
  type Op,
  opsFor,
  type Row,
  readCondition,
  readWords,
  rightOf,
  shownRight,
  wordsFor,
  writeCondition,
} from '../src/model/condition'
import { leavesOf } from '../src/model/values'

const AT = '$nodes.get.result.body'
const row = (left: string, op: Op, right = ''): Row => ({ left: `${AT}.${left}`, op, right })
const all = (...rows: Group['rows']): Group => ({ join: 'and', rows })
const any = (...rows: Group['rows']): Group => ({ join: 'or', rows })

const body = {
  price: 95.5,
  currency: 'USD',
  rate: '1.10',
  paid: true,
  'due date': 'x',
  lines: [{ sum: 3 }],
  limit: new Exact('100.00'),
}
const roots = {
  $nodes: { ask: { result: null }, get: { result: { status: 200, body } } },
  $trigger: { body: { price: 7, id: 'a' } },
}
const shapes = { $nodes: { ask: { result: { answer: 'string' } } } }
const leaves = leavesOf(roots, shapes, ['ask', 'get'])
const see = (path: string) => walk({ roots }, path)

const SAME: [string, Group][] = [
  [`${AT}.price < 100`, all(row('price', 'below', '100'))],
  [
    `${AT}.price <= 1.50 && ${AT}.currency == "USD"`,
    all(row('price', 'atMost', '1.50'), row('currency', 'is', '"USD"')),
  ],
  [`${AT}.a > 1 || ${AT}.b >= -2`, any(row('a', 'above', '1'), row('b', 'atLeast', '-2'))],
  [
    `${AT}.a != 1 && (${AT}.b == true || ${AT}.c == null)`,
    all(row('a', 'isNot', '1'), any(row('b', 'is', 'true'), row('c', 'is', 'null'))),
  ],
  [
    `(${AT}.a == 1 && ${AT}.b == 2) || ${AT}.c == 3`,
    any(all(row('a', 'is', '1'), row('b', 'is', '2')), row('c', 'is', '3')),
  ],
  [`${AT}.name.contains("a \\"b\\"")`, all(row('name', 'contains', '"a \\"b\\""'))],
  [`!${AT}.name.contains("x")`, all(row('name', 'lacks', '"x"'))],
  [
    `${AT}.name.startsWith("x") && ${AT}.name.endsWith("y")`,
    all(row('name', 'begins', '"x"'), row('name', 'ends', '"y"')),
  ],
  [`has(${AT}.a) && !has(${AT}.b)`, all(row('a', 'there'), row('b', 'missing'))],
  [`dec(${AT}.rate) < ${AT}.limit`, all({ left: `dec(${AT}.rate)`, op: 'below', right: `${AT}.limit` })],
  ['$trigger.headers["x-kind"] == "t"', all({ left: '$trigger.headers["x-kind"]', op: 'is', right: '"t"' })],
]

test('rows and their expression say the same, both ways', () => {
  for (const [text, group] of SAME) {
    assert.equal(writeCondition(group), text)
    assert.deepEqual(readCondition(text), group, text)
    assert.ok(isWhole(group), text)
  }
})

test('an expression that is spelt otherwise becomes the same rows', () => {
  const LIKE: [string, string][] = [
    [`100 > ${AT}.price`, `${AT}.price < 100`],
    [`  ${AT}.currency=='USD'  `, `${AT}.currency == "USD"`],
    [`((${AT}.a == 1))`, `${AT}.a == 1`],
    [`${AT}.a == 1 && (${AT}.b == 2 && ${AT}.c == 3)`, `${AT}.a == 1 && ${AT}.b == 2 && ${AT}.c == 3`],
    [`${AT}.a == 1 || ${AT}.b == 2 && ${AT}.c == 3`, `${AT}.a == 1 || (${AT}.b == 2 && ${AT}.c == 3)`],
  ]
  for (const [text, like] of LIKE) {
    const found = readCondition(text)
    assert.ok(found, text)
    assert.equal(writeCondition(found), like)
  }
})

test('what rows cannot show stays an expression', () => {
  const OTHERS = [
    '',
    'true',
    `${AT}.paid`,
    `!${AT}.paid`,
    `${AT}.a + 1 < 3`,
    `${AT}.a ?? 0 < 3`,
    `${AT}.a || 5`,
    `${AT}.a < 1 < 2`,
    `!(${AT}.a == 1)`,
    `size(${AT}.lines) > 1`,
    `${AT}.a in [1, 2]`,
    `${AT}.lines.exists(x, x.sum > 1)`,
    `${AT}.a == 1 ? true : false`,
    `${AT}.a < 1 &&`,
    `${AT}.a < 1 // why`,
    '1 < 2',
    'price < 100',
    `(${AT}.a == 1`,
    `r"x" == ${AT}.a`,
    `!${AT}.name.startsWith("x")`,
    `${AT}.a == 1e5`,
  ]
  for (const text of OTHERS) assert.equal(readCondition(text), null, text)
})

test('typed words become rows of the values that have their names', () => {
  const SAID: [string, string][] = [
    ['price < 100', `${AT}.price < 100`],
    ['Price is below $1,000.50', `${AT}.price < 1000.50`],
    ['price < 100 and currency is USD', `${AT}.price < 100 && ${AT}.currency == "USD"`],
    ['price<100 or price>200', `${AT}.price < 100 || ${AT}.price > 200`],
    ['price is at least 3, and the due date is not "a and b"', `${AT}.price >= 3 && ${AT}["due date"] != "a and b"`],
    ['price is not above 3', `${AT}.price <= 3`],
    [
      'currency contains US or currency starts with E and paid is yes',
      `${AT}.currency.contains("US") || (${AT}.currency.startsWith("E") && ${AT}.paid == true)`,
    ],
    ['rate > 1', `dec(${AT}.rate) > 1`],
    ['price is under limit', `${AT}.price < ${AT}.limit`],
    ['currency is 100', `${AT}.currency == "100"`],
    ['currency exists', `has(${AT}.currency)`],
    ['currency is missing.', `!has(${AT}.currency)`],
    ['lines sum = 3', `${AT}.lines[0].sum == 3`],
    ['answer is yes', '$nodes.ask.result.answer == "yes"'],
    ['id = a', '$trigger.body.id == "a"'],
    ['$trigger.body.price > 5', '$trigger.body.price > 5'],
  ]
  for (const [text, expression] of SAID) {
    const read = readWords(text, leaves)
    assert.ok('group' in read, `${text}: ${JSON.stringify(read)}`)
    assert.equal(writeCondition(read.group), expression, text)
    assert.deepEqual(readCondition(expression), read.group, expression)
  }
})

test('words that are not understood are named', () => {
  const NOT: [string, string][] = [
    ['volume < 100', 'volume < 100'],
    ['price < 100 and every blue moon', 'every blue moon'],
    ['price < cheap', 'price < cheap'],
    ['price', 'price'],
    ['price is', 'price is'],
    ['currency exists now', 'currency exists now'],
  ]
  for (const [text, unknown] of NOT) assert.deepEqual(readWords(text, leaves), { unknown }, text)
})

test('the nearest step that has a name is meant, and is told', () => {
  const read = readWords('price < 100', leaves)
  assert.ok('taken' in read)
  assert.deepEqual(
    read.taken.map((one) => [one.name, one.leaf.step]),
    [['price', 'get']],
  )
})

test('a row answers with the values that are known, exactly', () => {
  const ANSWERS: [string, boolean | undefined][] = [
    [`${AT}.price < 100`, true],
    [`${AT}.price < 95.50`, false],
    [`${AT}.limit == 100`, true],
    [`dec(${AT}.rate) >= 1.1`, true],
    [`${AT}.price < 1 || ${AT}.currency != "EUR"`, true],
    [`${AT}.currency.contains("SD") && !${AT}.currency.contains("x")`, true],
    [`${AT}.currency == 5`, false],
    [`${AT}.currency < 5`, undefined],
    [`${AT}.nothing == 5`, undefined],
    [`has(${AT}.nothing)`, false],
    [`!has(${AT}.nothing)`, true],
    ['has($nodes.ask.result.answer)', undefined],
    ['$nodes.ask.result.answer == "yes"', undefined],
  ]
  for (const [text, answer] of ANSWERS) assert.equal(holds(readCondition(text) as Group, see), answer, text)
})

test('what is typed beside an operator is read back as it was shown', () => {
  const TYPED: [string, boolean, string][] = [
    ['100', false, '100'],
    ['100', true, '"100"'],
    ['USD', false, '"USD"'],
    ['true', false, 'true'],
    ['"true"', false, '"true"'],
    [' x ', false, '"x"'],
    ['" x "', true, '" x "'],
    ['$trigger.body.a', true, '$trigger.body.a'],
    ['it is "so"', true, '"it is \\"so\\""'],
  ]
  for (const [typed, isText, right] of TYPED) {
    assert.equal(rightOf(typed, isText), right, typed)
    assert.equal(rightOf(shownRight(right, isText), isText), right, typed)
  }
})

test('rows are said in words that are read as the same rows, or not at all', () => {
  const SAID: [string, string][] = [
    [`${AT}.price < 100 && ${AT}.currency == "USD"`, 'price is below 100 and currency is USD'],
    [`${AT}.paid == true || has(${AT}.currency)`, 'paid is true or currency exists'],
    [`dec(${AT}.rate) < ${AT}.limit`, 'rate is below limit'],
    ['$trigger.body.price < 3', '$trigger.body.price is below 3'],
    [`${AT}.a == 1 && (${AT}.b == 2 || ${AT}.c == 3)`, ''],
    [`${AT}.price == "100"`, ''],
  ]
  for (const [text, words] of SAID) assert.equal(wordsFor(readCondition(text) as Group, leaves), words, text)
})

test('operators fit what is compared, and the chosen one stays', () => {
  const of = (path: string) => leaves.find((one) => one.path === path)
  assert.equal(kindOf(of(`${AT}.limit`)), 'number')
  assert.equal(kindOf(of('$nodes.ask.result.answer')), 'text')
  assert.deepEqual(opsFor(kindOf(of(`${AT}.paid`)), 'below'), ['is', 'isNot', 'below', 'there', 'missing'])
  assert.equal(fitted(row('rate', 'above', '1'), of(`${AT}.rate`)).left, `dec(${AT}.rate)`)
  assert.equal(fitted({ left: `dec(${AT}.rate)`, op: 'is', right: '"1"' }, of(`${AT}.rate`)).left, `${AT}.rate`)
})
