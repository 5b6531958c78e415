/** When schedules start workflows next, soonest first. */
import { useQueries } from '@tanstack/react-query'
import { Link } from 'wouter'
import { ApiError, get, type WorkflowItem } from '../api/client'
import { Section } from '../parts/Section'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { pages } from '../words.pages'

const said = pages.triggers
const SCHEDULES = ['cronjob', 'interval', 'schedule']
const MOST = 20

/** `isRead`: the workflows are there; `hasMore`: these are not all. */
type Props = { workflows: WorkflowItem[]; isRead: boolean; hasMore: boolean }

export function Coming({ workflows, isRead, hasMore }: Props) {
  const all = workflows.filter(
    (one) => one.status === 'active' && one.nodeTypes.some((type) => SCHEDULES.includes(type)),
  )
  const timed = all.slice(0, MOST)
  const isCut = hasMore || all.length > MOST
  const found = useQueries({
    queries: timed.map(({ id }) => ({
      queryKey: ['schedule', id],
      queryFn: () =>
        get('/v1/workflows/{id}/schedule', { path: { id } }).catch((error: unknown) => {
          if (error instanceof ApiError && (error.status === 404 || error.status === 409)) return null
          throw error
        }),
    })),
  })
  const coming = timed
    .flatMap((one, i) => {
      const at = found[i]?.data?.nextRunAt
      return at ? [{ ...one, at }] : []
    })
    .sort((a, b) => a.at.localeCompare(b.at))
  return (
    <Section title={said.coming} about={said.comingAbout}>
      <Trouble error={found.find((one) => one.error)?.error ?? null} />
      {isRead && isCut && <p className="quiet body">{said.someComing(MOST)}</p>}
      {isRead && !isCut && !coming.length && found.every((one) => one.isSuccess) && (
        <p className="quiet body">{said.noneComing}</p>
      )}
      <ul className="feed">
        {coming.map((one) => (
          <li key={one.id}>
            <Link href={`/triggers?workflow=${one.id}`} dir="auto">
              {one.name}
            </Link>
            <Time at={one.at} />
          </li>
        ))}
      </ul>
    </Section>
  )
}
