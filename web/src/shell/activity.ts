/** What happens elsewhere refreshes what is shown here. */
import { useEffect } from 'react'
import { followActivity } from '../api/activity'
import { get } from '../api/client'
import { refresh } from '../api/queries'

const PAUSE_MS = 700
const KEY_MS = 10_000
const OF_WORKFLOWS = ['/v1/workflows', 'workflow']
const OF_RUNS = ['/v1/runs', '/v1/workflows/{id}/runs', '/v1/approvals', ...OF_WORKFLOWS]

/** Lists are asked again a moment after a run starts or ends, or somebody saves a workflow, however often at once.
 * `isHeard`: whether the key may follow that. Who may not asks now and then whether the key is still good: the end of
 * the stream would tell it, and what is shown must not stay on the screen of a key that was revoked. */
export function useActivity(isHeard: boolean) {
  useEffect(() => {
    if (!isHeard) {
      const asking = window.setInterval(() => void get('/v1/me').catch(() => {}), KEY_MS)
      return () => clearInterval(asking)
    }
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
