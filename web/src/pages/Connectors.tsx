/** Credentials for other systems: the list, and the form that stores one. */
import { Button, Select, Switch, Textarea, TextInput } from '@mantine/core'
import { IconPlus } from '@tabler/icons-react'
import { useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { useLocation } from 'wouter'
import { get, post, type Schemas } from '../api/client'
import { refresh, useList } from '../api/queries'
import { FormDialog } from '../forms/FormDialog'
import { SchemaForm } from '../forms/SchemaForm'
import { fieldsOf, type Schema, type Texts, valuesOf } from '../forms/schema'
import { Badge } from '../parts/Badges'
import { Page } from '../parts/Page'
import { type Column, Empty, Table } from '../parts/Table'
import { Time } from '../parts/Time'
import { lines } from '../policy/fields'
import { words } from '../words'
import { pages } from '../words.pages'

type Connector = Schemas['ConnectorAnswer']
const said = pages.connectors

export const useTypes = () =>
  useQuery({
    queryKey: ['/v1/connector-types'],
    staleTime: Number.POSITIVE_INFINITY,
    queryFn: () => get('/v1/connector-types'),
  })

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
  const [makes, setMakes] = useState(false)
  const found = useList('/v1/connectors')
  return (
    <Page
      title={words.nav.connectors}
      actions={
        <Button leftSection={<IconPlus size={16} />} onClick={() => setMakes(true)}>
          {said.create}
        </Button>
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
      {makes && <Make close={() => setMakes(false)} />}
    </Page>
  )
}

function Make({ close }: { close: () => void }) {
  const [, go] = useLocation()
  const types = useTypes()
  const [type, setType] = useState('http-bearer')
  const [name, setName] = useState('')
  const [hosts, setHosts] = useState('')
  const [texts, setTexts] = useState<Texts>({})
  const chosen = types.data?.find((one) => one.type === type)
  const [movesMoney, setMovesMoney] = useState<boolean | null>(null)
  const fields = fieldsOf((chosen?.dataSchema ?? {}) as Schema)
  const make = async () => {
    const body = { type, name: name.trim(), data: valuesOf(fields, texts), allowedHosts: lines(hosts), movesMoney }
    const { id } = await post('/v1/connectors', {}, body as Schemas['CreateConnector'])
    await refresh('/v1/connectors')
    go(`/connectors/${id}`)
  }
  return (
    <FormDialog title={said.create} go={said.store} close={close} act={make}>
      <Select
        label={said.type}
        description={chosen?.summary}
        allowDeselect={false}
        searchable
        data={(types.data ?? []).map((one) => ({ value: one.type, label: one.name }))}
        value={type}
        onChange={(value) => {
          setType(value ?? type)
          setTexts({})
        }}
      />
      <TextInput label={pages.name} required value={name} onChange={(event) => setName(event.currentTarget.value)} />
      <SchemaForm fields={fields} texts={texts} set={setTexts} />
      <Textarea
        label={said.hosts}
        description={said.hostsAbout}
        autosize
        value={hosts}
        onChange={(event) => setHosts(event.currentTarget.value)}
      />
      <Switch
        label={said.movesMoney}
        description={said.movesMoneyAbout}
        checked={movesMoney ?? chosen?.movesMoney ?? false}
        onChange={(event) => setMovesMoney(event.currentTarget.checked)}
      />
    </FormDialog>
  )
}
