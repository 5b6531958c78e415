/** What the organisation has of what is limited, for whoever administers. */
import type { Schemas } from '../api/client'
import { useList } from '../api/queries'
import { useOrganization } from '../approval/LetOne'
import { fullness } from '../model/permissions'
import { Badge } from '../parts/Badges'
import { Section } from '../parts/Section'
import { type Column, Table } from '../parts/Table'
import { people as said } from '../words.people'
import '../style/limits.css'

type Quota = Schemas['QuotaAnswer']

const nameOf = ({ name }: Quota) => said.quotas[name] ?? name

const MB = 1e6
const amountOf = ({ name }: Quota, n: number) =>
  name.endsWith('Bytes') ? said.mb((n / MB).toLocaleString('en', { maximumFractionDigits: 1 })) : n.toLocaleString('en')

function Full({ one }: { one: Quota }) {
  const how = fullness(one.used, one.limit)
  return how && <Badge tone={how === 'full' ? 'bad' : 'dust'}>{said[how]}</Badge>
}

const columns: Column<Quota>[] = [
  {
    title: said.quota,
    cell: (row) => (
      <>
        <strong>
          {nameOf(row)} <Full one={row} />
        </strong>
        <small>{row.frees}</small>
      </>
    ),
  },
  {
    title: said.howFull,
    width: '160px',
    wide: true,
    cell: (row) =>
      row.limit !== null && <progress max={row.limit} value={row.used} aria-label={said.usedOf(nameOf(row))} />,
  },
  { title: said.used, width: '110px', align: 'end', cell: (row) => amountOf(row, row.used) },
  {
    title: said.limit,
    width: '110px',
    align: 'end',
    cell: (row) => (row.limit === null ? said.noLimit : amountOf(row, row.limit)),
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
