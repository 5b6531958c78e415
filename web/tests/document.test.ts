/** The definition that is edited: what two people change, undo, and versions beside each other. */
import assert from 'node:assert/strict'
import test from 'node:test'
import type { Workflow } from '../src/api/client'
import { differencesOf, union } from '../src/diff/changes'
import { edit, isDirty, load, redo, settle, takeIn, undo, useDocument } from '../src/editor/document'
import { addNode, setField } from '../src/editor/edits'
import { clashesIn, mergeFlows, mergeLayouts } from '../src/editor/merging'
import type { Flow } from '../src/model/graph'

const say = (message: string, ...children: string[]) => ({ type: 'log', payload: { message }, children })
const flow = (a: string, b: string, c: string): Flow => ({ nodes: { a: say(a, 'b'), b: say(b, 'c'), c: say(c) } })
const BASE = flow('a', 'b', 'c')
const workflow = (version: number, definition: Flow, notes: object = {}) =>
  ({ id: 'wf', name: 'W', version, updatedAt: `${version}`, definition, uiMetadata: { notes } }) as unknown as Workflow
const shown = () => Object.values(useDocument.getState().flow.nodes).map((node) => node.payload?.message)
const change = (id: string, message: string) => edit((old) => setField(old, id, 'message', message))

test('both changes of different steps are kept', () => {
  const found = mergeFlows(BASE, flow('mine', 'b', 'c'), flow('a', 'theirs', 'c'))
  assert.deepEqual(found, { flow: flow('mine', 'theirs', 'c'), both: [], mine: ['a'], theirs: ['b'] })
})

test('where both changed a step, the one that is chosen wins there alone', () => {
  const [mine, theirs] = [flow('mine', 'b', 'mine too'), flow('theirs', 'theirs too', 'c')]
  assert.deepEqual(mergeFlows(BASE, mine, theirs).flow, flow('mine', 'theirs too', 'mine too'))
  assert.deepEqual(mergeFlows(BASE, mine, theirs, true).flow, flow('theirs', 'theirs too', 'mine too'))
  assert.deepEqual(mergeFlows(BASE, mine, theirs).both, ['a'])
  assert.deepEqual(clashesIn(BASE, mine, theirs, ['a']), [
    { id: 'a', field: 'message', mine: 'mine', theirs: 'theirs' },
  ])
})

test('a removed step that the other side leads to stays, with what it leads to', () => {
  const mine = { nodes: { a: say('a', 'b'), b: say('b') } }
  const found = mergeFlows(BASE, mine, { nodes: { ...BASE.nodes, d: say('d', 'c') } })
  assert.deepEqual(Object.keys(found.flow.nodes).sort(), ['a', 'b', 'c', 'd'])
  assert.deepEqual([found.both, found.mine, found.theirs], [['c'], ['b'], ['d']])
})

test('notes and places of both are kept', () => {
  const note = (text: string) => ({ text, x: 0, y: 10 })
  const layout = (notes: object, x: number) =>
    ({ positions: { a: { x, y: 0 } }, marks: { notes, groups: {} } }) as never
  const { marks, positions } = mergeLayouts(
    layout({ note1: note('old') }, 0),
    layout({ note1: note('mine') }, 1),
    layout({ note1: note('theirs') }, 2),
  )
  const texts = Object.values(marks.notes) as unknown as { text: string; y: number }[]
  assert.deepEqual(
    texts.map(({ text, y }) => [text, y]),
    [
      ['mine', 10],
      ['theirs', 140],
    ],
  )
  assert.deepEqual(positions, { a: { x: 1, y: 0 } })
})

test('what is changed is undone, done again, and taken back without what others changed', () => {
  load(workflow(1, BASE))
  change('a', 'mine')
  change('b', 'mine too')
  assert.ok(isDirty())
  undo()
  assert.deepEqual(shown(), ['mine', 'b', 'c'])
  undo()
  assert.deepEqual(shown(), ['a', 'b', 'c'])
  assert.ok(!isDirty())
  takeIn(workflow(2, flow('a', 'theirs', 'c')))
  redo()
  assert.deepEqual(shown(), ['mine', 'theirs', 'c'])
  undo()
  assert.deepEqual(shown(), ['a', 'theirs', 'c'])
})

test('undo after a conflict takes back the choice, then one change after the other', () => {
  load(workflow(1, BASE))
  change('c', 'mine')
  const theirs = flow('a', 'theirs', 'c')
  useDocument.setState({ conflict: workflow(2, theirs) })
  settle(mergeFlows(BASE, useDocument.getState().flow, theirs).flow)
  assert.deepEqual(shown(), ['a', 'theirs', 'mine'])
  assert.equal(useDocument.getState().version, 2)
  undo()
  assert.deepEqual(shown(), ['a', 'theirs', 'c'])
  load(workflow(1, BASE))
  change('a', 'mine')
  const against = flow('theirs', 'b', 'c')
  useDocument.setState({ conflict: workflow(2, against) })
  settle(flow('mine', 'b', 'c'), against)
  undo()
  assert.deepEqual(shown(), ['theirs', 'b', 'c'])
})

test('versions are compared money first', () => {
  const changes = [{ path: 'titleOverride' }, { path: 'payload.recipient' }, { path: 'payload.amount' }]
  const answer = {
    nodesAdded: ['new'],
    nodesRemoved: ['old'],
    nodesChanged: [
      { nodeId: 'said', changes: [{ path: 'payload.message' }] },
      { nodeId: 'pay', changes },
    ],
  }
  const found = differencesOf(answer)
  assert.deepEqual(
    found.map(({ id, kind }) => [id, kind]),
    [
      ['pay', 'changed'],
      ['said', 'changed'],
      ['new', 'added'],
      ['old', 'removed'],
    ],
  )
  assert.deepEqual(
    found[0]?.changes.map(({ path }) => path),
    ['payload.amount', 'payload.recipient', 'titleOverride'],
  )
  const both = union(BASE, { nodes: { a: say('a') } })
  assert.deepEqual([Object.keys(both.nodes), both.nodes.a?.children], [['a', 'b', 'c'], ['b']])
})

test('a step comes between two others, and begins the branch that the other one began', () => {
  const nodes: Flow['nodes'] = {
    a: { type: 'if', payload: {}, children: ['b', 'c'] },
    b: { ...say('b'), branch: 'then' },
    c: say('c'),
  }
  const { flow: found, id } = addNode({ nodes }, 'http-request', { after: 'a', before: 'b' })
  assert.equal(id, 'httpRequest')
  assert.deepEqual(found.nodes.a?.children, ['httpRequest', 'c'])
  assert.deepEqual(found.nodes[id], { type: 'http-request', payload: {}, children: ['b'], branch: 'then' })
  assert.equal(found.nodes.b?.branch, undefined)
  assert.equal(nodes.b?.branch, 'then')
  assert.deepEqual(addNode({ nodes }, 'log', { after: 'a', before: 'gone' }).flow.nodes.a?.children, ['b', 'c', 'log'])
})
