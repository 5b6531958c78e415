/** What became of what a run sends, in words that are true of its mode. Pure. */
import type { Effects, Mode } from '../api/client'
import { words } from '../words'
import { short } from './amounts'
import { type Flow, loopsOf, nameOf, pathNames, triggersOf } from './graph'

const said = words.outcomes
export type Tone = 'ok' | 'dust' | 'bad' | 'sim' | ''
export type Told = { text: string; tone: Tone }
type Request = { sent: boolean; status: string; answered?: number | null }

/** A request that writes: whether it left the server, and how it was answered. */
export function requestOutcome(mode: Mode, { sent, status, answered }: Request): Told {
  if (status === 'uncertain' || (status === 'cancelled' && sent)) return { text: said.unknown, tone: 'dust' }
  if (!sent) return mode === 'simulate' ? { text: said.wouldSend, tone: 'sim' } : { text: said.notSent, tone: '' }
  if (status !== 'failure') return { text: said.sent, tone: 'ok' }
  return { text: typeof answered === 'number' ? said.answered(answered) : said.sentFailed, tone: 'bad' }
}

const SIMULATED: Record<string, Told> = {
  simulated: { text: said.wouldSend, tone: 'sim' },
  rejected: { text: said.wouldFail, tone: 'bad' },
  reverted: { text: said.wouldFail, tone: 'bad' },
  refused: { text: said.wouldRefuse, tone: 'bad' },
  notSimulable: { text: said.notSimulated, tone: 'dust' },
}
const SENT: Record<string, Told> = {
  planned: { text: said.notSentYet, tone: '' },
  asked: { text: said.asks, tone: 'dust' },
  signed: { text: said.signed, tone: 'dust' },
  sent: { text: said.onItsWay, tone: 'dust' },
  mined: { text: said.inBlock, tone: 'ok' },
  final: { text: said.final, tone: 'ok' },
  reverted: { text: said.reverted, tone: 'bad' },
  refused: { text: said.refused, tone: 'bad' },
  rejected: { text: said.refused, tone: 'bad' },
  cancelled: { text: said.withdrawn, tone: '' },
  displaced: { text: said.displaced, tone: 'dust' },
}

/** A transaction: where it stands. One without a hash was never sent. */
export function transactionOutcome(mode: Mode, status: string, hash?: string | null): Told {
  const known = (mode === 'simulate' ? SIMULATED : SENT)[status]
  if (known) return known
  if (mode === 'simulate') return { text: said.wouldSend, tone: 'sim' }
  return hash ? { text: said.unknown, tone: 'dust' } : { text: said.notSent, tone: '' }
}

/** Why a step has no output. */
export function noOutput(status: string | undefined): string {
  return said.noOutput[status ?? ''] ?? said.noOutput.none ?? ''
}

/** The event at the end of a run. */
export const runEnd = (status: unknown) => said.runEnd[String(status)] ?? words.events.run_finished ?? ''

type Sends = Pick<Effects, 'requests' | 'transactions'>

/** What may have been sent, or may not: nothing of it is tried again before it is known. */
export const unknownIn = (mode: Mode, { requests, transactions }: Sends) => [
  ...requests.filter((one) => requestOutcome(mode, one).text === said.unknown),
  ...transactions.filter((one) => mode !== 'simulate' && OPEN.has(one.status)),
]

export type Facts = { sent: string[]; done: string[]; todo: string[] }
type States = Record<string, { status: string } | undefined>

/** What a run that did not succeed has sent, what of it is settled, and what it has not begun. A simulation sends nothing. */
export function factsOf(mode: Mode, { requests, transactions }: Sends, states: States, flow: Flow): Facts {
  const todo = Object.keys(flow.nodes).filter((id) => !states[id] || WAITING.has(states[id]?.status ?? ''))
  const others = new Set([...triggersOf(flow), ...Object.keys(loopsOf(flow))]) // of a loop's steps each item has a state
  const found: Facts = { sent: [], done: [], todo: todo.filter((id) => !others.has(id)).map((id) => nameOf(flow, id)) }
  if (mode === 'simulate') return found
  for (const one of requests)
    if (one.sent) found.sent.push(`${requestName(one.request, one.action)}: ${requestOutcome(mode, one).text}`)
  for (const one of transactions)
    if (one.hash) found.sent.push(`${short(one.about)}: ${transactionOutcome(mode, one.status, one.hash).text}`)
  const settled = transactions.filter((one) => DONE.has(one.status))
  if (!settled.length) return found
  const isFinal = settled.every((one) => one.status === 'final')
  found.done.push(said.settled(said.payments(settled.length), isFinal))
  if (settled.every((one) => states[one.path]?.status === 'success')) found.done.push(said.keptByRetry)
  return found
}

/** The wallet whose policy refused what the step wanted to send. */
export const refusedBy = ({ transactions }: Sends, id: string | null): string | null =>
  transactions.find((one) => one.nodeId === id && one.walletId && one.verdict?.outcome === 'deny')?.walletId ?? null

export const requestName = ({ method, url }: Record<string, unknown>, action: string) =>
  url ? `${method ?? 'GET'} ${url}` : action

const WAITING = new Set(['pending', 'scheduled'])

type Ended = { mode: Mode; status: string; failed?: string | null; effects: Effects; flow?: Flow | null | undefined }
const DONE = new Set(['mined', 'final'])
const OPEN = new Set(['signed', 'sent', 'displaced'])
const UNDONE = new Set(['reverted', 'cancelled'])
const ENDED = new Set(['success', 'partial', 'failure', 'cancelled'])

/** One sentence on a run that did not succeed, from its facts: what is final, then what failed. */
export function runHeading({ mode, status, failed, effects, flow }: Ended): string {
  const what = failed ? said.failed(nameOf(flow, failed)) : said.stopped(words.runStatus[status] ?? status)
  if (mode === 'simulate') return `${said.onlySimulated} ${what}`
  const [first] = unknownIn(mode, effects)
  if (first) return said.notKnown(pathNames(flow, first.path))
  return [...sentIn(effects), ...(isPartly(effects.called) ? [said.notWhole] : []), what].join(' ')
}

/** What a run sent, one sentence for what went out and one for what the chain undid; reads are not counted. */
function sentIn({ requests, transactions, signatures, called }: Effects): string[] {
  const payments = transactions.filter((one) => DONE.has(one.status)).length
  const undone = transactions.filter((one) => one.hash && UNDONE.has(one.status)).length
  const asked = requests.filter((one) => one.sent).length
  const moved = [payments && said.payments(payments), asked && said.requests(asked)].filter(Boolean).join(', ')
  const found = [moved && said.wentOut(moved), undone && said.undone(said.payments(undone))].filter(Boolean) as string[]
  return found.length || signatures.length || isPartly(called) ? found : [said.nothingSent]
}

/** Whether called runs may have done more than is shown. */
const isPartly = (called: Effects['called']) => !called.isComplete || called.hidden > 0

/** What is said where nothing of a run is to be shown: only what is known of it. */
export function noEffects(effects: Pick<Effects, 'mode' | 'status' | 'called'> | undefined): string {
  const quiet = words.runs.noEffects
  if (effects && isPartly(effects.called)) return quiet.hidden
  if (effects?.mode === 'simulate') return quiet.simulate
  return effects && ENDED.has(effects.status) ? quiet.ended : quiet.soFar
}

type NodeKept = { status?: string; iterations?: Record<string, unknown>[] | null }
export type Count = { id: string; times: number }
export type Retry = { kept: Count[]; again: Count[]; first: Count[] }

/** What a retry of a run does with the steps that change something outside (`writes`): `kept` ones succeeded and stay,
 * those of `again` were sent before and go out again, those of `first` may go out for the first time. */
export function retryOf(
  states: Record<string, NodeKept>,
  writes: ReadonlySet<string>,
  effects: Pick<Effects, 'requests' | 'transactions'>,
): Retry {
  const sent = new Set<string>()
  for (const one of effects.requests) if (one.sent) sent.add(one.path)
  for (const one of effects.transactions) if (one.hash) sent.add(one.path)
  const found: Retry = { kept: [], again: [], first: [] }
  const seen = new Set<string>()
  const take = (id: string, path: string, status: string | undefined) => {
    const list = status === 'success' ? found.kept : sent.has(path) ? found.again : found.first
    const known = list.find((one) => one.id === id)
    if (known) known.times++
    else list.push({ id, times: 1 })
    seen.add(id)
  }
  const visit = (nodes: Record<string, NodeKept>, frame: string) => {
    for (const [id, one] of Object.entries(nodes)) {
      if (writes.has(id)) take(id, frame + id, one.status)
      for (const [i, item] of (one.iterations ?? []).entries())
        visit(item as Record<string, NodeKept>, `${frame}${id}[${i}].`)
    }
  }
  visit(states, '')
  for (const id of writes) if (!seen.has(id)) take(id, id, undefined)
  return found
}
