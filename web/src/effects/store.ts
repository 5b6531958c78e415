/** The reports of the newest run of each mode, as the cards of the canvas read them. */
import { create } from 'zustand'
import type { Mode } from '../api/client'
import { amount, money } from '../model/amounts'
import { requestOutcome, type Told, type Tone, transactionOutcome } from '../model/outcomes'
import { MODES, type Rungs } from './rows'

export const useRungs = create<{ rungs: Rungs }>(() => ({ rungs: {} }))

export type Line = { mode: Mode; out: string; text: string; tone: Tone; title: string } | { mode: Mode; out: null }

/** What moved as its simulation, or the chain, says; of every other transaction its state is told instead. */
const DONE = new Set(['simulated', 'mined', 'final'])
const toldOf = (text: string): Told => ({ text, tone: 'ok' })

/** What a node gave and got in each mode; nothing for a node that does neither. */
export function linesOf(rungs: Rungs, id: string, modes: Mode[] = MODES): Line[] {
  const lines = modes.map((mode): Line => {
    const effects = rungs[mode]
    const txs = (effects?.transactions ?? []).filter((tx) => tx.nodeId === id)
    const sent = (effects?.requests ?? []).filter((one) => one.nodeId === id)
    const off = txs.filter((tx) => !DONE.has(tx.status)).map((tx) => transactionOutcome(mode, tx.status, tx.hash))[0]
    const out = txs.flatMap((tx) => tx.movements).find((one) => one.kind !== 'approve')
    const got = txs.flatMap((tx) =>
      tx.balanceChanges.filter((one) => one.address === tx.from && !one.amount.startsWith('-')),
    )[0]
    if (out)
      return {
        mode,
        out: out.amountFormatted ? `−${amount(out.amountFormatted)} ${out.symbol ?? ''}` : '',
        ...(off ?? toldOf(got ? `+${amount(got.amountFormatted ?? got.amount)} ${got.symbol ?? ''}` : money(out.usd))),
        title: [out.amountFormatted, got?.amountFormatted].filter(Boolean).join(' → '),
      }
    const request = sent.findLast((one) => requestOutcome(mode, one).tone === 'bad') ?? sent.at(-1)
    if (request) {
      const { method } = request.request as { method?: string }
      const { text, tone } = requestOutcome(mode, request)
      return { mode, out: method ?? request.action, text, tone, title: request.action }
    }
    return { mode, out: null }
  })
  return lines.some((line) => line.out !== null) ? lines : []
}
