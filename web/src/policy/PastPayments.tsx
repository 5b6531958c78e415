/** What a changed policy would have said of the payments of the last 30 days: one sentence, and the list behind it. */
import { useQuery } from '@tanstack/react-query'
import { post, type Schemas } from '../api/client'
import { stringify } from '../api/exact'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { pastWords as said } from '../words.policy'
import type { Policy } from './sentences'
import { Reasons } from './TryPayment'

type Replay = Schemas['ReplayAnswer']
const LISTED = 50

export function PastPayments({ id, policy }: { id: string; policy: Policy }) {
  const found = useQuery({
    queryKey: ['policy-replay', id, stringify(policy)],
    queryFn: () => post('/v1/wallets/{id}/policy/replay', { path: { id } }, { policy, only: 'changed', limit: LISTED }),
    retry: false,
  })
  if (found.error) return <Trouble error={found.error} retry={() => found.refetch()} />
  if (!found.data)
    return (
      <p className="quiet" role="status">
        {said.looking}
      </p>
    )
  return <Past of={found.data} />
}

export function Past({ of }: { of: Replay }) {
  return (
    <section className="past" aria-label={said.title}>
      <p role="status">{said.sum(of)}</p>
      {!of.isWhole && (
        <p className="quiet">
          {said.notWhole(of.judged)} <Time at={of.since} />.
        </p>
      )}
      {of.pricedNow > 0 && <p className="quiet">{said.pricedNow(of.pricedNow)}</p>}
      {of.items.length > 0 && (
        <details>
          <summary>{said.show(of.items.length)}</summary>
          <ul className="sentences">
            {of.items.map((one) => (
              <li key={one.id}>
                <span dir="auto">{one.about}</span> <Time at={one.at} />
                <br />
                <strong>{said.change(one.was, one.wouldBe)}</strong>
                <Reasons of={one.reasons} />
              </li>
            ))}
          </ul>
          {of.leftOut > 0 && <p className="quiet">{said.leftOut(of.leftOut)}</p>}
        </details>
      )}
      {of.notJudged.length > 0 && <p className="quiet">{said.notJudged(of.notJudged)}</p>}
    </section>
  )
}
