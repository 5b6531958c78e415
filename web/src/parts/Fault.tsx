/** Why a step failed: its message and, when there are several reasons, all of them. */
import type { Json } from '../api/client'

type Reason = { message?: string }

export function Fault({ error }: { error: Json }) {
  const reasons = (Array.isArray(error.details) ? (error.details as Reason[]) : []).filter((one) => one.message)
  return (
    <div className="fault" role="alert" dir="auto">
      {String(error.message ?? error.code)}
      {reasons.length > 1 && (
        <ul>
          {reasons.map((one, i) => (
            <li key={i}>{one.message}</li>
          ))}
        </ul>
      )}
    </div>
  )
}
