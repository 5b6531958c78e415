/** What the limits of the first wallets still allow. */
import { useQueries } from '@tanstack/react-query'
import { Link } from 'wouter'
import { get } from '../api/client'
import { useList } from '../api/queries'
import { Section } from '../parts/Section'
import { useNames } from '../policy/names'
import { Used } from '../wallets/LimitsUsed'
import { home as said } from '../words.home'

const WALLETS = 3
const LIMITS = 5

export function Room() {
  const names = useNames()
  const wallets = useList('/v1/wallets').rows.slice(0, WALLETS)
  const found = useQueries({
    queries: wallets.map(({ id }) => ({
      queryKey: ['spending', id],
      queryFn: () => get('/v1/wallets/{id}/spending', { path: { id } }),
    })),
  })
  const limits = wallets
    .flatMap((wallet, at) => (found[at]?.data?.items ?? []).map((one) => ({ wallet, one })))
    .slice(0, LIMITS)
  if (!limits.length) return null
  return (
    <Section title={said.room}>
      <ul className="room">
        {limits.map(({ wallet, one }) => (
          <li key={`${wallet.id} ${one.measure} ${one.windowMs} ${JSON.stringify(one.of)}`}>
            <Link href={`/wallets/${wallet.id}`} dir="auto">
              {wallet.name}
            </Link>
            <Used one={one} names={names} />
          </li>
        ))}
      </ul>
    </Section>
  )
}
