/** What happens elsewhere refreshes what is shown here. */
import { useEffect } from 'react'
import { followActivity } from '../api/activity'
import { refresh } from '../api/queries'

const PAUSE_MS = 700

/** Lists are asked again a moment after a run starts or ends, however many do at once. */
export function useActivity() {
  useEffect(() => {
    let timer = 0
    const look = () => {
      if (timer) return
      timer = window.setTimeout(() => {
        timer = 0
        void refresh('/v1/runs', '/v1/workflows', '/v1/workflows/{id}/runs', '/v1/approvals', 'workflow')
      }, PAUSE_MS)
    }
    const stop = followActivity({ take: look, back: look })
    return () => {
      clearTimeout(timer)
      stop()
    }
  }, [])
}
