/** The definition that is edited: with undo, what the server has of it, and what hinders its saving. */
import { create } from 'zustand'
import type { Json, Workflow } from '../api/client'
import { stringify } from '../api/exact'
import type { Flow } from '../model/graph'
import { type Marks, marksIn, NO_MARKS } from '../model/marks'
import { mergeFlows } from './edits'

export type Positions = Record<string, { x: number; y: number }>
type Content = { flow: Flow; positions: Positions; marks: Marks }
type Conflict = { workflow: Workflow; both: string[]; theirs: string[]; mine: string[]; merged: Flow }

type DocumentStore = Content & {
  id: string | null
  /** All of `uiMetadata`: what others keep there is given back as it is. */
  ui: Json
  name: string
  version: number
  saved: Content
  past: Content[]
  future: Content[]
  lastKey: string
  lastAt: number
  selected: string[]
  isSaving: boolean
  error: unknown
  conflict: Conflict | null
}

const NOTHING: Content = { flow: { nodes: {} }, positions: {}, marks: NO_MARKS }
const UNDO_STEPS = 100
const ONE_EDIT_MS = 1_000

export const same = (a: unknown, b: unknown) => a === b || stringify(a) === stringify(b)

export const useDocument = create<DocumentStore>(() => ({
  ...NOTHING,
  id: null,
  ui: {},
  name: '',
  version: 0,
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

const contentIn = (workflow: Workflow): Content => ({
  flow: workflow.definition as Flow,
  positions: ((workflow.uiMetadata as Json | null)?.nodes ?? {}) as Positions,
  marks: marksIn(workflow.uiMetadata as Json | null),
})

/** Shows what the server has; `keepsUndo` when it comes in the place of what was edited here. */
export function load(workflow: Workflow, keepsUndo = false) {
  const content = contentIn(workflow)
  const { past } = get()
  set({
    ...content,
    saved: content,
    id: workflow.id,
    ui: (workflow.uiMetadata as Json | null) ?? {},
    name: workflow.name,
    version: workflow.version,
    past: keepsUndo ? [...past, contentOf(get())].slice(-UNDO_STEPS) : [],
    future: [],
    lastKey: '',
    selected: keepsUndo ? get().selected : [],
    isSaving: false,
    error: null,
    conflict: null,
  })
}

/** Changes the document. Edits with the same key in short order, such as letters of one field, are undone as one. */
export function edit(change: (flow: Flow) => Flow, key = '') {
  const { flow } = get()
  const next = change(flow)
  if (next !== flow) commit({ ...contentOf(get()), flow: next }, key)
}

export const move = (positions: Positions) => commit({ ...contentOf(get()), positions }, '')
export const mark = (change: (marks: Marks) => Marks, key = '') =>
  commit({ ...contentOf(get()), marks: change(get().marks) }, key)

function commit(next: Content, key: string) {
  const s = get()
  const now = Date.now()
  const isOne = key !== '' && key === s.lastKey && now - s.lastAt < ONE_EDIT_MS
  set({
    ...next,
    past: isOne ? s.past : [...s.past, contentOf(s)].slice(-UNDO_STEPS),
    future: [],
    lastKey: key,
    lastAt: now,
  })
}

export function undo() {
  const { past, future } = get()
  const last = past.at(-1)
  if (last) set({ ...last, past: past.slice(0, -1), future: [contentOf(get()), ...future], lastKey: '' })
}

export function redo() {
  const { past, future } = get()
  const next = future[0]
  if (next) set({ ...next, past: [...past, contentOf(get())], future: future.slice(1), lastKey: '' })
}

/** What was sent has been stored; what was typed meanwhile is still to be saved. */
export function noteSaved(sent: Content, version: number) {
  set({ saved: sent, version, isSaving: false, error: null })
}

/** Somebody else has saved: finds what each side changed since the version that both know. */
export function noteConflict(workflow: Workflow) {
  const { saved, flow } = get()
  const { flow: merged, ...rest } = mergeFlows(saved.flow, flow, workflow.definition as Flow, same)
  set({ conflict: { workflow, merged, ...rest }, isSaving: false })
}

/** Ends a conflict with the given definition, to be saved on top of theirs. */
export function settle(flow: Flow) {
  const s = get()
  if (!s.conflict) return
  const theirs = contentIn(s.conflict.workflow)
  const marks = {
    notes: { ...theirs.marks.notes, ...s.marks.notes },
    groups: { ...theirs.marks.groups, ...s.marks.groups },
  }
  commit({ flow, positions: { ...theirs.positions, ...s.positions }, marks }, '')
  set({ saved: theirs, version: s.conflict.workflow.version, conflict: null })
}

export const select = (selected: string[]) => {
  const old = get().selected
  if (old.length !== selected.length || old.some((id, i) => id !== selected[i])) set({ selected })
}
