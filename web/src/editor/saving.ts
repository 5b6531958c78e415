/** Saves the draft a moment after the last change, and asks the server what is wrong with it. */

import { useQuery } from '@tanstack/react-query'
import { useEffect, useState } from 'react'
import { ApiError, get as ask, type Problem, patch, post, put, type Workflow } from '../api/client'
import { queries, refresh } from '../api/queries'
import { useReach } from '../api/reach'
import type { Flow } from '../model/graph'
import { words } from '../words'
import { contentIn, hasUnsaved, isDirty, note, noteSaved, useDocument } from './document'
import { type Layout, mergeLayouts, same } from './merging'

const AFTER_MS = 1_000
const VALIDATE_MS = 250
/** After so long without an answer a save is tried again; if the first one was stored all the same, they are joined. */
const WITHIN_MS = 20_000
const VERSION_CONFLICT = 409001
const isMoved = (error: unknown) => error instanceof ApiError && error.code === VERSION_CONFLICT
// Saves of this tab replace one another while nothing has used them, so that a history is no list of pauses in typing.
const SESSION = crypto.getRandomValues(new Uint32Array(3)).join('-')

// By workflow: a save that is slow may end after one has gone on to another.
const underWay = new Map<string, Promise<void>>()

/** Resolves when what was there at the call, or at that of the save under way, is stored; throws what hinders it. */
export async function save(): Promise<void> {
  const { id, conflict } = useDocument.getState()
  if (!id || conflict || !isDirty()) return
  const saving = underWay.get(id) ?? store(id).finally(() => underWay.delete(id))
  underWay.set(id, saving)
  await saving
}

type Saved = { version: number; updatedAt: string }
function soon(id: string) {
  const limit = new AbortController()
  setTimeout(() => limit.abort(new DOMException('', 'TimeoutError')), WITHIN_MS)
  return { path: { id }, signal: limit.signal }
}
const layoutOf = ({ positions, marks }: Layout): Layout => ({ positions, marks })

async function store(id: string): Promise<void> {
  const { flow, positions, marks, saved, version, updatedAt } = useDocument.getState()
  useDocument.setState({ isSaving: true })
  const sent = { flow, positions, marks }
  try {
    let by: Saved = { version, updatedAt }
    let layout: Layout = sent
    if (!same(flow, saved.flow)) {
      const body = { definition: flow, expectedCurrentVersion: version, autosave: SESSION }
      const workflow = await put('/v1/workflows/{id}', soon(id), body as never)
      by = workflow
      const theirs = contentIn(workflow)
      if (!same(layoutOf(theirs), layoutOf(saved))) layout = mergeLayouts(saved, sent, theirs)
      queries.setQueryData(['workflow', id], workflow)
    }
    if (!same(layoutOf(sent), layoutOf(saved))) {
      const stored = await saveLayout(id, saved, sent)
      layout = stored.layout
      by = { version: by.version, updatedAt: stored.updatedAt }
    }
    noteSaved(id, sent, { ...sent, ...layout }, { version: by.version, updatedAt: by.updatedAt })
    void refresh('/v1/workflows')
  } catch (error) {
    const told = await whatHinders(id, error)
    note(id, () => ({ ...told, isSaving: false }))
    throw error
  }
}

/** What others saved meanwhile, to be joined; if that cannot be read now, the next try meets it again. */
async function whatHinders(id: string, error: unknown): Promise<{ conflict?: Workflow; error: unknown }> {
  if (!isMoved(error)) return { error }
  try {
    return { conflict: await ask('/v1/workflows/{id}', soon(id)), error: null }
  } catch (problem) {
    return { error: problem }
  }
}

/** Places and notes raise no version, so what others changed of them is looked up, and kept, until nobody has saved
 * others between the look and the save. */
async function saveLayout(id: string, saved: Layout, sent: Layout): Promise<{ layout: Layout; updatedAt: string }> {
  const workflow = await ask('/v1/workflows/{id}', soon(id))
  const merged = mergeLayouts(saved, sent, contentIn(workflow))
  const layout = same(merged, layoutOf(sent)) ? sent : merged
  const uiMetadata = { ...workflow.uiMetadata, v: 1, nodes: layout.positions, ...layout.marks }
  const body = { uiMetadata, expectedUiRevision: workflow.uiRevision }
  try {
    const { updatedAt } = await patch('/v1/workflows/{id}/ui-metadata', soon(id), body as never)
    return { layout, updatedAt }
  } catch (error) {
    if (isMoved(error)) return saveLayout(id, saved, sent)
    throw error
  }
}

/** Until nothing is left to be saved: what is run is what is seen, or nothing is run. */
export async function saveAll(): Promise<void> {
  for (let tries = 0; isDirty() && tries < 5; tries++) await save()
  if (isDirty()) throw new Error(words.editor.runUnsaved)
}

/** A moment after each change, and again as long as that fails; at once when a server answers that did not. Shows
 * nothing: a component of its own, so that a letter that is typed draws nothing else anew. */
export function Autosave() {
  const flow = useDocument((s) => s.flow)
  const positions = useDocument((s) => s.positions)
  const marks = useDocument((s) => s.marks)
  const isSaving = useDocument((s) => s.isSaving)
  const conflict = useDocument((s) => s.conflict)
  const isLost = useReach((s) => s.lostAt !== null)
  useEffect(() => {
    if (!isLost) void save().catch(() => {})
  }, [isLost])
  // biome-ignore lint/correctness/useExhaustiveDependencies: each change begins the wait anew
  useEffect(() => {
    if (isSaving || conflict || !isDirty()) return
    const timer = setTimeout(() => void save().catch(() => {}), AFTER_MS)
    return () => clearTimeout(timer)
  }, [flow, positions, marks, isSaving, conflict])
  useEffect(() => () => void save().catch(() => {}), [])
  return null
}

// A workflow that was left before it could be saved counts too, on every page.
window.addEventListener('beforeunload', (event) => {
  if (hasUnsaved()) event.preventDefault()
})

export type Problems = { all: Problem[]; warnings: Problem[]; byNode: Record<string, Problem[]> }
const NONE: Problems = { all: [], warnings: [], byNode: {} }

// A key is read as a whole each time that somebody asks; a definition is not changed, so that a number stands for it.
const numbers = new WeakMap<Flow, number>()
let last = 0
function numberOf(flow: Flow): number {
  const number = numbers.get(flow) ?? ++last
  numbers.set(flow, number)
  return number
}

const asking = (id: string | null, flow: Flow) => ({
  queryKey: ['problems', id, numberOf(flow)],
  gcTime: 10_000,
  queryFn: async (): Promise<Problems> => {
    const { errors, warnings } = await post('/v1/workflows/validate', {}, { definition: flow, workflowId: id } as never)
    const byNode: Record<string, Problem[]> = {}
    for (const one of errors) {
      if (!one.nodeId) continue
      byNode[one.nodeId] ??= []
      byNode[one.nodeId]?.push(one)
    }
    return { all: errors, warnings, byNode }
  },
})

/** Whether what is on the screen now can be run. */
export async function isSound(): Promise<boolean> {
  const { id, flow } = useDocument.getState()
  return (await queries.fetchQuery(asking(id, flow))).all.length === 0
}

/** The server's problems with what is on the screen, a moment after it has changed. */
export function useProblems(): Problems {
  const id = useDocument((s) => s.id)
  const settled = useSettledFlow()
  const found = useQuery({
    ...asking(id, settled),
    enabled: id !== null,
    placeholderData: (old: Problems | undefined) => old,
  })
  return found.data ?? NONE
}

/** The definition once nobody has changed it for a moment; whoever asks is drawn anew then, not for each change. */
function useSettledFlow(): Flow {
  const [settled, setSettled] = useState(() => useDocument.getState().flow)
  useEffect(() => {
    let timer = 0
    const stop = useDocument.subscribe(({ flow }, old) => {
      if (flow === old.flow) return
      clearTimeout(timer)
      timer = window.setTimeout(() => setSettled(flow), VALIDATE_MS)
    })
    return () => {
      clearTimeout(timer)
      stop()
    }
  }, [])
  return settled
}
