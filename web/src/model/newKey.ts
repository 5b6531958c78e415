/** What the form of a new key asks the server for. Pure. */
import { type Limited, limitsOf } from './permissions'

export const KINDS = ['read', 'read-write', 'approve', 'run', 'mcp', 'other'] as const
export type Kind = (typeof KINDS)[number]
/** In so many days; never. */
export const ENDS = ['1', '30', '90', '365', 'never'] as const
export type Ends = (typeof ENDS)[number]

const DAY_MS = 86_400_000
const GIVES: Partial<Record<Kind, string[]>> = {
  approve: ['approval:decide', 'run:read', 'run:stream', 'workflow:read', 'wallet:read', 'transaction:read'],
  run: ['workflow:execute', 'run:read', 'run:stream'],
}

export type Wanted = {
  name: string
  kind: Kind
  /** The permissions of the last kind, by lines, commas or spaces. */
  own: string
  ends: Ends
  limits: Limited
}

type Placed = { folder: string | null; tags: string[] }

/** The folders and tags of workflows, as a limit of a key names them. */
export function placesOf(workflows: Placed[]) {
  const folders = new Set(workflows.flatMap((one) => (one.folder ? [one.folder] : [])))
  const tags = new Set(workflows.flatMap((one) => one.tags))
  return {
    folders: [...folders].sort().map((name) => ({ id: `folder:${name}`, name })),
    tags: [...tags].sort().map((name) => ({ id: `tag:${name}`, name })),
  }
}

type Body = {
  name: string
  permissions?: string[]
  scope?: Kind
  expiresAt?: string
  workflowIds?: string[]
  workflowScope?: string[]
  walletIds?: string[]
  connectorIds?: string[]
}

export function bodyOf({ name, kind, own, ends, limits }: Wanted, now: number): Body {
  const permissions = kind === 'other' ? [...new Set(own.split(/[\s,]+/).filter(Boolean))] : GIVES[kind]
  return {
    name: name.trim(),
    ...(permissions ? { permissions } : { scope: kind }),
    ...(ends === 'never' ? {} : { expiresAt: new Date(now + Number(ends) * DAY_MS).toISOString() }),
    ...limitsOf(limits),
  }
}
