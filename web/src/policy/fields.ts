/** The policy as a form has it: texts, which become the policy again without losing what the form does not show. */
import { Exact } from '../api/exact'
import type { Policy } from './sentences'

type Limit = Policy['limits'][number]
/** `scope` is not in the form, and stays as it is. */
export type LimitField = {
  kind: string
  most: string
  asset: string
  windowMs: string
  scope: Pick<Limit, 'of' | 'per'>
}
export type Fields = {
  chains: string
  assets: string
  recipients: string
  contracts: string
  methods: string
  limits: LimitField[]
  gasUsd: string
  askUsd: string
  newRecipientHours: string
}
const WHERE = ' where '
const KINDS = ['maxUsd', 'maxUnits', 'maxCount', 'maxGasUsd'] as const

export const lines = (text: string) =>
  text
    .split('\n')
    .map((line) => line.trim())
    .filter(Boolean)

/** A whole number, exactly; anything else goes to the server as it is, which says what is wrong. */
export function whole(text: string): number {
  const isWhole = /^\d+$/.test(text)
  const number = isWhole && Number.isSafeInteger(Number(text)) ? Number(text) : isWhole ? new Exact(text) : text
  return number as number
}

const isOverall = (rule: Policy['gas'][number]) =>
  rule.chainId === null && rule.maxGasUsd !== null && rule.maxGas === null && rule.maxFeePerGas === null

export function fieldsOf(policy: Policy): Fields {
  return {
    chains: policy.chains.map(String).join('\n'),
    assets: policy.assets.join('\n'),
    recipients: policy.recipients.join('\n'),
    contracts: policy.contracts.join('\n'),
    methods: policy.methods.map((one) => (typeof one === 'string' ? one : one.method + WHERE + one.where)).join('\n'),
    limits: policy.limits.map((limit) => {
      const kind = KINDS.find((one) => limit[one] !== null) ?? 'maxUsd'
      return {
        kind,
        most: String(limit[kind] ?? ''),
        asset: limit.asset ?? '',
        windowMs: limit.windowMs === null ? '' : String(limit.windowMs),
        scope: { of: limit.of, per: limit.per },
      }
    }),
    gasUsd: policy.gas.find(isOverall)?.maxGasUsd ?? '',
    askUsd: policy.approvalAbove?.usd ?? '',
    newRecipientHours: String(policy.newRecipientHours),
  }
}

/** The policy with the form's texts in it. */
export function withFields(policy: Policy, fields: Fields): Policy {
  const others = policy.gas.filter((rule) => !isOverall(rule))
  const overall = { chainId: null, maxGas: null, maxFeePerGas: null, maxGasUsd: fields.gasUsd.trim() }
  const above = policy.approvalAbove
  const askAssets = above?.assets ?? {}
  const usd = fields.askUsd.trim() || null
  return {
    ...policy,
    chains: lines(fields.chains).map((one) => (one === '*' ? '*' : whole(one))),
    assets: lines(fields.assets),
    recipients: lines(fields.recipients),
    contracts: lines(fields.contracts),
    methods: lines(fields.methods).map(methodOf),
    limits: fields.limits.map(limitOf),
    gas: overall.maxGasUsd ? [overall, ...others] : others,
    approvalAbove:
      usd || Object.keys(askAssets).length || above?.totals?.length
        ? { usd, assets: askAssets, totals: above?.totals ?? [] }
        : null,
    newRecipientHours: whole(fields.newRecipientHours.trim() || '0'),
  }
}

function methodOf(line: string): Policy['methods'][number] {
  const at = line.indexOf(WHERE)
  return at < 0 ? line : { method: line.slice(0, at).trim(), where: line.slice(at + WHERE.length).trim() }
}

function limitOf(field: LimitField): Limit {
  const most = field.most.trim()
  return {
    asset: field.kind === 'maxUnits' ? field.asset.trim() : null,
    maxUnits: field.kind === 'maxUnits' ? most : null,
    maxUsd: field.kind === 'maxUsd' ? most : null,
    maxCount: field.kind === 'maxCount' ? whole(most) : null,
    maxGasUsd: field.kind === 'maxGasUsd' ? most : null,
    windowMs: field.windowMs === '' ? null : whole(field.windowMs),
    ...field.scope,
  }
}
