/** Whether the server answers. Whoever cannot reach it says so to all tabs, and each looks for itself until it does. */
import { create } from 'zustand'

const EVERY_MS = 1_000
/** Once it is told that it does not answer, one that is slow may take its time to show that it is there. */
const WITHIN_MS = 5_000
/** These three together are less than three seconds: so soon it is told that a server accepts and says nothing. */
const FIRST_WITHIN_MS = 1_500
const QUIET_MS = 1_000
const TICK_MS = 250
/** A timer that comes so late was held up by this page itself, which says nothing about the server. */
const LATE_MS = 250

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

/** Any answer counts, that to another question too: a server that starts says that it is not ready. */
async function answers(): Promise<boolean> {
  const begun = Date.now()
  const within = useReach.getState().lostAt ? WITHIN_MS : FIRST_WITHIN_MS
  try {
    await fetch('/healthz', { cache: 'no-store', signal: AbortSignal.timeout(within) })
    heard()
    return true
  } catch {
    if (heardAt >= begun) return true
    return Date.now() - begun > within + LATE_MS && answers()
  }
}
