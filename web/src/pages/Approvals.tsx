/** Questions that wait for a person. */
import { SegmentedControl } from '@mantine/core'
import { useSearchParams } from 'wouter'
import type { Schemas } from '../api/client'
import { useList } from '../api/queries'
import { briefOf, plainRefusal } from '../model/asked'
import { ModeBadge } from '../parts/Badges'
import { Page } from '../parts/Page'
import { type Column, Empty, Table } from '../parts/Table'
import { Time } from '../parts/Time'
import { words } from '../words'
import { pages } from '../words.pages'
import { ApprovalStatus } from './Approval'

type Approval = Schemas['ListedApproval']
const said = pages.approvals
const ALL = Object.keys(said.status).join(',')

const DECIDED: Column<Approval> = {
  title: said.decided,
  width: '120px',
  align: 'end',
  wide: true,
  cell: (row) => <Time at={row.decidedAt} />,
}
const OPEN: Column<Approval>[] = [
  {
    title: said.question,
    cell: (row) => (
      <>
        <strong dir="auto" className="whole">
          {briefOf(row.message || row.path)}
        </strong>
        <small dir="auto">
          {row.workflowName || said.inline}
          {row.quorum > 1 && ` · ${said.votesOf(row.votes.length, row.quorum)}`}
        </small>
        {row.kind === 'spend' && row.why && <small dir="auto">{row.why.replaceAll('`', '')}</small>}
        {row.refusal && <small dir="auto">{plainRefusal(row.refusal)}</small>}
      </>
    ),
  },
  { title: pages.status, width: '110px', narrow: '84px', cell: (row) => <ApprovalStatus status={row.status} /> },
  { title: said.mode, width: '100px', wide: true, cell: (row) => <ModeBadge mode={row.mode} /> },
  { title: said.asked, width: '120px', align: 'end', wide: true, cell: (row) => <Time at={row.createdAt} /> },
  {
    title: said.until,
    width: '96px',
    align: 'end',
    cell: (row) => row.status === 'pending' && <Time at={row.expiresAt} />,
  },
]

const EVERY = [...OPEN.slice(0, -1), DECIDED, ...OPEN.slice(-1)]

export default function Approvals() {
  const [search, setSearch] = useSearchParams()
  const shown = search.get('show') === 'all' ? 'all' : 'open'
  const found = useList('/v1/approvals', shown === 'all' ? { status: ALL } : {})
  return (
    <Page
      title={words.nav.approvals}
      filters={
        <SegmentedControl
          aria-label={said.filter}
          data={[
            { value: 'open', label: said.open },
            { value: 'all', label: said.all },
          ]}
          value={shown}
          onChange={(value) => setSearch(value === 'all' ? { show: 'all' } : {})}
        />
      }
    >
      <Table
        label={words.nav.approvals}
        columns={shown === 'all' ? EVERY : OPEN}
        found={found}
        keyOf={(row) => row.id}
        href={(row) => `/approvals/${row.id}`}
        empty={<Empty title={said.none} about={said.noneAbout} />}
      />
    </Page>
  )
}
