/** Amounts in base units beside whole coins: texts and BigInt, never a float. */
import { useQuery } from '@tanstack/react-query'
import { get, type Json } from '../api/client'
import { Exact } from '../api/exact'
import type { FlowNode } from '../model/graph'
import { PAYS, summaryOf } from '../model/summary'

const SWAP = { amountIn: 'tokenIn', amountInMax: 'tokenIn', amountOut: 'tokenOut', amountOutMin: 'tokenOut' }
/** Which field of the same step says what an amount is of; null: the chain's own coin. */
const COIN_OF: Record<string, Record<string, string | null>> = {
  'send-native': { amount: null },
  'wrap-native': { amount: null },
  'unwrap-native': { amount: null },
  'send-erc20-token': { amount: 'token' },
  'approve-erc20': { amount: 'token' },
  'swap-uniswap-v2': SWAP,
  'swap-uniswap-v3': SWAP,
}

/** `token`: as its price is asked for. */
export type Coin = { symbol: string; decimals: number; token: string }

/** The coin of an amount, where the step names its chain and a coin that the server knows. */
export function useCoin(type: string, field: string, payload: Json): Coin | null {
  const coins = COIN_OF[type]
  const isAmount = coins !== undefined && field in coins
  const chains = useQuery({
    queryKey: ['/v1/chains'],
    queryFn: () => get('/v1/chains'),
    staleTime: 60_000,
    enabled: isAmount,
  })
  if (!isAmount) return null
  const wanted = payload.chainId instanceof Exact ? payload.chainId.text : String(payload.chainId ?? '')
  const chain = chains.data?.find((one) => String(one.chainId) === wanted)
  const by = coins[field]
  const named = by ? payload[by] : 'native'
  if (!chain || typeof named !== 'string') return null
  if (named.toLowerCase() === 'native') return { ...chain.native, token: 'native' }
  const same = (one: string) => one.toLowerCase() === named.toLowerCase()
  const token = chain.tokens.find((one) => same(one.symbol) || same(one.address))
  return token ? { ...token, token: token.address } : null
}

const NOTHING = {}

/** One line of what a step does, by its settings; null where they say too little. */
export function useSummary(node: FlowNode | undefined): string | null {
  const type = node?.type ?? ''
  const coin = useCoin(type, PAYS[type]?.amount ?? '', node?.payload ?? NOTHING)
  return node ? summaryOf(node, coin) : null
}

/** Whole coins as base units; null where the text is no amount of such a coin. */
export function toUnits(text: string, decimals: number): string | null {
  const parts = text.trim().match(/^(\d+)(?:\.(\d*))?$/)
  if (!parts) return null
  const part = (parts[2] ?? '').replace(/0+$/, '')
  if (part.length > decimals) return null
  return BigInt(`${parts[1]}${part.padEnd(decimals, '0')}`).toString()
}
