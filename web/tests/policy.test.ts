/** What a changed policy would have said, in one sentence; and the sentence that says a refusal. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { sentenceOf } from '../src/model/asked'
import { pastWords } from '../src/words.policy'

const sum = (judged: number, nowAllowed = 0, nowAsked = 0, nowRefused = 0) =>
  pastWords.sum({ judged, asBefore: judged - nowAllowed - nowAsked - nowRefused, nowAllowed, nowAsked, nowRefused })

test('the last 30 days are one sentence that names only what would differ', () => {
  assert.equal(
    sum(41, 0, 2, 1),
    'In the last 30 days: 41 payments: 38 as before, 2 would have asked, 1 would have been refused.',
  )
  assert.equal(sum(3), 'In the last 30 days: 3 payments: all as before.')
  assert.equal(sum(1, 1), 'In the last 30 days: 1 payment: 0 as before, 1 would have passed.')
  assert.equal(sum(0), 'In the last 30 days nothing was paid or refused.')
})

test('a refusal leads to its sentence, or to the one that it is a part of, or to none', () => {
  const statements = { 'limits[0]': 'spend up to $5 a day', outflow: 'Before it signs, it simulates.' }
  const found = (statement: string) => sentenceOf(statements, statement)
  assert.equal(found('limits[0]'), 'spend up to $5 a day')
  assert.equal(found('outflow.beyondDeclared'), 'Before it signs, it simulates.')
  assert.equal(found('limits[1]'), null)
})
