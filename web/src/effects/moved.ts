/** What a run's transactions changed for its wallets, up to an event. Pure; exact, in base units. */
import type { Effects } from '../api/client'
import type { RunEvent } from '../api/stream'

export type Moved = {
  walletId: string
  chainId: number | null
  asset: string
  symbol: string
  decimals: number
  units: bigint
}

/** Places whose spend had happened after the first `upTo` events. */
function donePaths(events: readonly RunEvent[], upTo: number): Set<string> {
  const done = new Set<string>()
  for (let i = 0; i < upTo; i++) {
    const event = events[i]
    if (event?.type === 'node_succeeded') done.add(event.path ?? event.nodeId ?? '')
  }
  return done
}

export function moved(effects: Effects, events: readonly RunEvent[], upTo: number): Moved[] {
  const done = donePaths(events, upTo)
  const rows = new Map<string, Moved>()
  for (const tx of effects.transactions) {
    if (!tx.walletId) continue
    for (const change of tx.balanceChanges) {
      if (change.address !== tx.from) continue
      const key = `${tx.walletId} ${change.asset}`
      const row = rows.get(key) ?? {
        walletId: tx.walletId,
        chainId: tx.chainId === null ? null : Number(tx.chainId),
        asset: change.asset,
        symbol: change.symbol ?? '',
        decimals: effects.assets[change.asset]?.decimals ?? 0,
        units: 0n,
      }
      if (done.has(tx.path)) row.units += BigInt(change.amount)
      rows.set(key, row)
    }
  }
  return [...rows.values()]
}
