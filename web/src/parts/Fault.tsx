/** Why a step failed: its message and, when there are several reasons, all of them; of a refusal by a policy with the way
 * to the sentence that says so. */
import { Link } from 'wouter'
import type { Json } from '../api/client'
import { words } from '../words'

type Reason = { field?: string; message?: string }

/** `wallet`: whose policy refused it. */
export function Fault({ error, wallet = null }: { error: Json; wallet?: string | null }) {
  const reasons = (Array.isArray(error.details) ? (error.details as Reason[]) : []).filter((one) => one.message)
  const linked = wallet && reasons.some((one) => one.field)
  return (
    <div className="fault" role="alert" dir="auto">
      {String(error.message ?? error.code)}
      {(reasons.length > 1 || linked) && (
        <ul>
          {reasons.map((one, i) => (
            <li key={i}>
              {reasons.length > 1 && one.message}{' '}
              {wallet && one.field && <Link href={ruleOf(wallet, one.field)}>{words.outcomes.seeSentence}</Link>}
            </li>
          ))}
        </ul>
      )}
    </div>
  )
}

/** Where the sentence of a wallet's policy is that says a statement. */
export const ruleOf = (wallet: string, statement: string) =>
  `/wallets/${wallet}?says=${encodeURIComponent(statement)}#policy`
