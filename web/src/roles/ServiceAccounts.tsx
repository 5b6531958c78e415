/** Service accounts: what each may do, who answers for it, and its keys, which expire and rotate. */
import { Button } from '@mantine/core'
import { IconPlus } from '@tabler/icons-react'
import { useState } from 'react'
import { useSearchParams } from 'wouter'
import type { Schemas } from '../api/client'
import { useList, useMe } from '../api/queries'
import { KeyOnce } from '../keys/KeyOnce'
import { told } from '../model/permissions'
import { isWhole, may } from '../model/rights'
import { Badge } from '../parts/Badges'
import { Page } from '../parts/Page'
import { type Column, Empty, Table } from '../parts/Table'
import { Time } from '../parts/Time'
import { accounts as said } from '../words.roles'
import { Account } from './Account'
import { NewAccount } from './AccountForms'

type Row = Schemas['ServiceAccountAnswer']

const columns: Column<Row>[] = [
  {
    title: said.name,
    cell: (row) => (
      <>
        <strong dir="auto">{row.name}</strong>
        <small dir="auto">{row.description ?? row.role ?? told(row.permissions)}</small>
      </>
    ),
  },
  {
    title: said.status,
    width: '100px',
    cell: (row) => (
      <Badge tone={row.status === 'active' ? 'ok' : 'bad'}>{said.statuses[row.status] ?? row.status}</Badge>
    ),
  },
  { title: said.keys, width: '80px', align: 'end', wide: true, cell: (row) => row.keyIds.length },
  {
    title: said.used,
    width: '120px',
    align: 'end',
    wide: true,
    cell: (row) => (row.lastUsedAt ? <Time at={row.lastUsedAt} /> : said.unused),
  },
]

export default function ServiceAccounts() {
  const [search] = useSearchParams()
  const [makes, setMakes] = useState(false)
  const [secret, setSecret] = useState('')
  const me = useMe().data
  const isManager = may(me, 'admin') && isWhole(me)
  const found = useList('/v1/service-accounts')
  const chosen = found.rows.find((one) => one.id === search.get('account'))
  return (
    <Page
      title={said.title}
      className="details wideway"
      actions={
        isManager && (
          <Button leftSection={<IconPlus size={16} />} onClick={() => setMakes(true)}>
            {said.create}
          </Button>
        )
      }
    >
      {chosen && <Account key={chosen.id} one={chosen} isManager={isManager} show={setSecret} />}
      <p className="quiet">{said.about}</p>
      <Table
        label={said.title}
        columns={columns}
        found={found}
        keyOf={(row) => row.id}
        href={(row) => `/service-accounts?account=${row.id}`}
        empty={<Empty title={said.none} about={said.noneAbout} />}
      />
      {makes && <NewAccount close={() => setMakes(false)} />}
      {secret && <KeyOnce secret={secret} close={() => setSecret('')} />}
    </Page>
  )
}
