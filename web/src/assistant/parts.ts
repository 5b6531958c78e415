/** What a message of the assistant is made of, and how its events add up to the same. Pure. */
import type { Json, Mode } from '../api/client'

export type Part =
  | { type: 'text'; text: string }
  | { type: 'tool_call'; callId: string; tool: string; args: unknown }
  | { type: 'tool_result'; callId: string; ok: boolean; content?: string | null; hidden?: boolean }
  | { type: 'run'; runId: string; mode: Mode }
  | Question
export type Question = {
  type: 'approval'
  callId: string
  approvalId: string
  binding: string
  runId: string
  rehearsalRunId: string
  mode: Mode
  decision: string | null
}
export type TurnEvent = { type: string; seq: number; messageId: string; at: string } & Json

/** A message as its events tell it. `trouble`: why it failed. */
export type Told = { parts: Part[]; isOver: boolean; isWaiting: boolean; trouble: string }
export type Live = { seq: number; byMessage: Record<string, Told> }
export const NOTHING: Live = { seq: 0, byMessage: {} }

/** Adds events in their order; one that was seen already changes nothing. */
export function fold(live: Live, events: TurnEvent[]): Live {
  const byMessage = { ...live.byMessage }
  let seq = live.seq
  for (const event of events) {
    if (event.seq <= seq) continue
    seq = event.seq
    const told = byMessage[event.messageId] ?? { parts: [], isOver: false, isWaiting: false, trouble: '' }
    byMessage[event.messageId] = next(told, event)
  }
  return { seq, byMessage }
}

function next(told: Told, event: TurnEvent): Told {
  const with_ = (part: Part): Told => ({ ...told, parts: [...told.parts, part] })
  switch (event.type) {
    case 'text_delta':
      return { ...told, parts: said(told.parts, String(event.text)) }
    case 'tool_started':
      return with_({ type: 'tool_call', callId: String(event.callId), tool: String(event.tool), args: event.args })
    case 'tool_finished':
      return with_({ type: 'tool_result', callId: String(event.callId), ok: event.ok === true })
    case 'run_linked':
      return with_({ type: 'run', runId: String(event.runId), mode: event.mode as Mode })
    case 'approval_requested':
      return { ...with_({ ...(event as unknown as Question), type: 'approval', decision: null }), isWaiting: true }
    case 'approval_decided':
      return { ...told, isWaiting: false, parts: told.parts.map((part) => decided(part, event)) }
    case 'turn_finished':
      return { ...told, isOver: true, isWaiting: false }
    case 'turn_failed':
      return { ...told, isOver: true, isWaiting: false, trouble: String(event.message ?? '') }
    default:
      return told
  }
}

function said(parts: Part[], text: string): Part[] {
  const last = parts[parts.length - 1]
  if (last?.type !== 'text') return [...parts, { type: 'text', text }]
  return [...parts.slice(0, -1), { type: 'text', text: last.text + text }]
}

const decided = (part: Part, event: TurnEvent): Part =>
  part.type === 'approval' && part.approvalId === event.approvalId
    ? { ...part, decision: String(event.decision) }
    : part

/** A workflow that the turn has changed: from the version before its first save to its last one. */
export type Saved = { workflowId: string; from: number; to: number; isNew: boolean }

export function savesOf(parts: Part[]): Saved[] {
  const made: Record<string, Saved> = {}
  const calls = Object.fromEntries(parts.flatMap((part) => (part.type === 'tool_call' ? [[part.callId, part]] : [])))
  for (const part of parts) {
    if (part.type !== 'tool_result' || !part.ok || calls[part.callId]?.tool !== 'save_workflow') continue
    const { workflowId, version } = read(part.content) as { workflowId?: string; version?: number }
    if (!workflowId || !version) continue
    const known = made[workflowId]
    const isNew = known ? known.isNew : !(calls[part.callId]?.args as Json | null)?.workflowId
    made[workflowId] = { workflowId, from: known?.from ?? version - 1, to: version, isNew }
  }
  return Object.values(made)
}

/** A result as JSON; a text that is none stays a text under `text`. */
export function read(content: string | null | undefined): Json {
  try {
    const found: unknown = JSON.parse(content ?? '{}')
    return typeof found === 'object' && found !== null ? (found as Json) : { text: String(found) }
  } catch {
    return { text: content ?? '' }
  }
}

const RUN_ID = /^run_[A-Za-z0-9_-]{1,64}$/

/** The run, and the step of it, that a call has read. */
export function placeOf(args: unknown): { runId: string; step: string } | null {
  const { runId, node } = (args ?? {}) as Json
  if (typeof runId !== 'string' || !RUN_ID.test(runId)) return null
  return { runId, step: typeof node === 'string' ? node.replace(/^.*\./, '').replace(/\[\d+\]$/, '') : '' }
}
