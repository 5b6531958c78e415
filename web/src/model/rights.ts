/** What a key may do, so that a page offers and asks only that. */
import type { Schemas } from '../api/client'

const INCLUDED: Record<string, string> = { 'workflow:simulate': 'workflow:execute' }

export function may(me: Pick<Schemas['MeAnswer'], 'permissions'> | undefined, permission: string): boolean {
  const has = me?.permissions ?? []
  return [permission, INCLUDED[permission] ?? permission, 'admin'].some((one) => has.includes(one))
}
