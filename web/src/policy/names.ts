/** Names of chains and assets for people. What the server does not know keeps its identifier. */
import { useQuery } from '@tanstack/react-query'
import { get, type Schemas } from '../api/client'
import { fromUnits } from '../model/amounts'

type Chain = Schemas['ChainAnswer']
export type Names = {
  chain: (id: number | string) => string
  asset: (key: string) => string
  /** Base units of an asset as an amount with its symbol, all digits. */
  units: (key: string, units: string) => string
  coin: (chainId: number, units: string) => string
  explorer: (chainId: number) => string | null
}

export function namesOf(chains: Chain[]): Names {
  const chainOf = (id: number | string) => chains.find((one) => String(one.chainId) === String(id))
  const chain = (id: number | string) => chainOf(id)?.name ?? `chain ${id}`
  const partsOf = (key: string) => {
    const [, id = '', kind = ''] = key.match(/^eip155:(\d+)\/(.+)$/) ?? []
    const known = chainOf(id)
    const address = kind.replace('erc20:', '').toLowerCase()
    const token = kind === 'native' ? known?.native : known?.tokens.find((one) => one.address.toLowerCase() === address)
    return { id, kind, token }
  }
  const units = (key: string, text: string) => {
    const { token } = partsOf(key)
    if (!token || !/^\d+$/.test(text)) return `${text} base units of ${key}`
    return `${fromUnits(BigInt(text), token.decimals ?? 18)} ${token.symbol}`
  }
  return {
    chain,
    units,
    asset: (key) => {
      const { id, kind, token } = partsOf(key)
      if (kind === '*') return `every asset on ${chain(id)}`
      if (!token) return key
      return kind === 'native'
        ? `${token.symbol} on ${chain(id)}`
        : `${token.symbol} (${kind.replace('erc20:', '')}) on ${chain(id)}`
    },
    coin: (chainId, text) => units(`eip155:${chainId}/native`, text),
    explorer: (chainId) => chainOf(chainId)?.explorer ?? null,
  }
}

/** Until the chains have arrived, identifiers are shown. */
export function useNames(): Names {
  const chains = useQuery({ queryKey: ['/v1/chains'], queryFn: () => get('/v1/chains'), staleTime: 60_000 })
  return namesOf(chains.data ?? [])
}
