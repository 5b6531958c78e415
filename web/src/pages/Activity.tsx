/** What happens now, as it comes, and the runs before that. */
import { useEffect, useState } from 'react'
import { Link } from 'wouter'
import { followActivity } from '../api/activity'
import { useList } from '../api/queries'
import type { RunEvent } from '../api/stream'
import { RunStatus } from '../parts/Badges'
import { Page } from '../parts/Page'
import { Section } from '../parts/Section'
import { Empty, Table } from '../parts/Table'
import { Time } from '../parts/Time'
import { words } from '../words'
import { pages } from '../words.pages'
import { runColumns } from './Runs'

const said = pages.activity
const KEPT = 200

export default function Activity() {
  const [events, setEvents] = useState<RunEvent[]>([])
  const runs = useList('/v1/runs', { actionTests: false })
  useEffect(() => {
    const take = (event: RunEvent) => event.runId && setEvents((old) => [event, ...old].slice(0, KEPT))
    return followActivity({ take })
  }, [])
  const nameOf = ({ runId, workflowName }: RunEvent) =>
    String(workflowName || runs.rows.find((run) => run.id === runId)?.workflowName || said.run)
  return (
    <Page title={words.nav.activity} className="details wideway">
      <Section title={said.now} about={events.length ? undefined : said.listening}>
        <ol className="feed" aria-live="polite" aria-label={said.now}>
          {events.map((event) => (
            <li key={`${event.runId} ${event.type} ${event.seq}`}>
              <Link href={`/runs/${event.runId}`} dir="auto">
                {nameOf(event)}
              </Link>
              <span>{words.events[event.type] ?? event.type}</span>
              {event.status && <RunStatus status={event.status} />}
              <code className="quiet wide">{event.runId}</code>
              <Time at={event.at} />
            </li>
          ))}
        </ol>
      </Section>
      <Section title={said.before}>
        <Table
          label={said.before}
          columns={runColumns}
          found={runs}
          keyOf={(row) => row.id}
          href={(row) => `/runs/${row.id}`}
          empty={<Empty title={words.runs.none} about={words.runs.noneAbout} />}
        />
      </Section>
    </Page>
  )
}
