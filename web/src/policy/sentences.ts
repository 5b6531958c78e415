/** A policy as the server says it, and a policy of what a person writes: the same sentences as on the command line. */
import { useQuery } from '@tanstack/react-query'
import { post, type Schemas } from '../api/client'
import { stringify } from '../api/exact'

type Whole<T> = T extends (infer I)[]
  ? Whole<I>[]
  : T extends object
    ? { [K in keyof T]-?: Whole<Exclude<T[K], undefined>> }
    : T
/** As the server answers it: with every field. */
export type Policy = Whole<Schemas['WalletPolicy']>
type Told = Schemas['PolicyTextAnswer']

export const tell = (policy: Policy): Promise<Told> =>
  post('/v1/wallets/policy-sentences', {}, { policy, text: null, rest: {}, walletId: null })
/** `rest` is what the sentences do not say of the policy, so that it stays. */
export const readText = (text: string, rest: Told['rest']): Promise<Told> =>
  post('/v1/wallets/policy-sentences', {}, { policy: null, text, rest, walletId: null })

/** All that a policy says, each thing once. */
export const linesOf = (told: Told) => [...new Set([...told.sentences, ...told.remarks])]

export const useTold = (policy: Policy | undefined) =>
  useQuery({
    queryKey: ['policy-sentences', policy && stringify(policy)],
    queryFn: () => tell(policy as Policy),
    enabled: policy !== undefined,
    staleTime: 60_000,
  })

export type Change = { text: string; is: 'added' | 'removed' | 'kept' }

/** What a new policy says that the old one does not, and the other way round. */
export function changesOf(before: string[], after: string[]): Change[] {
  const old = new Set(before)
  const next = new Set(after)
  const of = (texts: Set<string>, is: Change['is'], test: (text: string) => boolean) =>
    [...texts].filter(test).map((text) => ({ text, is }))
  return [
    ...of(old, 'removed', (text) => !next.has(text)),
    ...of(next, 'added', (text) => !old.has(text)),
    ...of(next, 'kept', (text) => old.has(text)),
  ]
}
