/** A run's events as they come. The browser reconnects by itself, and continues after the last event that it saw. */
import { ApiError, get } from './client'
import { parse } from './exact'

export type RunEvent = {
  type: string
  seq: number
  runId: string
  at: string
  nodeId?: string
  path?: string
  status?: string
  attempt?: number
  [field: string]: unknown
}

/** All types: an EventSource drops what it has no listener for. tests/web compares them with the OpenAPI document. */
export const EVENT_TYPES = [
  'run_started',
  'node_started',
  'node_progress',
  'log',
  'node_succeeded',
  'node_failed',
  'node_retrying',
  'node_waiting',
  'node_skipped',
  'node_cancelled',
  'node_uncertain',
  'transaction',
  'run_waiting',
  'run_resumed',
  'run_responded',
  'run_finished',
] as const

type Listener = { take: (events: RunEvent[]) => void; end: () => void; lost: (isLost: boolean) => void }
const FIRST_PAUSE_MS = 1_000
const LAST_PAUSE_MS = 30_000

/** What arrives within one frame is handed over at once, so that thousands of events cost few renderings. A hidden tab
 * holds no connection, since a browser has six for one server; it goes on after the last event that it saw. */
export function follow(runId: string, listener: Listener): () => void {
  const address = `/v1/runs/${encodeURIComponent(runId)}/stream`
  let source: EventSource | null = null
  let lastId = ''
  let queue: RunEvent[] = []
  let frame = 0
  let again = 0
  let pause = FIRST_PAUSE_MS
  let isOver = false
  const flush = () => {
    frame = 0
    const events = queue
    queue = []
    if (events.length) listener.take(events)
  }
  const take = (message: MessageEvent<string>) => {
    lastId = message.lastEventId
    queue.push(parse(message.data) as RunEvent)
    frame ||= requestAnimationFrame(flush)
  }
  const finish = () => {
    close()
    flush()
    listener.end()
  }
  const open = () => {
    const opened = new EventSource(lastId ? `${address}?lastEventId=${encodeURIComponent(lastId)}` : address)
    source = opened
    for (const type of EVENT_TYPES) opened.addEventListener(type, take)
    opened.addEventListener('open', () => {
      pause = FIRST_PAUSE_MS
      listener.lost(false)
    })
    opened.addEventListener('error', () => {
      if (isOver) return
      listener.lost(true)
      if (opened.readyState !== EventSource.CLOSED) return
      again = window.setTimeout(() => void retry(), pause)
      pause = Math.min(pause * 2, LAST_PAUSE_MS)
    })
    opened.addEventListener('end', finish)
  }
  // The browser gives up for good on an answer that says no: of a server that is starting, which is asked again, or about
  // a run that is not there for this key, which is asked no more.
  const retry = async () => {
    const refused = await get('/v1/runs/{id}', { path: { id: runId }, query: { nodeIds: '-' } }).then(
      () => false,
      (error) => error instanceof ApiError && error.status >= 400 && error.status < 500 && error.status !== 429,
    )
    if (isOver || document.visibilityState === 'hidden') return
    if (refused) finish()
    else open()
  }
  const look = () => {
    if (document.visibilityState === 'hidden') {
      clearTimeout(again)
      source?.close()
      source = null
    } else if (!source) open()
  }
  const close = () => {
    isOver = true
    document.removeEventListener('visibilitychange', look)
    clearTimeout(again)
    source?.close()
    cancelAnimationFrame(frame)
  }
  document.addEventListener('visibilitychange', look)
  open()
  return close
}
