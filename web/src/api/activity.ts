/** Starts, waits and ends of all runs, and changes of workflows: one connection for all tabs, because a browser has few
 * for one server.
 *
 * The tab that holds a lock listens and tells the others; when it is closed or hidden, the next one that is seen goes
 * on after the last event that it was told. */
import { get } from './client'
import { parse } from './exact'
import { doubt } from './reach'
import type { RunEvent } from './stream'

const ADDRESS = '/v1/activity/stream'
const NAME = 'dustrun-activity'
const TYPES = [
  'run_started',
  'run_waiting',
  'run_resumed',
  'run_finished',
  'launch_proposed',
  'workflow_changed',
] as const
const FIRST_PAUSE_MS = 1_000
const LAST_PAUSE_MS = 30_000
/** After more than this out of sight, a tab does not catch up: its lists are asked again anyway. */
const MOST_HIDDEN_MS = 60_000
const KEPT = 500

/** Without `data`: the connection was lost and is back, so what happened meanwhile may have gone by unheard. */
type Said = { id: string; data?: string }
type Listener = { take: (event: RunEvent) => void; back?: () => void }

const listeners = new Set<Listener>()
const known = new Set<string>()
let lastId = ''
let stop: (() => void) | null = null

export function followActivity(listener: Listener): () => void {
  listeners.add(listener)
  stop ??= begin()
  return () => {
    listeners.delete(listener)
    if (listeners.size) return
    stop?.()
    stop = null
  }
}

/** An event from the stream or from another tab; each counts once. */
function hear({ id, data }: Said) {
  if (data === undefined) {
    for (const { back } of listeners) back?.()
    return
  }
  const key = `${id} ${data}` // what happens to no run has the id of what came before
  if (known.has(key)) return
  if (known.size >= KEPT) known.clear()
  known.add(key)
  lastId = id
  const event = parse(data) as RunEvent
  for (const { take } of listeners) take(event)
}

function begin(): () => void {
  const others = new BroadcastChannel(NAME)
  others.onmessage = (message: MessageEvent<Said>) => hear(message.data)
  const tell = (said: Said) => {
    hear(said)
    others.postMessage(said)
  }
  let leave: (() => void) | null = null
  let hiddenAt = 0
  const look = () => {
    if (document.visibilityState === 'hidden') {
      leave?.()
      leave = null
      hiddenAt = Date.now()
      return
    }
    if (hiddenAt && Date.now() - hiddenAt > MOST_HIDDEN_MS) lastId = ''
    leave ??= whileMine(() => listen(tell))
  }
  document.addEventListener('visibilitychange', look)
  look()
  return () => {
    document.removeEventListener('visibilitychange', look)
    leave?.()
    others.close()
    lastId = ''
  }
}

/** Waits for the lock, and begins once it is this tab's. Pages without https have no locks: there each tab listens. */
function whileMine(start: () => () => void): () => void {
  const given = new AbortController()
  let end: (() => void) | null = null
  const hold = () =>
    new Promise<void>((release) => {
      const close = start()
      end = () => {
        close()
        release()
      }
    })
  if (navigator.locks) navigator.locks.request(NAME, { signal: given.signal }, hold).catch(() => {})
  else void hold()
  return () => {
    given.abort()
    end?.()
  }
}

/** The connection itself. The browser mends what breaks, but gives up on an answer that says no, as in a restart, and does
 * not tell which. So something is asked that signs out if the key has ended. */
function listen(tell: (said: Said) => void): () => void {
  let source: EventSource
  let timer = 0
  let pause = FIRST_PAUSE_MS
  let isLost = false
  const open = () => {
    source = new EventSource(lastId ? `${ADDRESS}?lastEventId=${encodeURIComponent(lastId)}` : ADDRESS)
    for (const type of TYPES)
      source.addEventListener(type, ({ lastEventId, data }: MessageEvent<string>) => tell({ id: lastEventId, data }))
    source.addEventListener('open', () => {
      pause = FIRST_PAUSE_MS
      if (isLost) tell({ id: lastId })
      isLost = false
    })
    source.addEventListener('error', () => {
      isLost = true
      doubt()
      if (source.readyState !== EventSource.CLOSED) return
      void get('/v1/me').catch(() => {})
      timer = window.setTimeout(open, pause)
      pause = Math.min(pause * 2, LAST_PAUSE_MS)
    })
  }
  open()
  return () => {
    clearTimeout(timer)
    source.close()
  }
}
