/** What permissions mean to people, and which of them somebody can give. Pure. */
import { permissions as groups, roles as said } from '../words.roles'
import { may } from './rights'

const SHOWN = 3
const OF_THE_SERVER = ['operator', 'metrics:read']
export const wordsOf = (name: string) => Object.values(groups).find((one) => name in one)?.[name] ?? name

/** A short sentence; the whole list is in the dialog. */
export function told(names: string[]): string {
  if (names.includes('operator')) return said.everywhere
  if (names.includes('admin')) return said.everything
  const all = Object.values(groups).flatMap((one) => Object.keys(one).filter((name) => names.includes(name)))
  const unknown = names.filter((name) => !all.includes(name))
  const words = [...all, ...unknown].map(wordsOf)
  const more = words.length - SHOWN
  return [...words.slice(0, SHOWN), ...(more > 0 ? [said.more(more)] : [])].join(', ')
}

/** Nobody gives more than they have; `admin` includes nothing of the whole server, `operator` does. */
export function mayGive(me: { permissions: string[] } | undefined, name: string): boolean {
  const has = me?.permissions ?? []
  if (OF_THE_SERVER.includes(name)) return has.includes(name) || has.includes('operator')
  return may(me as Parameters<typeof may>[0], name)
}

/** What somebody is limited to; nothing: all. `workflowIds`: also folders and tags, as `placesOf` names them. */
export type Limited = { workflowIds: string[]; walletIds: string[]; connectorIds: string[] }
export const NO_LIMITS: Limited = { workflowIds: [], walletIds: [], connectorIds: [] }

/** As the body of a request has them. */
export function limitsOf({ workflowIds, walletIds, connectorIds }: Limited) {
  const ids = workflowIds.filter((one) => !one.includes(':'))
  const workflowScope = workflowIds.filter((one) => one.includes(':'))
  return {
    ...(ids.length ? { workflowIds: ids } : {}),
    ...(workflowScope.length ? { workflowScope } : {}),
    ...(walletIds.length ? { walletIds } : {}),
    ...(connectorIds.length ? { connectorIds } : {}),
  }
}

const NEAR = 0.9
/** How full something is of which so much may be had; nothing without a limit. */
export function fullness(used: number, limit: number | null): 'full' | 'near' | '' {
  if (limit === null) return ''
  return used >= limit ? 'full' : used >= limit * NEAR ? 'near' : ''
}
