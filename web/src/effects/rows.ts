/** What up to three runs of one version did, line by line, so that the same line stands in one row. Exact: base units. */
import type { Effects, Mode, Transaction } from '../api/client'
import { short } from '../model/amounts'
import { requestOutcome, type Told } from '../model/outcomes'
import { words } from '../words'

export const MODES: Mode[] = ['simulate', 'dust', 'live']
export type Rungs = Partial<Record<Mode, Effects>>
export type Cell = { amount: string; formatted: string; symbol: string; usd?: string | null }
export type Row = {
  key: string
  path: string
  nodeId: string
  what: string
  title: string
  cells: Partial<Record<Mode, Cell>>
}

const said = words.ladder

export function nameOf(rungs: Rungs, address: string): string {
  for (const mode of MODES) {
    const names = rungs[mode]?.names ?? {}
    const found = names[address] ?? names[address.toLowerCase()]
    if (found) return found.name
  }
  return address
}

type Change = {
  asset: string
  amount: string
  amountFormatted?: string | null
  symbol?: string | null
  usd?: string | null
}

const cellOf = (change: Change): Cell => ({
  amount: change.amount,
  formatted: change.amountFormatted ?? change.amount,
  symbol: change.symbol ?? short(change.asset),
  usd: change.usd,
})

/** The lines of one transaction: what may be taken, then who gives and gets what. */
function* linesOf(tx: Transaction, name: (address: string) => string): Generator<[string, string, Change]> {
  for (const one of tx.movements)
    if (one.kind === 'approve')
      yield [`may ${one.asset} ${one.counterparty}`, said.mayTake(name(one.counterparty)), one]
  for (const one of tx.balanceChanges) {
    const what = one.amount.startsWith('-') ? said.gives : said.gets
    yield [`${one.address} ${one.asset}`, what(name(one.address)), one]
  }
  if (!tx.movements.length && !tx.balanceChanges.length)
    yield ['about', tx.about, { asset: '', amount: '0', amountFormatted: '', symbol: tx.error ? said.failedTx : '' }]
}

export function rowsOf(rungs: Rungs): Row[] {
  const rows = new Map<string, Row>()
  for (const mode of MODES)
    for (const tx of rungs[mode]?.transactions ?? [])
      for (const [line, what, change] of linesOf(tx, (address) => nameOf(rungs, address))) {
        const key = `${tx.path} ${tx.item} ${line}`
        const row = rows.get(key) ?? {
          key,
          path: tx.path,
          nodeId: tx.nodeId,
          what: short(what),
          title: what,
          cells: {},
        }
        row.cells[mode] = cellOf(change)
        rows.set(key, row)
      }
  return [...rows.values()]
}

export type RequestRow = {
  key: string
  path: string
  nodeId: string
  what: string
  told: Partial<Record<Mode, Told>>
}

export function requestsOf(rungs: Rungs): RequestRow[] {
  const rows = new Map<string, RequestRow>()
  for (const mode of MODES)
    for (const one of rungs[mode]?.requests ?? []) {
      const { method, url } = one.request as { method?: string; url?: string }
      const what = url ? `${method ?? 'GET'} ${url.replace(/^https?:\/\//, '')}` : one.action
      const key = `${one.path} ${what}`
      const row = rows.get(key) ?? { key, path: one.path, nodeId: one.nodeId, what, told: {} }
      row.told[mode] = requestOutcome(mode, one)
      rows.set(key, row)
    }
  return [...rows.values()]
}

/** The newest block that a rehearsal was carried out on. */
export const blockOf = (effects?: Effects) => {
  const blocks = (effects?.chains ?? []).flatMap((chain) => chain.simulatedOn?.blockNumber ?? [])
  return blocks.length ? Math.max(...blocks) : null
}
