/** From events to the state of nodes. Pure: the same events give the same state, and an event seen twice counts once. */
import type { RunEvent } from '../api/stream'

export type NodeState = {
  status: string
  attempt: number
  branch?: string
  assumed?: boolean
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

/** The state of each path, such as `each[3].pay`, after the first `upTo` events. */
function foldPaths(events: readonly RunEvent[], upTo: number): Record<string, NodeState & { nodeId: string }> {
  const paths: Record<string, NodeState & { nodeId: string }> = {}
  for (let i = 0; i < upTo; i++) {
    const event = events[i]
    if (!event?.nodeId) continue
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
      old.message = `${event.item}: ${event.status}`
    } else if (old && (event.type === 'log' || event.type === 'node_progress')) {
      old.message = String(event.message ?? '')
    }
  }
  return paths
}

/** The state of each node; a node in a loop has the worst of its items. */
export function fold(events: readonly RunEvent[], upTo: number): NodeStates {
  const nodes: NodeStates = {}
  const groups: Record<string, NodeState[]> = {}
  for (const [path, state] of Object.entries(foldPaths(events, upTo))) {
    if (path.includes('[')) {
      groups[state.nodeId] ??= []
      groups[state.nodeId]?.push(state)
    } else nodes[state.nodeId] = state
  }
  for (const [id, states] of Object.entries(groups)) {
    const worst = states.reduce((a, b) => (WORST.indexOf(b.status) < WORST.indexOf(a.status) ? b : a))
    const done = states.filter((one) => one.status === 'success').length
    const failed = states.filter((one) => one.status === 'failure').length
    nodes[id] = { ...worst, items: { done, failed, all: states.length } }
  }
  return nodes
}
