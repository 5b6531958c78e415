/** Credentials for other systems. */
import { Button } from '@mantine/core'
import { IconPlus } from '@tabler/icons-react'
import { useState } from 'react'
import { useLocation } from 'wouter'
import type { Schemas } from '../api/client'
import { useList, useMe } from '../api/queries'
import NewConnector from '../forms/NewConnector'
import { Badge } from '../parts/Badges'
import { Page } from '../parts/Page'
import { type Column, Empty, Table } from '../parts/Table'
import { Time } from '../parts/Time'
import { words } from '../words'
import { pages } from '../words.pages'

type Connector = Schemas['ConnectorAnswer']
const said = pages.connectors

const columns: Column<Connector>[] = [
  {
    title: pages.name,
    cell: (row) => (
      <>
        <strong dir="auto">{row.name}</strong>
        <small dir="auto">{row.description || row.id}</small>
      </>
    ),
  },
  { title: said.type, width: '190px', narrow: '108px', cell: (row) => row.type },
  { title: said.hosts, width: '260px', wide: true, cell: (row) => row.allowedHosts.join(', ') },
  {
    title: said.money,
    width: '110px',
    wide: true,
    cell: (row) => row.movesMoney && <Badge tone="dust">{said.movesMoney}</Badge>,
  },
  { title: pages.changed, width: '110px', align: 'end', wide: true, cell: (row) => <Time at={row.updatedAt} /> },
]

export default function Connectors() {
  const [, go] = useLocation()
  const [makes, setMakes] = useState(false)
  const me = useMe().data
  const found = useList('/v1/connectors')
  return (
    <Page
      title={words.nav.connectors}
      actions={
        !me?.connectorIds && (
          <Button leftSection={<IconPlus size={16} />} onClick={() => setMakes(true)}>
            {said.create}
          </Button>
        )
      }
    >
      <Table
        label={words.nav.connectors}
        columns={columns}
        found={found}
        keyOf={(row) => row.id}
        href={(row) => `/connectors/${row.id}`}
        empty={<Empty title={said.none} about={said.noneAbout} />}
      />
      {makes && <NewConnector close={() => setMakes(false)} made={({ id }) => go(`/connectors/${id}`)} />}
    </Page>
  )
}
