/** Whether the server answers. Whoever cannot reach it says so to all tabs, and each looks for itself until it does. */
import { create } from 'zustand'

const EVERY_MS = 2_000
const WITHIN_MS = 5_000

/** Since when it does not answer. */
export const useReach = create<{ lostAt: Date | null }>(() => ({ lostAt: null }))

const others = new BroadcastChannel('dustrun-reach')
others.onmessage = () => look()
let isLooking = false

/** Told by what was not answered. */
export function doubt() {
  if (!isLooking) others.postMessage('')
  look()
}

async function look() {
  if (isLooking) return
  isLooking = true
  while (!(await answers())) {
    if (!useReach.getState().lostAt) useReach.setState({ lostAt: new Date() })
    await new Promise((go) => setTimeout(go, EVERY_MS))
  }
  isLooking = false
  if (useReach.getState().lostAt) useReach.setState({ lostAt: null })
}

/** Any answer counts: a server that starts says that it is not ready. */
const answers = () =>
  fetch('/healthz', { cache: 'no-store', signal: AbortSignal.timeout(WITHIN_MS) }).then(
    () => true,
    () => false,
  )
