/** What a field with a widget can be set to, as this server knows it. */
import { useQuery } from '@tanstack/react-query'
import { get, type Json } from '../api/client'
import { everyOne } from '../api/queries'
import { toText } from './schema'

export type Choice = { value: string; label: string }
type Query = { queryKey: unknown[]; queryFn: () => Promise<Choice[]> }

const tokensOf = async (chainId: string) => {
  const chain = (await get('/v1/chains')).find((one) => String(one.chainId) === chainId)
  return (chain?.tokens ?? []).map((one) => ({ value: one.symbol, label: one.symbol }))
}

function queryOf(widget: string | undefined, payload: Json): Query | null {
  const of = (queryFn: Query['queryFn'], key = '') => ({ queryKey: ['choices', widget, key], queryFn })
  if (widget === 'chain')
    return of(async () =>
      (await get('/v1/chains')).map((one) => ({ value: String(one.chainId), label: `${one.name} (${one.chainId})` })),
    )
  if (widget === 'table')
    return of(async () => (await everyOne('/v1/tables')).map(({ name }) => ({ value: name, label: name })))
  const chainId = toText(payload.chainId)
  return widget === 'token' && /^\d+$/.test(chainId) ? of(() => tokensOf(chainId), chainId) : null
}

/** The choices, and the value that the field has among them; null for what is written as text. */
export function useChoices(widget: string | undefined, payload: Json, value: string): Choice[] | null {
  const query = queryOf(widget, payload)
  const found = useQuery({
    queryKey: query?.queryKey ?? ['choices'],
    queryFn: query?.queryFn,
    enabled: query !== null,
    staleTime: 60_000,
  })
  if (!query || found.isError || found.data?.length === 0) return null
  const known = found.data ?? []
  return !value || known.some((one) => one.value === value) ? known : [...known, { value, label: value }]
}
