/** The reports of the newest run of each mode, as the cards of the canvas read them. */
import { create } from 'zustand'
import type { Mode } from '../api/client'
import { amount, money } from '../model/amounts'
import { MODES, type Rungs } from './rows'

export const useRungs = create<{ rungs: Rungs }>(() => ({ rungs: {} }))

export type Line = { mode: Mode; out: string; got: string; title: string } | { mode: Mode; out: null }

/** What a node gave and got in each mode; nothing for a node that does neither. */
export function linesOf(rungs: Rungs, id: string, modes: Mode[] = MODES): Line[] {
  const lines = modes.map((mode): Line => {
    const effects = rungs[mode]
    const txs = (effects?.transactions ?? []).filter((tx) => tx.nodeId === id)
    const sent = (effects?.requests ?? []).filter((one) => one.nodeId === id)
    const out = txs.flatMap((tx) => tx.movements).find((one) => one.kind !== 'approve')
    const got = txs.flatMap((tx) =>
      tx.balanceChanges.filter((one) => one.address === tx.from && !one.amount.startsWith('-')),
    )[0]
    if (out)
      return {
        mode,
        out: `−${amount(out.amountFormatted ?? out.amount)} ${out.symbol ?? ''}`,
        got: got ? `+${amount(got.amountFormatted ?? got.amount)} ${got.symbol ?? ''}` : money(out.usd),
        title: [out.amountFormatted, got?.amountFormatted].filter(Boolean).join(' → '),
      }
    if (sent[0]) {
      const { method } = sent[0].request as { method?: string }
      return { mode, out: method ?? sent[0].action, got: sent[0].sent ? 'sent' : 'held back', title: sent[0].action }
    }
    return { mode, out: null }
  })
  return lines.some((line) => line.out !== null) ? lines : []
}
