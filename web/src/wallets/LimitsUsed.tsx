/** How much of each limit over time is used; the sums are the server's. */
import { useQuery } from '@tanstack/react-query'
import { get, type Schemas } from '../api/client'
import { money, thousandths } from '../model/amounts'
import { Section } from '../parts/Section'
import { Trouble } from '../parts/Trouble'
import type { Names } from '../policy/names'
import { pages } from '../words.pages'
import { policyWords } from '../words.policy'
import '../style/limits.css'

type Spent = Schemas['SpentAnswer']
const said = pages.wallets

export function LimitsUsed({ id, names }: { id: string; names: Names }) {
  const found = useQuery({
    queryKey: ['spending', id],
    queryFn: () => get('/v1/wallets/{id}/spending', { path: { id } }),
  })
  if (found.error) return <Trouble error={found.error} retry={() => found.refetch()} />
  if (!found.data?.items.length) return null
  return (
    <Section title={said.limits}>
      <ul className="used">
        {found.data.items.map((one) => (
          <li key={`${one.measure} ${one.windowMs} ${JSON.stringify(one.of)}`} className="limit">
            <Used one={one} names={names} />
          </li>
        ))}
      </ul>
    </Section>
  )
}

export function Used({ one, names }: { one: Spent; names: Names }) {
  const name = said.measures[one.measure] ?? names.asset(one.measure)
  const label = `${name} ${said.any(policyWords.say.window(one.windowMs))}`
  const text = (value: string) => {
    if (one.measure.startsWith('eip155:')) return names.units(one.measure, value)
    return one.measure === 'count' ? value : money(value)
  }
  return (
    <>
      <span>{label}</span>
      <progress max={1000} value={thousandths(one.spent, one.max)} aria-label={label} />
      <span className="num" title={said.of(one.spent, one.max)}>
        {said.of(text(one.spent), text(one.max))} <span className="quiet">· {said.left(text(one.remaining))}</span>
      </span>
    </>
  )
}
