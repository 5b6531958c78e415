/** What a key may do, so that a page offers and asks only that. */
import type { Schemas } from '../api/client'

const INCLUDED: Record<string, string> = { 'workflow:simulate': 'workflow:execute' }

export function may(me: Pick<Schemas['MeAnswer'], 'permissions'> | undefined, permission: string): boolean {
  const has = me?.permissions ?? []
  return [permission, INCLUDED[permission] ?? permission, 'admin'].some((one) => has.includes(one))
}

/** Whether somebody has no limits: what reaches beyond any limit is for them alone. */
export const isWhole = (me: Pick<Schemas['MeAnswer'], 'workflowIds' | 'walletIds' | 'connectorIds'> | undefined) =>
  Boolean(me && !me.workflowIds && !me.walletIds && !me.connectorIds)

type Rail = { needs?: string; whole?: true }
/** Whether a page would have anything to show. */
export const sees = (me: Schemas['MeAnswer'] | undefined, { needs, whole }: Rail) =>
  (!needs || may(me, needs)) && (!whole || isWhole(me))
