/** What was told to other systems, and whether it arrived. */
import { Button } from '@mantine/core'
import { useState } from 'react'
import { Link } from 'wouter'
import { post, type Schemas } from '../api/client'
import { refresh, useList } from '../api/queries'
import { Badge } from '../parts/Badges'
import { type Column, Empty, Table } from '../parts/Table'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { hooks } from '../words.hooks'
import { pages } from '../words.pages'

type Item = Schemas['DeliveryAnswer']
const said = pages.triggers
const TONES: Record<string, string> = { success: 'ok', failure: 'bad', retrying: 'dust', pending: 'sky' }

export function Deliveries({ workflowId }: { workflowId: string | null }) {
  const found = useList('/v1/hook-deliveries')
  const [error, setError] = useState<unknown>(null)
  const again = async (row: Item) => {
    setError(null)
    try {
      const act = row.status === 'success' ? 'replay' : 'retry'
      await post(`/v1/hook-deliveries/{id}/${act}`, { path: { id: row.id } })
      await refresh('/v1/hook-deliveries')
    } catch (problem) {
      setError(problem)
    }
  }
  const rows = workflowId ? found.rows.filter((one) => one.workflowId === workflowId) : found.rows
  return (
    <>
      <Trouble error={error} />
      <Table
        label={said.deliveries}
        columns={columnsOf(again)}
        found={{ ...found, rows }}
        keyOf={(row) => row.id}
        empty={
          <Empty title={said.noDeliveries} about={said.noDeliveriesAbout}>
            <Link href="/hooks">{hooks.title}</Link>
          </Empty>
        }
      />
    </>
  )
}

const columnsOf = (again: (row: Item) => void): Column<Item>[] => [
  {
    title: said.event,
    cell: (row) => (
      <>
        <strong>{row.eventType}</strong>
        <small dir="auto">{row.errorMessage || row.runId || row.eventId}</small>
      </>
    ),
  },
  {
    title: pages.status,
    width: '110px',
    narrow: '84px',
    cell: (row) => <Badge tone={TONES[row.status]}>{said.delivered[row.status] ?? row.status}</Badge>,
  },
  { title: said.answered, width: '90px', align: 'end', wide: true, cell: (row) => row.responseStatus },
  { title: said.attempts, width: '80px', align: 'end', wide: true, cell: (row) => String(row.attempts.length) },
  { title: said.nextTry, width: '110px', align: 'end', wide: true, cell: (row) => <Time at={row.nextRetryAt} /> },
  { title: pages.created, width: '110px', align: 'end', wide: true, cell: (row) => <Time at={row.createdAt} /> },
  {
    title: said.again,
    width: '120px',
    narrow: '104px',
    align: 'end',
    cell: (row) => (
      <Button size="xs" variant="default" onClick={() => again(row)}>
        {said.sendAgain}
      </Button>
    ),
  },
]
