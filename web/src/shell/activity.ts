/** What happens elsewhere refreshes what is shown here. */
import { useEffect } from 'react'
import { followActivity } from '../api/activity'
import { refresh } from '../api/queries'

const PAUSE_MS = 700
const OF_WORKFLOWS = ['/v1/workflows', 'workflow']
const OF_RUNS = ['/v1/runs', '/v1/workflows/{id}/runs', '/v1/approvals', ...OF_WORKFLOWS]

/** Lists are asked again a moment after a run starts or ends, or somebody saves a workflow, however often at once. */
export function useActivity(isHeard: boolean) {
  useEffect(() => {
    if (!isHeard) return
    let timer = 0
    const stale = new Set<string>()
    const look = (keys: string[]) => {
      for (const key of keys) stale.add(key)
      timer ||= window.setTimeout(() => {
        timer = 0
        void refresh(...stale)
        stale.clear()
      }, PAUSE_MS)
    }
    const stop = followActivity({
      take: ({ type }) => look(type === 'workflow_changed' ? OF_WORKFLOWS : OF_RUNS),
      back: () => look(OF_RUNS),
    })
    return () => {
      clearTimeout(timer)
      stop()
    }
  }, [isHeard])
}
