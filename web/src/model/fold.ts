/** From events to the state of nodes. Pure: the same events give the same state, and an event seen twice counts once. */
import type { RunEvent } from '../api/stream'

export type NodeState = {
  status: string
  attempt: number
  branch?: string
  assumed?: boolean
  /** Of a retry: the result is that of the run before. */
  kept?: boolean
  message?: string
  result?: unknown
  resultOmitted?: boolean
  error?: { code?: unknown; message?: string } | null
  items?: { done: number; failed: number; all: number }
  at: string
}
export type NodeStates = Record<string, NodeState>

const AFTER: Record<string, string> = {
  node_started: 'running',
  node_succeeded: 'success',
  node_failed: 'failure',
  node_retrying: 'retrying',
  node_waiting: 'waiting',
  node_skipped: 'skipped',
  node_cancelled: 'cancelled',
  node_uncertain: 'uncertain',
}
const WORST = ['failure', 'uncertain', 'retrying', 'running', 'waiting', 'cancelled', 'success', 'skipped']

/** Adds events that have not been seen; they may come late, twice or out of order. */
export function merge(old: readonly RunEvent[], more: readonly RunEvent[]): RunEvent[] {
  const last = old.at(-1)?.seq ?? 0
  if (more.every((event, i) => event.seq > (more[i - 1]?.seq ?? last))) return [...old, ...more]
  const bySeq = new Map([...old, ...more].map((event) => [event.seq, event]))
  return [...bySeq.values()].sort((a, b) => a.seq - b.seq)
}

const RUN_AFTER: Record<string, string> = { run_started: 'running', run_waiting: 'waiting', run_resumed: 'running' }

/** The run's status after these events; undefined before the first of them. */
export function runStatus(events: readonly RunEvent[]): string | undefined {
  for (let i = events.length - 1; i >= 0; i--) {
    const { type, status } = events[i] as RunEvent
    if (type === 'run_finished') return status
    if (RUN_AFTER[type]) return RUN_AFTER[type]
  }
  return undefined
}

/** Which item of a loop is looked at, by the loop's id. */
export type Picked = Readonly<Record<string, number>>
const INDEX = /([^.[\]]+)\[(\d+)\]/g

/** Whether a path such as `each[3].pay` is in the items that are looked at; a loop without a picked one is in all. */
export function isPicked(path: string, picked: Picked): boolean {
  for (const [, loop = '', index] of path.matchAll(INDEX)) {
    if (picked[loop] !== undefined && picked[loop] !== Number(index)) return false
  }
  return true
}

type PathStates = Record<string, NodeState & { nodeId: string }>
type Folded = { upTo: number; last: RunEvent; paths: PathStates }

/** How far the events that begin with this one were folded, so that more of them cost no more than themselves. */
const folded = new WeakMap<RunEvent, Folded>()

/** The state of each path, such as `each[3].pay`, after the first `upTo` events. */
function foldPaths(events: readonly RunEvent[], upTo: number): PathStates {
  const [first] = events
  const last = events[upTo - 1]
  if (!first || !last) return {}
  const known = folded.get(first)
  const goesOn = known && known.upTo <= upTo && events[known.upTo - 1] === known.last
  const paths = goesOn ? known.paths : {}
  for (let i = goesOn ? known.upTo : 0; i < upTo; i++) addTo(paths, events[i] as RunEvent)
  folded.set(first, { upTo, last, paths })
  return paths
}

/** A state that was handed out is never changed, so that whoever has it knows by that whether to draw it anew. */
function addTo(paths: PathStates, event: RunEvent) {
  if (!event.nodeId) return
  const path = event.path ?? event.nodeId
  const old = paths[path]
  const status = AFTER[event.type]
  if (status) {
    paths[path] = {
      nodeId: event.nodeId,
      status,
      attempt: event.attempt ?? 1,
      branch: event.branch as string | undefined,
      assumed: event.assumed as boolean | undefined,
      result: event.result ?? old?.result,
      resultOmitted: event.resultOmitted as boolean | undefined,
      error: event.error as NodeState['error'],
      message: old?.message,
      at: event.at,
    }
  } else if (old && event.type === 'transaction') {
    paths[path] = { ...old, message: `${event.item}: ${event.status}` }
  } else if (old && (event.type === 'log' || event.type === 'node_progress')) {
    paths[path] = { ...old, message: String(event.message ?? '') }
  }
}

const worstOf = (states: NodeState[]) =>
  states.reduce((a, b) => (WORST.indexOf(b.status) < WORST.indexOf(a.status) ? b : a))

/** The state of each node; a node in a loop has that of the picked item, else the worst of its items. */
export function fold(events: readonly RunEvent[], upTo: number, picked: Picked = {}): NodeStates {
  const nodes: NodeStates = {}
  const groups: Record<string, NodeState[]> = {}
  for (const [path, state] of Object.entries(foldPaths(events, upTo))) {
    if (!path.includes('[')) nodes[state.nodeId] = state
    else if (isPicked(path, picked)) {
      groups[state.nodeId] ??= []
      groups[state.nodeId]?.push(state)
    }
  }
  for (const [id, states] of Object.entries(groups)) {
    const [only] = states
    if (only && states.length === 1 && Object.keys(picked).length) {
      nodes[id] = only
      continue
    }
    const done = states.filter((one) => one.status === 'success').length
    const failed = states.filter((one) => one.status === 'failure').length
    nodes[id] = { ...worstOf(states), items: { done, failed, all: states.length } }
  }
  return nodes
}

export type Item = { index: number; status: string; message?: string }

/** The items of a loop that have begun, in order, each with the worst of its nodes. */
export function itemsOf(events: readonly RunEvent[], upTo: number, loop: string, picked: Picked = {}): Item[] {
  const { [loop]: _, ...others } = picked
  const byIndex = new Map<number, NodeState[]>()
  for (const [path, state] of Object.entries(foldPaths(events, upTo))) {
    if (!isPicked(path, others)) continue
    for (const [, id, text] of path.matchAll(INDEX)) {
      if (id !== loop) continue
      const index = Number(text)
      const states = byIndex.get(index)
      if (states) states.push(state)
      else byIndex.set(index, [state])
    }
  }
  return [...byIndex.entries()]
    .sort(([a], [b]) => a - b)
    .map(([index, states]) => {
      const worst = worstOf(states)
      return { index, status: worst.status, message: worst.error?.message ?? worst.message }
    })
}

/** Where somebody wants to go: the item of a number as it is shown, or the next one after a place that has the words in
 * what became of it, and after the last the first again. Its place, or -1. */
export function placeOf(items: readonly Item[], wanted: string, after: number): number {
  const text = wanted.trim().toLowerCase()
  if (/^\d+$/.test(text)) return items.findIndex((one) => one.index === Number(text) - 1)
  const has = ({ status, message }: Item) => `${status} ${message ?? ''}`.toLowerCase().includes(text)
  const next = items.findIndex((one, place) => place > after && has(one))
  return next < 0 ? items.findIndex(has) : next
}
