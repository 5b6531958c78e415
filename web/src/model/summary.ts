/** One line that says what a step does, from its settings; null where they say too little. Pure. */
import { Exact } from '../api/exact'
import { fromUnits, short } from './amounts'
import { readCondition, sayCondition } from './condition'
import type { FlowNode } from './graph'
import { saySchedule } from './schedule'

type Coin = { symbol: string; decimals: number }
const LONGEST = 60
/** Which setting of a type says what it is about. */
const TEXT: Record<string, string> = {
  notify: 'body',
  log: 'message',
  format: 'template',
  approve: 'message',
  'send-telegram-message': 'text',
  'read-table': 'table',
  'write-table': 'table',
  'rss-poll': 'url',
  webhook: 'path',
}
/** The settings with which a step moves money, and to whom. */
export const PAYS: Record<string, { amount: string; to?: string }> = {
  'send-native': { amount: 'amount', to: 'recipient' },
  'send-erc20-token': { amount: 'amount', to: 'recipient' },
  'approve-erc20': { amount: 'amount', to: 'spender' },
  'wrap-native': { amount: 'amount' },
  'unwrap-native': { amount: 'amount' },
}

const lastOf = (path: string) => path.match(/(?:\.|\["?)([^.[\]"]+)"?\]?$/)?.[1] ?? path.replace(/^\$nodes\./, '')

/** `{{$nodes.get.result.price}}` becomes `{price}`. */
const spoken = (text: string) => text.replace(/\{\{\s*([\s\S]*?)\s*\}\}/g, (_, path: string) => `{${lastOf(path)}}`)
const cut = (text: string) => (text.length > LONGEST ? `${text.slice(0, LONGEST - 1)}…` : text)
const textOf = (value: unknown) =>
  typeof value === 'string' || typeof value === 'number' ? String(value) : value instanceof Exact ? value.text : ''

function address(url: string): string {
  const bare = url.replace(/^https?:\/\/([^/?#@]*@)?/i, '').replace(/[?#].*$/, '')
  return spoken(bare).replace(/\/$/, '')
}

function payment(payload: Record<string, unknown>, { amount, to }: { amount: string; to?: string }, coin: Coin | null) {
  const units = textOf(payload[amount])
  if (!units) return null
  const isUnits = /^\d+$/.test(units)
  if (isUnits && !coin) return null
  const sum =
    isUnits && coin
      ? `${fromUnits(BigInt(units), coin.decimals)} ${coin.symbol}`
      : `${spoken(units)}${coin ? ` ${coin.symbol}` : ''}`
  const payee = to ? spoken(short(textOf(payload[to]))) : ''
  return payee ? `${sum} → ${payee}` : sum
}

/** `coin`: of the amount that the step moves, if it is known. */
export function summaryOf({ type, payload = {} }: FlowNode, coin: Coin | null = null): string | null {
  if (type === 'cronjob' || type === 'interval' || type === 'schedule')
    return saySchedule(type, payload) ?? (cut(textOf(payload.schedule)) || null)
  if (type === 'http-request' || type === 'http-poll') {
    const url = textOf(payload.url)
    return url ? cut(`${textOf(payload.method) || 'GET'} ${address(url)}`) : null
  }
  if (type === 'if') {
    const expression = textOf(payload.expression)
    const rows = readCondition(expression)
    return rows ? cut(sayCondition(rows, lastOf)) : cut(expression) || null
  }
  const pays = PAYS[type]
  if (pays) return payment(payload, pays, coin)
  const text = textOf(payload[TEXT[type] ?? ''])
  return text ? cut(spoken(text).replace(/\s+/g, ' ').trim()) || null : null
}
