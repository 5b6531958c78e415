/** No word of the app promises what is not so: reads go out also in simulations, and models cost. */
import assert from 'node:assert/strict'
import test from 'node:test'
import { outcomeWords } from '../src/model/formOutcome'
import { words } from '../src/words'
import { approving } from '../src/words.approval'
import { assistant } from '../src/words.assistant'
import { form, forms } from '../src/words.forms'
import { home } from '../src/words.home'
import { pages } from '../src/words.pages'
import { publishing } from '../src/words.publish'
import { permissions } from '../src/words.roles'

/** Every fixed text in it, with the names that lead there. */
function textsIn(all: unknown, at = ''): [string, string][] {
  if (typeof all === 'string') return [[at, all]]
  if (typeof all !== 'object' || !all) return []
  return Object.entries(all).flatMap(([name, one]) => textsIn(one, `${at}.${name}`))
}

const ALL = textsIn({ words, approving, assistant, form, forms, home, pages, publishing, permissions })
const PROMISES = /nothing (is|was|gets) (sent|spent|paid)|nothing leaves|sends nothing|sent nothing|costs nothing/i

test('nothing is said not to be sent or spent, where reads are sent and models cost', () => {
  assert.ok(ALL.length > 500)
  assert.deepEqual(
    ALL.filter(([, text]) => PROMISES.test(text)),
    [],
  )
})

test('a form says in each mode what is real of it', () => {
  assert.match(form.simulate, /look something up elsewhere/)
  assert.match(form.dust, /messages and requests are sent/)
  assert.match(form.live, /for real/)
})

test('a form calls done only what has ended well, and says that a part may have been done', () => {
  const answer = { status: 200, body: 'hello' }
  assert.equal(outcomeWords('live', null), form.running)
  assert.equal(outcomeWords('live', { status: 'running', answer: null }), form.running)
  assert.doesNotMatch(outcomeWords('live', { status: 'done', answer }), /done/i)
  assert.equal(outcomeWords('live', { status: 'done', answer: null }), form.done)
  assert.match(outcomeWords('simulate', { status: 'done', answer: null }), /rehearsal/i)
  for (const mode of ['live', 'dust'] as const)
    assert.match(outcomeWords(mode, { status: 'failed', answer: null }), /part may have been done/)
  assert.match(outcomeWords('simulate', { status: 'failed', answer: null }), /rehearsal/i)
})
