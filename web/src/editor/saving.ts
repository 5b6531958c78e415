/** Saves the draft a moment after the last change, and asks the server what is wrong with it. */

import { useDebouncedValue } from '@mantine/hooks'
import { useQuery } from '@tanstack/react-query'
import { useEffect } from 'react'
import { ApiError, get as ask, type Problem, patch, post, put } from '../api/client'
import { queries, refresh } from '../api/queries'
import type { Flow } from '../model/graph'
import { isDirty, noteConflict, noteSaved, same, useDocument } from './document'

const AFTER_MS = 1_000
const VALIDATE_MS = 250
const VERSION_CONFLICT = 409001
// Saves of this tab replace one another while nothing has used them, so that a history is no list of pauses in typing.
const SESSION = crypto.getRandomValues(new Uint32Array(3)).join('-')

/** Resolves when everything is stored; throws what hinders it. */
export async function save(): Promise<void> {
  const { id, ui, flow, positions, marks, saved, version, isSaving, conflict } = useDocument.getState()
  if (!id || isSaving || conflict || !isDirty()) return
  useDocument.setState({ isSaving: true })
  const sent = { flow, positions, marks }
  try {
    let current = version
    if (!same(flow, saved.flow)) {
      const body = { definition: flow, expectedCurrentVersion: version, autosave: SESSION }
      const workflow = await put('/v1/workflows/{id}', { path: { id } }, body as never)
      current = workflow.version
      queries.setQueryData(['workflow', id], workflow)
    }
    if (!same(positions, saved.positions) || !same(marks, saved.marks)) {
      const body = { uiMetadata: { ...ui, v: 1, nodes: positions, ...marks } }
      await patch('/v1/workflows/{id}/ui-metadata', { path: { id } }, body as never)
    }
    noteSaved(sent, current)
    void refresh('/v1/workflows')
  } catch (error) {
    if (error instanceof ApiError && error.code === VERSION_CONFLICT)
      noteConflict(await ask('/v1/workflows/{id}', { path: { id } }))
    else useDocument.setState({ isSaving: false, error })
    throw error
  }
}

/** Until nothing is left to be saved: what is run is what is seen. */
export async function saveAll(): Promise<void> {
  for (let tries = 0; isDirty() && tries < 5; tries++) await save()
}

export function useAutosave() {
  const flow = useDocument((s) => s.flow)
  const positions = useDocument((s) => s.positions)
  const marks = useDocument((s) => s.marks)
  const isSaving = useDocument((s) => s.isSaving)
  const conflict = useDocument((s) => s.conflict)
  // biome-ignore lint/correctness/useExhaustiveDependencies: each change begins the wait anew
  useEffect(() => {
    if (isSaving || conflict || !isDirty()) return
    const timer = setTimeout(() => void save().catch(() => {}), AFTER_MS)
    return () => clearTimeout(timer)
  }, [flow, positions, marks, isSaving, conflict])
  useEffect(() => {
    const warn = (event: BeforeUnloadEvent) => {
      if (isDirty()) event.preventDefault()
    }
    window.addEventListener('beforeunload', warn)
    return () => {
      window.removeEventListener('beforeunload', warn)
      void save().catch(() => {})
    }
  }, [])
}

export type Problems = { all: Problem[]; warnings: Problem[]; byNode: Record<string, Problem[]> }
const NONE: Problems = { all: [], warnings: [], byNode: {} }

const asking = (id: string | null, flow: Flow) => ({
  queryKey: ['problems', id, flow],
  gcTime: 10_000,
  queryFn: async (): Promise<Problems> => {
    const { errors, warnings } = await post('/v1/workflows/validate', {}, { definition: flow } as never)
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
  const flow = useDocument((s) => s.flow)
  const [settled] = useDebouncedValue(flow, VALIDATE_MS)
  const found = useQuery({
    ...asking(id, settled),
    enabled: id !== null,
    placeholderData: (old: Problems | undefined) => old,
  })
  return found.data ?? NONE
}
