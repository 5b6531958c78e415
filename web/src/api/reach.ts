/** Whether the server answers. Whoever cannot reach it says so to all tabs, and each looks for itself until it does. */
import { create } from 'zustand'

const EVERY_MS = 2_000
const WITHIN_MS = 5_000
/** With the time to answer: that a server accepts and says nothing is told within ten seconds. */
const QUIET_MS = 3_000
const TICK_MS = 1_000

/** Since when it does not answer. */
export const useReach = create<{ lostAt: Date | null }>(() => ({ lostAt: null }))

const others = new BroadcastChannel('dustrun-reach')
others.onmessage = () => look()
let isLooking = false
let heardAt = 0

/** Told by what was answered. */
export const heard = () => {
  heardAt = Date.now()
}

/** Asks a server that has said nothing for a while whether it is there, as long as the page is seen. */
export function watchReach(): () => void {
  const isQuiet = () => document.visibilityState === 'visible' && Date.now() - heardAt >= QUIET_MS
  const timer = window.setInterval(() => isQuiet() && look(), TICK_MS)
  return () => clearInterval(timer)
}

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
    () => {
      heard()
      return true
    },
    () => false,
  )
