/** Sentences that a change adds and takes away, the kept ones in grey. Addresses are whole: a lookalike differs in the middle. */
import { policyWords as said } from '../words.policy'
import type { Change } from './sentences'

const SIGN = { added: '+', removed: '−', kept: '' }

export function Diff({ changes }: { changes: Change[] }) {
  if (!changes.some((one) => one.is !== 'kept')) return <p className="quiet">{said.same}</p>
  return (
    <ul className="sentences diff">
      {changes.map(({ text, is }) => (
        <li key={`${is} ${text}`} className={is}>
          {is !== 'kept' && (
            <span className="sign">
              <span aria-hidden>{SIGN[is]}</span>
              <span className="said">{said[is]}: </span>
            </span>
          )}
          <span dir="auto">{text}</span>
        </li>
      ))}
    </ul>
  )
}
