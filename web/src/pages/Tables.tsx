/** The tables that workflows read and write. */
import { Button, Textarea, TextInput } from '@mantine/core'
import { IconPlus } from '@tabler/icons-react'
import { useState } from 'react'
import { useLocation } from 'wouter'
import { post, type Schemas } from '../api/client'
import { refresh, useList } from '../api/queries'
import { FormDialog } from '../forms/FormDialog'
import { Page } from '../parts/Page'
import { type Column, Empty, Table } from '../parts/Table'
import { Time } from '../parts/Time'
import { lines } from '../policy/fields'
import { words } from '../words'
import { pages } from '../words.pages'

type Item = Schemas['TableAnswer']
const said = pages.tables

const columns: Column<Item>[] = [
  {
    title: pages.name,
    cell: (row) => (
      <>
        <strong dir="auto">{row.name}</strong>
        <small dir="auto">{row.description || row.columns.map((one) => one.name).join(', ')}</small>
      </>
    ),
  },
  { title: said.rows, width: '90px', align: 'end', cell: (row) => String(row.rowCount) },
  { title: said.columns, width: '90px', align: 'end', wide: true, cell: (row) => String(row.columns.length) },
  { title: pages.changed, width: '120px', align: 'end', wide: true, cell: (row) => <Time at={row.updatedAt} /> },
]

export default function Tables() {
  const [makes, setMakes] = useState(false)
  const found = useList('/v1/tables')
  return (
    <Page
      title={words.nav.tables}
      actions={
        <Button leftSection={<IconPlus size={16} />} onClick={() => setMakes(true)}>
          {said.create}
        </Button>
      }
    >
      <Table
        label={words.nav.tables}
        columns={columns}
        found={found}
        keyOf={(row) => row.id}
        href={(row) => `/tables/${row.id}`}
        empty={<Empty title={said.none} about={said.noneAbout} />}
      />
      {makes && <Make close={() => setMakes(false)} />}
    </Page>
  )
}

function Make({ close }: { close: () => void }) {
  const [, go] = useLocation()
  const [name, setName] = useState('')
  const [text, setText] = useState('id text')
  const make = async () => {
    const made = lines(text).map((line) => {
      const [column = '', type = 'text'] = line.split(/\s+/)
      return { name: column, type }
    })
    const body = { name: name.trim(), columns: made, primaryKey: made[0]?.name ?? '' }
    const { id } = await post('/v1/tables', {}, body as Schemas['CreateTable'])
    await refresh('/v1/tables')
    go(`/tables/${id}`)
  }
  return (
    <FormDialog title={said.create} go={said.create} close={close} act={make}>
      <TextInput label={pages.name} required value={name} onChange={(event) => setName(event.currentTarget.value)} />
      <Textarea
        label={said.columns}
        description={said.columnsAbout}
        classNames={{ input: 'mono' }}
        required
        autosize
        minRows={3}
        value={text}
        onChange={(event) => setText(event.currentTarget.value)}
      />
    </FormDialog>
  )
}
