/** What changed in one step: each field with its value before and after; amounts in whole coins where the coin is known. */
import { Exact } from '../api/exact'
import { useCoin } from '../inspector/units'
import { fromUnits, readable } from '../model/amounts'
import type { FlowNode } from '../model/graph'
import { type Change, type Difference, shown } from './changes'

type Props = { of: Difference; before?: FlowNode | undefined; after?: FlowNode | undefined }

export function FieldChanges({ of, before, after }: Props) {
  return of.changes.map((change) => <Field key={change.path} of={change} before={before} after={after} />)
}

function Field({ of, before, after }: Omit<Props, 'of'> & { of: Change }) {
  const name = of.path.replace(/^payload\./, '')
  return (
    <dl>
      <dt>{readable(name)}</dt>
      <dd>
        <del dir="auto">
          <One value={of.before} name={name} node={before} />
        </del>{' '}
        <ins dir="auto">
          <One value={of.after} name={name} node={after} />
        </ins>
      </dd>
    </dl>
  )
}

const NONE = {}

function One({ value, name, node }: { value: unknown; name: string; node: FlowNode | undefined }) {
  const coin = useCoin(node?.type ?? '', name, node?.payload ?? NONE)
  const units = value instanceof Exact ? value.text : String(value)
  if (!coin || !/^\d+$/.test(units)) return shown(value)
  return (
    <span className="num" title={units}>
      {fromUnits(BigInt(units), coin.decimals)} {coin.symbol}
    </span>
  )
}
