/** The definition that is edited: with undo, what the server has of it, and what hinders its saving. */
import { create } from 'zustand'
import type { Json, Workflow } from '../api/client'
import type { Flow } from '../model/graph'
import { type Marks, marksIn, NO_MARKS } from '../model/marks'
import { mergeFlows, mergeLayouts, type Positions, same } from './merging'

type Content = { flow: Flow; positions: Positions; marks: Marks }

type DocumentStore = Content & {
  id: string | null
  name: string
  version: number
  /** When what is saved was stored. Places and notes raise no version. */
  updatedAt: string
  saved: Content
  past: Content[]
  future: Content[]
  lastKey: string
  lastAt: number
  selected: string[]
  isSaving: boolean
  error: unknown
  /** What somebody else saved meanwhile, until one chooses. */
  conflict: Workflow | null
}

const NOTHING: Content = { flow: { nodes: {} }, positions: {}, marks: NO_MARKS }
const UNDO_STEPS = 100
const ONE_EDIT_MS = 1_000

export const useDocument = create<DocumentStore>(() => ({
  ...NOTHING,
  id: null,
  name: '',
  version: 0,
  updatedAt: '',
  saved: NOTHING,
  past: [],
  future: [],
  lastKey: '',
  lastAt: 0,
  selected: [],
  isSaving: false,
  error: null,
  conflict: null,
}))

const { setState: set, getState: get } = useDocument
const contentOf = ({ flow, positions, marks }: Content): Content => ({ flow, positions, marks })
export const isDirty = (s = get()) =>
  s.flow !== s.saved.flow || s.positions !== s.saved.positions || s.marks !== s.saved.marks

export const contentIn = (workflow: Workflow): Content => ({
  flow: workflow.definition as Flow,
  positions: ((workflow.uiMetadata as Json | null)?.nodes ?? {}) as Positions,
  marks: marksIn(workflow.uiMetadata as Json | null),
})

// What was left before it was stored, to be gone on with.
const left = new Map<string, DocumentStore>()
export const hasUnsaved = () => isDirty() || left.size > 0

/** Shows what the server has, or what was left unsaved of it. */
export function load(workflow: Workflow) {
  const before = get()
  if (before.id && before.id !== workflow.id && isDirty(before)) left.set(before.id, before)
  const kept = left.get(workflow.id)
  left.delete(workflow.id)
  const content = contentIn(workflow)
  const isNew = {
    ...content,
    saved: content,
    version: workflow.version,
    updatedAt: workflow.updatedAt,
    past: [],
    future: [],
    isSaving: false,
    error: null,
    conflict: null,
  }
  // of a new workflow the first question is what starts it
  const ids = Object.keys((kept ?? isNew).flow.nodes)
  set({
    ...(kept ?? isNew),
    id: workflow.id,
    name: workflow.name,
    lastKey: '',
    selected: ids.length === 1 ? ids : [],
  })
}

/** Takes in what somebody else has saved while nothing was changed here; undo goes on taking back one's own changes. */
export function takeIn(workflow: Workflow) {
  const { saved, past, future } = get()
  const content = contentIn(workflow)
  const onTop = (one: Content) => onTopOf(saved, one, content)
  set({
    ...shown(content),
    saved: content,
    name: workflow.name,
    version: workflow.version,
    updatedAt: workflow.updatedAt,
    past: past.map(onTop),
    future: future.map(onTop),
    lastKey: '',
  })
}

/** What was changed here, as if it had been changed after what they changed. */
const onTopOf = (base: Content, one: Content, theirs: Content): Content => ({
  ...mergeLayouts(base, one, theirs),
  flow: mergeFlows(base.flow, one.flow, theirs.flow).flow,
})

/** Changes the document. Edits with the same key in short order, such as letters of one field, are undone as one. */
export function edit(change: (flow: Flow) => Flow, key = '') {
  const { flow } = get()
  const next = change(flow)
  if (next !== flow) commit({ ...contentOf(get()), flow: next }, key)
}

export const move = (positions: Positions) => commit({ ...contentOf(get()), positions }, '')
export const mark = (change: (marks: Marks) => Marks, key = '') =>
  commit({ ...contentOf(get()), marks: change(get().marks) }, key)

/** Of what is chosen, only what is still there stays so: else the next step would be added after nothing. */
function shown(next: Content) {
  const { selected } = get()
  const isThere = (id: string) => Boolean(next.flow.nodes[id])
  return { ...next, selected: selected.every(isThere) ? selected : selected.filter(isThere) }
}

function commit(next: Content, key: string) {
  const s = get()
  const now = Date.now()
  const isOne = key !== '' && key === s.lastKey && now - s.lastAt < ONE_EDIT_MS
  set({
    ...shown(next),
    past: isOne ? s.past : [...s.past, contentOf(s)].slice(-UNDO_STEPS),
    future: [],
    lastKey: key,
    lastAt: now,
  })
}

export function undo() {
  const { past, future } = get()
  const last = past.at(-1)
  if (last) set({ ...shown(last), past: past.slice(0, -1), future: [contentOf(get()), ...future], lastKey: '' })
}

export function redo() {
  const { past, future } = get()
  const next = future[0]
  if (next) set({ ...shown(next), past: [...past, contentOf(get())], future: future.slice(1), lastKey: '' })
}

/** Changes what is known of a workflow, which may have been left for another one meanwhile. */
export function note(id: string, change: (s: DocumentStore) => Partial<DocumentStore>) {
  if (get().id === id) return set(change(get()))
  const old = left.get(id)
  if (!old) return
  const next = { ...old, ...change(old) }
  if (isDirty(next)) left.set(id, next)
  else left.delete(id)
}

/** What was sent has been stored, with the notes and places of others; what was typed meanwhile is still to be saved. */
export function noteSaved(id: string, sent: Content, stored: Content, by: { version: number; updatedAt: string }) {
  const done = { saved: stored, ...by, isSaving: false, error: null }
  note(id, (s) => {
    if (stored.positions === sent.positions && stored.marks === sent.marks) return done
    const take = <T extends Content>(one: T): T => ({ ...one, ...onTopOfLayout(sent, one, stored) })
    return { ...done, ...onTopOfLayout(sent, s, stored), past: s.past.map(take), future: s.future.map(take) }
  })
}

/** Keeps what is equal as it is: what is not the saved object counts as unsaved. */
function onTopOfLayout(sent: Content, one: Content, stored: Content) {
  const { positions, marks } = mergeLayouts(sent, one, stored)
  return {
    positions: same(positions, stored.positions) ? stored.positions : positions,
    marks: same(marks, stored.marks) ? stored.marks : marks,
  }
}

/** Ends a conflict with a definition, to be saved on top of theirs. Undo brings back what was chosen against; if nothing
 * was, it takes back one's own changes. */
export function settle(flow: Flow, against?: Flow) {
  const s = get()
  if (!s.conflict) return
  const theirs = contentIn(s.conflict)
  const layout = (one: Content) => onTopOfLayout(s.saved, one, theirs)
  const before = s.past.map((one) => (against ? { flow: one.flow, ...layout(one) } : onTopOf(s.saved, one, theirs)))
  const past = against ? [...before, { flow: against, ...layout(s) }] : before
  set({
    ...layout(s),
    flow,
    past: past.slice(-UNDO_STEPS),
    future: [],
    lastKey: '',
    saved: theirs,
    version: s.conflict.version,
    updatedAt: s.conflict.updatedAt,
    conflict: null,
  })
}

export const select = (selected: string[]) => {
  const old = get().selected
  if (old.length !== selected.length || old.some((id, i) => id !== selected[i])) set({ selected })
}
