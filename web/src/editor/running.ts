/** Runs what is on the screen: saved first, watched from its first event, and reported when it has ended. */
import { useQuery } from '@tanstack/react-query'
import { useCallback, useEffect, useRef, useState } from 'react'
import { type Effects, get, type Json, type Mode, post, type Workflow } from '../api/client'
import { refresh, useEffects, useRun } from '../api/queries'
import { useRungs } from '../effects/store'
import { forgetTrial } from '../inspector/trial'
import { show, useRunStore } from '../run/store'
import { useDocument } from './document'
import { saveAll } from './saving'

const FLAGS: Record<Mode, Json> = { simulate: { simulate: true }, dust: { dustTest: true }, live: {} }

export function useRunning() {
  const isOpen = useRunStore((s) => s.isOpen)
  const runId = useRunStore((s) => s.runId)
  const stop = useRef(() => {})
  const [error, setError] = useState<unknown>(null)
  useEffect(() => () => stop.current(), [])
  const start = useCallback(async (mode: Mode, payload: unknown) => {
    setError(null)
    try {
      await saveAll()
      const { id, version } = useDocument.getState()
      const runId = `run_${crypto.randomUUID().replaceAll('-', '')}`
      stop.current()
      stop.current = show(runId, () => void refresh('workflow', '/v1/runs', 'run', 'effects'))
      await post('/v1/workflows/{id}/run', { path: { id: id ?? '' } }, {
        runId,
        version,
        payload,
        ...FLAGS[mode],
      } as never)
      forgetTrial(id)
    } catch (problem) {
      stop.current()
      setError(problem)
    }
  }, [])
  const cancel = useCallback(async () => {
    const { runId } = useRunStore.getState()
    if (runId) await post('/v1/runs/{id}/cancel', { path: { id: runId } }).catch(setError)
  }, [])
  return { start, cancel, error, clear: () => setError(null), isRunning: isOpen && runId !== null, runId }
}

/** The newest reports of this version, one a mode; the cards of the canvas read them from their store. */
export function useLadder(workflow: Workflow) {
  const { simulate, dust, live } = workflow.ladder
  const found = { simulate: useEffects(simulate), dust: useEffects(dust), live: useEffects(live) }
  const data = (mode: Mode): Effects | undefined => (workflow.ladder[mode] ? found[mode].data : undefined)
  const [a, b, c] = [data('simulate'), data('dust'), data('live')]
  useEffect(() => {
    useRungs.setState({ rungs: { simulate: a, dust: b, live: c } })
  }, [a, b, c])
  useEffect(() => () => useRungs.setState({ rungs: {} }), [])
}

/** The newest run: what expressions are shown with, and what is run again. */
export function useLastRun(workflow: Workflow, runId: string | null) {
  const id = workflow.id
  const newest = useQuery({
    queryKey: ['/v1/workflows/{id}/runs', id, 'newest'],
    queryFn: () => get('/v1/workflows/{id}/runs', { path: { id }, query: { limit: 1 } }),
  })
  const isOpen = useRunStore((s) => s.isOpen)
  const ended = isOpen ? null : runId
  const { live, simulate, dust } = workflow.ladder
  return useRun(ended ?? live ?? simulate ?? dust ?? newest.data?.items[0]?.id ?? '').data
}
