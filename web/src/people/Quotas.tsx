/** What the organisation has of what is limited, for whoever administers. */
import type { Schemas } from '../api/client'
import { useList } from '../api/queries'
import { useOrganization } from '../approval/LetOne'
import { Section } from '../parts/Section'
import { type Column, Table } from '../parts/Table'
import { people as said } from '../words.people'

type Quota = Schemas['QuotaAnswer']

const columns: Column<Quota>[] = [
  {
    title: said.quota,
    cell: (row) => (
      <>
        <strong>{said.quotas[row.name] ?? row.name}</strong>
        <small>{row.frees}</small>
      </>
    ),
  },
  { title: said.used, width: '110px', align: 'end', cell: (row) => row.used.toLocaleString('en') },
  {
    title: said.limit,
    width: '110px',
    align: 'end',
    cell: (row) => (row.limit === null ? said.noLimit : row.limit.toLocaleString('en')),
  },
]

export function Quotas() {
  const own = useOrganization().data?.items[0]
  const found = useList('/v1/organizations/{id}/quotas', {}, { id: own?.id ?? '' }, Boolean(own))
  return (
    <Section title={said.quotasTitle}>
      <Table label={said.quotasTitle} columns={columns} found={found} keyOf={(row) => row.name} empty={null} />
    </Section>
  )
}
