/** A run's events as they come. The browser reconnects by itself, and continues after the last event that it saw. */
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

/** What arrives within one frame is handed over at once, so that thousands of events cost few renderings. */
export function follow(runId: string, listener: Listener): () => void {
  const source = new EventSource(`/v1/runs/${encodeURIComponent(runId)}/stream`)
  let queue: RunEvent[] = []
  let frame = 0
  const flush = () => {
    frame = 0
    const events = queue
    queue = []
    if (events.length) listener.take(events)
  }
  const take = (message: MessageEvent<string>) => {
    queue.push(parse(message.data) as RunEvent)
    frame ||= requestAnimationFrame(flush)
  }
  const close = () => {
    source.close()
    cancelAnimationFrame(frame)
  }
  for (const type of EVENT_TYPES) source.addEventListener(type, take)
  source.addEventListener('open', () => listener.lost(false))
  source.addEventListener('error', () => {
    if (source.readyState === EventSource.CLOSED) listener.end()
    else listener.lost(true)
  })
  source.addEventListener('end', () => {
    close()
    flush()
    listener.end()
  })
  return close
}

const ACTIVITY = ['run_started', 'run_waiting', 'run_resumed', 'run_finished', 'launch_proposed'] as const

/** Starts, waits and ends of all runs while this tab is seen; a hidden tab holds no connection. */
export function followActivity(take: (event: RunEvent) => void): () => void {
  let source: EventSource | null = null
  const listen = () => {
    if (document.visibilityState === 'hidden') {
      source?.close()
      source = null
    } else if (!source) {
      source = new EventSource('/v1/activity/stream')
      for (const type of ACTIVITY) source.addEventListener(type, (message) => take(parse(message.data) as RunEvent))
    }
  }
  document.addEventListener('visibilitychange', listen)
  listen()
  return () => {
    document.removeEventListener('visibilitychange', listen)
    source?.close()
  }
}
