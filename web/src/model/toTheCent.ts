/** What a live run moved beside what its simulation had shown. Pure and exact. */
import type { Effects } from '../api/client'
import { coinsOf, dollarsOf, isSame, type Movement, type Spend } from './asked'

type Transactions = Effects['transactions']
export type Side = { coins: string[]; usd: string | null }
export type Beside = { isSame: boolean; shown: Side; moved: Side }

const SETTLED = new Set(['mined', 'final'])

const movesOf = (all: Transactions) => all.flatMap((one) => one.movements) as unknown as Movement[]
const sideOf = (moves: Movement[]): Side => {
  const all = [{ movements: moves }] as Spend[]
  return { coins: coinsOf(all), usd: dollarsOf(all) }
}

/** Null while something is not settled, where nothing moved, and of a simulation that did not pass. */
export function besideOf(live: Effects, simulated: Effects): Beside | null {
  if (live.mode !== 'live' || simulated.mode !== 'simulate' || simulated.passed !== true) return null
  const [moved, shown] = [movesOf(live.transactions), movesOf(simulated.transactions)]
  if (!moved.length || !live.transactions.every((one) => SETTLED.has(one.status))) return null
  const same = isSame([{ movements: moved }] as Spend[], shown)
  return { isSame: same, shown: sideOf(shown), moved: sideOf(moved) }
}
