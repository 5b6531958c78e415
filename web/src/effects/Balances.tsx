/** Top left on the canvas: what the wallets have now, and in italics what this run moved up to the chosen event. */
import { useQueries } from '@tanstack/react-query'
import { useMemo } from 'react'
import { type Effects, get } from '../api/client'
import { useEffects } from '../api/queries'
import { amount, fromUnits, short } from '../model/amounts'
import { useRunStore } from '../run/store'
import { words } from '../words'
import { moved } from './moved'

export function Balances() {
  const runId = useRunStore((s) => s.runId)
  const isOpen = useRunStore((s) => s.isOpen)
  const effects = useEffects(isOpen ? null : runId)
  if (!effects.data?.transactions.length) return null
  return <Ghosts effects={effects.data} />
}

function Ghosts({ effects }: { effects: Effects }) {
  const events = useRunStore((s) => s.events)
  const cursor = useRunStore((s) => s.cursor)
  const rows = useMemo(() => moved(effects, events, cursor ?? events.length), [effects, events, cursor])
  const wallets = [...new Set(rows.map((row) => row.walletId))]
  const have = useHoldings(wallets, rows[0]?.chainId ?? null)
  if (!rows.length) return null
  return (
    <section className="balances" aria-label={words.editor.balances}>
      {rows.map((row) => (
        <p key={`${row.walletId} ${row.asset}`}>
          <span>{row.symbol || short(row.asset)}</span>
          <b className="num">{amount(have[`${row.walletId} ${row.asset}`]) || '–'}</b>
          <em className={`num ${effects.mode}`} title={fromUnits(row.units, row.decimals)}>
            {row.units === 0n ? '' : `${row.units > 0n ? '+' : ''}${amount(fromUnits(row.units, row.decimals))}`}
          </em>
        </p>
      ))}
      <small>{effects.mode === 'simulate' ? words.editor.balancesSimulated : words.editor.balancesMoved}</small>
    </section>
  )
}

function useHoldings(wallets: string[], chainId: number | null): Record<string, string> {
  const found = useQueries({
    queries: wallets.map((id) => ({
      queryKey: ['/v1/wallets/{id}/balances', id, chainId],
      queryFn: () => get('/v1/wallets/{id}/balances', { path: { id }, query: { chainIds: chainId ?? undefined } }),
      enabled: chainId !== null,
      staleTime: 15_000,
      retry: false,
    })),
  })
  const have: Record<string, string> = {}
  found.forEach((one, i) => {
    for (const chain of one.data?.chains ?? [])
      for (const balance of chain.balances)
        have[`${wallets[i]} ${balance.asset}`] = String(balance.amountFormatted ?? balance.amount)
  })
  return have
}
