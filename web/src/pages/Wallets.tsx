/** The wallets, the default one first. */
import { Button, SegmentedControl } from '@mantine/core'
import { IconPlus } from '@tabler/icons-react'
import { useState } from 'react'
import { Link, useLocation, useSearchParams } from 'wouter'
import type { Schemas } from '../api/client'
import { useList } from '../api/queries'
import NewWallet from '../forms/NewWallet'
import { short } from '../model/amounts'
import { Badge } from '../parts/Badges'
import { Page } from '../parts/Page'
import { type Column, Empty, Table } from '../parts/Table'
import { Time } from '../parts/Time'
import { words } from '../words'
import { pages } from '../words.pages'

type Wallet = Schemas['WalletAnswer']
const said = pages.wallets

const columns: Column<Wallet>[] = [
  {
    title: pages.name,
    cell: (row) => (
      <>
        <strong dir="auto">
          {row.name} {row.isDefault && <Badge tone="sky">{said.isDefault}</Badge>}
        </strong>
        <small dir="auto">{row.description || <span className="onlynarrow">{said.kinds[row.kind]}</span>}</small>
      </>
    ),
  },
  { title: said.address, width: '120px', cell: (row) => <code title={row.address}>{short(row.address)}</code> },
  { title: said.kind, width: '180px', wide: true, cell: (row) => said.kinds[row.kind] },
  { title: pages.created, width: '120px', align: 'end', wide: true, cell: (row) => <Time at={row.createdAt} /> },
]

export default function Wallets() {
  const [, go] = useLocation()
  const [search, setSearch] = useSearchParams()
  const [makes, setMakes] = useState(false)
  const archived = search.get('show') === 'archived'
  const found = useList('/v1/wallets', archived ? { archived: true } : {})
  const rows = archived ? found.rows.filter((one) => one.archivedAt) : found.rows
  return (
    <Page
      title={words.nav.wallets}
      actions={
        <>
          <Button variant="default" component={Link} href="/contracts">
            {pages.contracts.title}
          </Button>
          <Button leftSection={<IconPlus size={16} />} onClick={() => setMakes(true)}>
            {said.create}
          </Button>
        </>
      }
      filters={
        <SegmentedControl
          aria-label={said.show}
          data={[
            { value: 'current', label: said.current },
            { value: 'archived', label: said.archived },
          ]}
          value={archived ? 'archived' : 'current'}
          onChange={(value) => setSearch(value === 'archived' ? { show: 'archived' } : {})}
        />
      }
    >
      <Table
        label={words.nav.wallets}
        columns={columns}
        found={{ ...found, rows }}
        keyOf={(row) => row.id}
        href={(row) => `/wallets/${row.id}`}
        empty={archived ? <Empty title={said.noneArchived} /> : <Empty title={said.none} about={said.noneAbout} />}
      />
      {makes && <NewWallet close={() => setMakes(false)} made={(id) => go(`/wallets/${id}`)} />}
    </Page>
  )
}
