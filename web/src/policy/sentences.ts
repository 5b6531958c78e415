/** A policy in sentences, one for each thing that it allows or limits, so that two policies can be compared. */
import type { Schemas } from '../api/client'
import { policyWords } from '../words.policy'
import type { Names } from './names'

type Whole<T> = T extends (infer I)[]
  ? Whole<I>[]
  : T extends object
    ? { [K in keyof T]-?: Whole<Exclude<T[K], undefined>> }
    : T
/** As the server answers it: with every field. */
export type Policy = Whole<Schemas['WalletPolicy']>
const say = policyWords.say

export function sentencesOf(policy: Policy, names: Names): string[] {
  return [
    ...allowed(policy, names),
    ...policy.limits.map((limit) => limitOf(limit, names)),
    ...policy.gas.flatMap((rule) => gasOf(rule, names)),
    ...outflowOf(policy.outflow, names),
    ...askedOf(policy.approvalAbove, names),
    ...(policy.approvalAbove && policy.approval.quorum > 1 ? [say.quorum(policy.approval.quorum)] : []),
    ...othersOf(policy),
  ]
}

const withStar = (list: readonly string[], any: string, one: (text: string) => string) =>
  list.map((text) => (text === '*' ? any : one(text)))

function allowed(policy: Policy, names: Names): string[] {
  const chains = policy.chains.map(String)
  return [
    ...(chains.length ? withStar(chains, say.anyChain, (id) => say.chain(names.chain(id))) : [say.noChain]),
    ...withStar(policy.assets, say.anyAsset, (key) => say.asset(names.asset(key))),
    ...withStar(policy.recipients, say.anyRecipient, say.recipient),
    ...withStar(policy.contracts, say.anyContract, say.contract),
    ...policy.methods.map((method) => {
      if (typeof method !== 'string') return say.methodWhere(method.method, method.where)
      return method === '*' ? say.anyMethod : say.method(method)
    }),
  ]
}

function limitOf(limit: Policy['limits'][number], names: Names): string {
  const scope = [
    ...(limit.per ? [say.per[limit.per]] : []),
    ...Object.entries(limit.of ?? {}).flatMap(([what, list]) => (list.length ? say.only(what, list.join(', ')) : [])),
  ]
  const told = maximumOf(limit, names)
  return scope.length ? `${told.slice(0, -1)}, ${scope.join(', ')}.` : told
}

function maximumOf(limit: Policy['limits'][number], names: Names): string {
  const window = limit.windowMs ? say.window(limit.windowMs) : ''
  if (limit.maxUsd !== null) return say.usd(limit.maxUsd, window)
  if (limit.maxGasUsd !== null) return say.gasUsd(limit.maxGasUsd, window)
  if (limit.maxCount !== null) return say.count(String(limit.maxCount), window)
  return say.units(names.units(limit.asset ?? '', limit.maxUnits ?? ''), window)
}

function gasOf(rule: Policy['gas'][number], names: Names): string[] {
  const chain = rule.chainId === null ? '' : say.onChain(names.chain(rule.chainId))
  return [
    rule.maxGasUsd !== null && say.gasRule(`$${rule.maxGasUsd}`, chain),
    rule.maxGas !== null && say.gasRule(say.gasLimit(String(rule.maxGas)), chain),
    rule.maxFeePerGas !== null && say.gasRule(say.perGas(rule.maxFeePerGas), chain),
  ].filter((text) => text !== false)
}

function outflowOf(outflow: Policy['outflow'], names: Names): string[] {
  if (!outflow) return []
  return [
    say.outflow,
    outflow.maxUsd && say.outflowUsd(outflow.maxUsd),
    ...Object.entries(outflow.assets ?? {}).map(([key, units]) => say.outflowUnits(names.units(key, units))),
    outflow.beyondDeclared && say.beyond,
    outflow.allowancesBeyondDeclared && say.allowancesBeyond,
    outflow.unsimulated === 'declared' && say.unsimulated,
  ].filter((text) => typeof text === 'string' && text !== '') as string[]
}

function askedOf(above: Policy['approvalAbove'], names: Names): string[] {
  if (!above) return []
  const assets = Object.entries(above.assets ?? {}).map(([key, units]) => say.askUnits(names.units(key, units)))
  const totals = (above.totals ?? []).map((total) => {
    const sum = total.asset && total.units ? names.units(total.asset, total.units) : `$${total.usd ?? '0'}`
    return say.askTotal(sum, total.per, (total.windowMs ?? 0) / 3_600_000)
  })
  return [...(above.usd ? [say.askUsd(above.usd)] : []), ...assets, ...totals]
}

const othersOf = (policy: Policy): string[] =>
  [
    policy.newRecipientHours > 0 && say.newRecipient(policy.newRecipientHours),
    policy.signatures.typedData === 'none' && say.typedDataNone,
    policy.signatures.typedData === 'any' && say.typedDataAny,
    policy.signatures.messages && say.messages,
    policy.allowDeploy && say.deploy,
    policy.allowUnlimitedApprovals && say.unlimited,
    policy.allowUnverifiedCalldata && say.unverified,
    policy.allowUnpricedAssets && say.unpriced,
  ].filter((text) => text !== false)

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
