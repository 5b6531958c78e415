/** What a field with a widget can be set to, as this server knows it. */
import { useQuery } from '@tanstack/react-query'
import { get, type Json } from '../api/client'
import { everyOne } from '../api/queries'
import { words } from '../words'
import { type Schema, toText } from './schema'

export type Choice = { value: string; label: string }
type Query = { queryKey: unknown[]; queryFn: () => Promise<Choice[]> }

const NATIVE = 'native'

const tokensOf = async (chainId: string, takesNative: boolean) => {
  const chain = (await get('/v1/chains')).find((one) => String(one.chainId) === chainId)
  const tokens = (chain?.tokens ?? []).map((one) => ({ value: one.symbol, label: one.symbol }))
  const coin = { value: NATIVE, label: words.inspector.nativeCoin(chain?.native.symbol ?? '') }
  return takesNative ? [coin, ...tokens] : tokens
}

function queryOf(schema: Schema, widget: string | undefined, payload: Json): Query | null {
  const of = (queryFn: Query['queryFn'], key = '') => ({ queryKey: ['choices', widget, key], queryFn })
  if (widget === 'chain')
    return of(async () => {
      const chains = await get('/v1/chains')
      const known = chains.map(({ chainId, name, isServed }) => ({
        value: String(chainId),
        label: words.inspector.chain(name, chainId, isServed),
      }))
      const isServed = (_: Choice, i: number) => chains[i]?.isServed
      return [...known.filter(isServed), ...known.filter((one, i) => !isServed(one, i))]
    })
  if (widget === 'table')
    return of(async () => (await everyOne('/v1/tables')).map(({ name }) => ({ value: name, label: name })))
  const chainId = toText(payload.chainId)
  const takesNative = schema.description?.includes(`\`${NATIVE}\``) ?? false
  return widget === 'token' && /^\d+$/.test(chainId)
    ? of(() => tokensOf(chainId, takesNative), `${chainId} ${takesNative}`)
    : null
}

/** The choices, and the value that the field has among them; null for what is written as text. */
export function useChoices(schema: Schema, widget: string | undefined, payload: Json, value: string): Choice[] | null {
  const query = queryOf(schema, widget, payload)
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
