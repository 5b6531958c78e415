/** What a question about spends comes to: sums, who is paid, and whether a simulation sent the same. Exact. */
import type { Schemas } from '../api/client'
import { money, short } from './amounts'

export type Spend = Schemas['AskedSpendAnswer']
export type Movement = Schemas['AskedMovementAnswer']

const UNLIMITED = (2n ** 255n).toString()

/** An address in fours, so that it can be compared with another one: `0x` and ten groups. */
export const fours = (address: string) => address.slice(2).match(/.{1,4}/g) ?? []

export const isUnlimited = (units: string) =>
  units.length > UNLIMITED.length || (units.length === UNLIMITED.length && units >= UNLIMITED)

/** What is paid or given away; a swap's own allowance is counted with the swap. */
export const movementsOf = (spends: Spend[]) => spends.flatMap((one) => one.movements.filter((move) => !move.ofSwap))

/** Sum of exact decimals. */
export function sum(all: string[]): string {
  const places = Math.max(0, ...all.map((text) => text.split('.')[1]?.length ?? 0))
  const scaled = (text: string) => {
    const [whole = '0', part = ''] = text.split('.')
    return BigInt(whole + part.padEnd(places, '0'))
  }
  const digits = all
    .reduce((total, text) => total + scaled(text), 0n)
    .toString()
    .padStart(places + 1, '0')
  const part = places ? digits.slice(-places).replace(/0+$/, '') : ''
  return `${places ? digits.slice(0, -places) : digits}${part && `.${part}`}`
}

/** Dollars of all that is paid; null where one of them has no price, or somebody may take more than is known. */
export function dollarsOf(spends: Spend[]): string | null {
  const all = movementsOf(spends)
  if (!all.length || all.some((one) => one.usd === null || (one.kind === 'approve' && isUnlimited(one.amount))))
    return null
  return sum(all.map((one) => one.usd ?? '0'))
}

/** Amounts by asset, each with all of its digits: `0.1 ETH`; base units of what is not known. */
export function coinsOf(spends: Spend[]): string[] {
  const found = new Map<string, { name: string; whole: string[]; units: bigint; isEndless: boolean }>()
  for (const one of movementsOf(spends)) {
    const at = found.get(one.asset) ?? { name: one.symbol ?? one.asset, whole: [], units: 0n, isEndless: false }
    at.isEndless ||= one.kind === 'approve' && isUnlimited(one.amount)
    at.units += BigInt(one.amount)
    if (one.amountFormatted !== null) at.whole.push(one.amountFormatted)
    found.set(one.asset, at)
  }
  return [...found.values()].map(({ name, whole, units, isEndless }) => {
    if (isEndless) return `unlimited ${name}`
    return whole.length ? `${sum(whole)} ${name}` : `${units} base units of ${name}`
  })
}

/** Who gets something, each once, with what they get. */
export function payeesOf(spends: Spend[]): { address: string; moves: Movement[] }[] {
  const found = new Map<string, Movement[]>()
  for (const one of movementsOf(spends)) found.set(one.counterparty, [...(found.get(one.counterparty) ?? []), one])
  return [...found].map(([address, moves]) => ({ address, moves }))
}

/** `312.74 USD is over 100 USD: a person must approve it.` becomes `It is over $100.00`. */
export function plainReason(reason: string): string {
  const over = reason.match(/^[\d.]+ USD is over ([\d.]+) USD: a person must approve it\.$/)
  if (over) return `It is over ${money(over[1]).replace(/\.00$/, '')}.`
  return reason.replace(/ A person must approve it\.$/, '').replace(/[:;] a person must approve it\.$/, '.')
}

type Told = { kind: string; asset: string; amount: string; counterparty: string; ofSwap?: boolean }
const told = (all: Told[]) =>
  all
    .filter((one) => !one.ofSwap)
    .map((one) => `${one.kind} ${one.asset} ${one.amount} ${one.counterparty.toLowerCase()}`)
    .sort()
    .join('\n')

/** Whether a simulation moved exactly what is asked for. */
export const isSame = (spends: Spend[], simulated: Told[]) => told(movementsOf(spends)) === told(simulated)

/** What is asked, without the exact text of a spend that follows in brackets: `Send 0.1 ETH to 0x7099…79C8 on Ethereum`. */
export const briefOf = (message: string) => short(message).replace(/ \(chain \d+, from .*/s, '')

/** What the server says of whose approval it needs, without how to change that over the API: the page has a link. */
export const plainRefusal = (text: string) => text.replace(/[;.] an organisation of one person can .*$/i, '.')

/** The sentence of a policy that says a statement of a refusal, like `limits[0]`, or the one that it is a part of. */
export const sentenceOf = (statements: Record<string, string>, statement: string): string | null =>
  statements[statement] ?? statements[statement.split('.', 1)[0] ?? ''] ?? null
