/** What changed in one step: each field with its value before and after. */
import { readable } from '../model/amounts'
import { type Difference, shown } from './changes'

export function FieldChanges({ of }: { of: Difference }) {
  return of.changes.map((change) => (
    <dl key={change.path}>
      <dt>{readable(change.path.replace(/^payload\./, ''))}</dt>
      <dd>
        <del dir="auto">{shown(change.before)}</del> <ins dir="auto">{shown(change.after)}</ins>
      </dd>
    </dl>
  ))
}
