/** What came in, and what became of it; each can be played again. */
import { Button } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { Link } from 'wouter'
import { get, post, type Schemas } from '../api/client'
import { refresh, useList } from '../api/queries'
import { readable } from '../model/amounts'
import { Badge, ModeBadge } from '../parts/Badges'
import { Confirm } from '../parts/Confirm'
import { Facts, Section } from '../parts/Section'
import { type Column, Empty, Table } from '../parts/Table'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { Value } from '../parts/Value'
import { words } from '../words'
import { pages } from '../words.pages'
import { ReplayAll } from './ReplayAll'

type Item = Schemas['TriggerEventAnswer']
const said = pages.triggers
const TONES: Record<string, string> = { started: 'ok', failed: 'bad', orphaned: 'dust' }
const Outcome = ({ of }: { of: string }) => <Badge tone={TONES[of]}>{said.outcomes[of] ?? of}</Badge>

const columns: Column<Item>[] = [
  {
    title: said.event,
    cell: (row) => (
      <>
        <strong>
          {words.runs.sources[row.platform] ?? readable(row.platform)} · {readable(row.triggerNodeId)}
        </strong>
        <small dir="auto">{row.errorMessage || row.key}</small>
      </>
    ),
  },
  { title: said.outcome, width: '110px', narrow: '92px', cell: (row) => <Outcome of={row.outcome} /> },
  { title: pages.approvals.mode, width: '90px', wide: true, cell: (row) => <ModeBadge mode={row.mode} /> },
  {
    title: pages.approvals.run,
    width: '250px',
    wide: true,
    cell: (row) =>
      row.runId && (
        <Link className="above" href={`/runs/${row.runId}`}>
          {row.runId}
        </Link>
      ),
  },
  { title: said.cameIn, width: '110px', align: 'end', wide: true, cell: (row) => <Time at={row.createdAt} /> },
]

type Props = { workflowId: string | null; open: string | null; href: (id: string) => string }

export function Events({ workflowId, open, href }: Props) {
  const found = useList('/v1/trigger-events', { workflowId })
  return (
    <>
      {open && <Detail key={open} id={open} />}
      {workflowId && <ReplayAll workflowId={workflowId} />}
      <Table
        label={said.events}
        columns={columns}
        found={found}
        keyOf={(row) => row.id}
        href={(row) => href(row.id)}
        empty={<Empty title={said.noEvents} about={said.noEventsAbout} />}
      />
    </>
  )
}

function Detail({ id }: { id: string }) {
  const place = { path: { id } }
  const found = useQuery({ queryKey: ['event', id], queryFn: () => get('/v1/trigger-events/{id}', place) })
  const [asks, setAsks] = useState(false)
  const [answer, setAnswer] = useState<Schemas['FiredAnswer'] | null>(null)
  const replay = async () => {
    setAnswer(await post('/v1/trigger-events/{id}/replay', place))
    await refresh('/v1/trigger-events', '/v1/runs')
  }
  if (found.error) return <Trouble error={found.error} />
  if (!found.data) return null
  const one = found.data
  return (
    <div className="below">
      <Section
        title={`${one.platform} · ${one.triggerNodeId}`}
        actions={
          <Button size="xs" variant="default" onClick={() => setAsks(true)}>
            {said.replay}
          </Button>
        }
      >
        <div aria-live="polite">
          {answer && (
            <p className="result first">
              {answer.message ?? said.replayed}{' '}
              {answer.runIds.map((run) => (
                <Link key={run} href={`/runs/${run}`}>
                  {run}
                </Link>
              ))}
            </p>
          )}
        </div>
        <Facts
          of={[
            [said.outcome, <Outcome key="o" of={one.outcome} />],
            [said.reason, one.errorMessage || one.reason],
            [said.key, one.key],
            [pages.approvals.run, one.runId && <Link href={`/runs/${one.runId}`}>{one.runId}</Link>],
            [said.replayOf, one.replayOf],
          ]}
        />
        <Value value={one.body} label={said.body} />
        <Confirm title={said.replayAsk} isOpen={asks} close={() => setAsks(false)} go={said.replay} act={replay}>
          <p>{said.replayAbout}</p>
        </Confirm>
      </Section>
    </div>
  )
}
