/** Sentences that a change adds and takes away, the kept ones in grey, and in bold the words that no sentence of the other
 * side has: one address among many. Addresses are whole: a lookalike differs in the middle. */
import { Fragment } from 'react'
import { policyWords as said } from '../words.policy'
import type { Change } from './sentences'

const bare = (word: string) => word.replace(/,$/, '')
const SIGN = { added: '+', removed: '−', kept: '' }

export function Diff({ changes }: { changes: Change[] }) {
  if (!changes.some((one) => one.is !== 'kept')) return <p className="quiet">{said.same}</p>
  const wordsOf = (is: Change['is']) =>
    new Set(changes.filter((one) => one.is === is).flatMap((one) => one.text.split(' ').map(bare)))
  const others = { added: wordsOf('removed'), removed: wordsOf('added'), kept: new Set<string>() }
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
          <span dir="auto">
            {text.split(' ').map((word, at) => (
              <Fragment key={`${at} ${word}`}>
                {at > 0 && ' '}
                {others[is].size > 0 && !others[is].has(bare(word)) ? <strong>{word}</strong> : word}
              </Fragment>
            ))}
          </span>
        </li>
      ))}
    </ul>
  )
}
