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
/** Of each frame, so that thousands of events neither cost thousands of renderings nor hold the page. */
const SLICE_MS = 8

/** What arrives is handed over a slice each frame. A hidden tab
 * holds no connection, since a browser has six for one server; it goes on after the last event that it saw. */
export function follow(runId: string, listener: Listener): () => void {
  const address = `/v1/runs/${encodeURIComponent(runId)}/stream`
  let source: EventSource | null = null
  let lastId = ''
  let queue: string[] = []
  let taken = 0
  let frame = 0
  let again = 0
  let pause = FIRST_PAUSE_MS
  let isOver = false
  let isComplete = false
  const flush = () => {
    frame = 0
    const begun = performance.now()
    const events: RunEvent[] = []
    while (taken < queue.length && performance.now() - begun < SLICE_MS)
      events.push(parse(queue[taken++] as string) as RunEvent)
    if (taken === queue.length) {
      queue = []
      taken = 0
    }
    if (events.length) listener.take(events)
    if (queue.length) frame ||= requestAnimationFrame(flush)
    else if (isComplete) listener.end()
  }
  const take = (message: MessageEvent<string>) => {
    lastId = message.lastEventId
    queue.push(message.data)
    frame ||= requestAnimationFrame(flush)
  }
  const finish = () => {
    leave()
    isComplete = true
    frame ||= requestAnimationFrame(flush)
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
    const query = { nodeIds: '-', omitLargerThan: 100_000 }
    const refused = await get('/v1/runs/{id}', { path: { id: runId }, query }).then(
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
  const leave = () => {
    isOver = true
    document.removeEventListener('visibilitychange', look)
    clearTimeout(again)
    source?.close()
  }
  document.addEventListener('visibilitychange', look)
  open()
  return () => {
    leave()
    cancelAnimationFrame(frame)
  }
}
