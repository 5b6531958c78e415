/** All runs, newest first; the list follows what happens. */
import { Select } from '@mantine/core'
import { useSearchParams } from 'wouter'
import type { RunItem } from '../api/client'
import { useList } from '../api/queries'
import { ModeBadge, RunStatus } from '../parts/Badges'
import { Page } from '../parts/Page'
import { type Column, Empty, Table } from '../parts/Table'
import { Time, took } from '../parts/Time'
import { words } from '../words'

const said = words.runs

export const runColumns: Column<RunItem>[] = [
  {
    title: said.workflow,
    cell: (row) => (
      <>
        <strong dir="auto">{row.workflowName || said.unsaved}</strong>
        <small>
          {row.workflowVersion ? `${said.version(row.workflowVersion)} · ` : ''}
          {row.id}
        </small>
      </>
    ),
  },
  { title: said.status, width: '120px', cell: (row) => <RunStatus status={row.status} /> },
  { title: said.mode, width: '100px', cell: (row) => <ModeBadge mode={row.mode} /> },
  { title: said.by, width: '130px', wide: true, cell: (row) => row.triggerSource },
  { title: said.took, width: '100px', align: 'end', wide: true, cell: (row) => took(row.startedAt, row.finishedAt) },
  { title: said.started, width: '120px', align: 'end', wide: true, cell: (row) => <Time at={row.startedAt} /> },
]

export default function Runs() {
  const [search, setSearch] = useSearchParams()
  const status = search.get('status')
  const mode = search.get('mode')
  const workflowId = search.get('workflow')
  const found = useList('/v1/runs', { status, mode, workflowId })
  const named = workflowId && found.rows[0]?.workflowName
  const filter = (name: string, value: string | null) =>
    setSearch((old) => {
      const next = new URLSearchParams(old)
      if (value) next.set(name, value)
      else next.delete(name)
      return next
    })
  return (
    <Page
      title={named ? said.of(named) : words.nav.runs}
      filters={
        <>
          <Select
            aria-label={said.status}
            placeholder={said.anyStatus}
            clearable
            clearButtonProps={{ 'aria-label': said.anyStatus }}
            data={Object.entries(words.runStatus).map(([value, label]) => ({ value, label }))}
            value={status}
            onChange={(value) => filter('status', value)}
          />
          <Select
            aria-label={said.mode}
            placeholder={said.anyMode}
            clearable
            clearButtonProps={{ 'aria-label': said.anyMode }}
            data={Object.entries(words.mode).map(([value, label]) => ({ value, label }))}
            value={mode}
            onChange={(value) => filter('mode', value)}
          />
        </>
      }
    >
      <Table
        label={words.nav.runs}
        columns={runColumns}
        found={found}
        keyOf={(row) => row.id}
        href={(row) => `/runs/${row.id}`}
        empty={
          status || mode || workflowId ? (
            <Empty title={words.state.noMatch} />
          ) : (
            <Empty title={said.none} about={said.noneAbout} />
          )
        }
      />
    </Page>
  )
}
