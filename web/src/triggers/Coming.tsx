/** When schedules start workflows next, soonest first. */
import { useQueries } from '@tanstack/react-query'
import { Link } from 'wouter'
import { ApiError, get, type WorkflowItem } from '../api/client'
import { Section } from '../parts/Section'
import { Time } from '../parts/Time'
import { pages } from '../words.pages'

const said = pages.triggers
const SCHEDULES = ['cronjob', 'schedule']
const MOST = 20

export function Coming({ workflows }: { workflows: WorkflowItem[] }) {
  const timed = workflows
    .filter((one) => one.status === 'active' && one.nodeTypes.some((type) => SCHEDULES.includes(type)))
    .slice(0, MOST)
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
      {!coming.length && <p className="quiet body">{said.noneComing}</p>}
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
