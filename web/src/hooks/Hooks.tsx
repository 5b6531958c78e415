/** Which systems are told of what happens in runs: the list, and the form that adds one. */
import { Button, Textarea, TextInput } from '@mantine/core'
import { IconPlus } from '@tabler/icons-react'
import { useState } from 'react'
import { useLocation } from 'wouter'
import { post, type Schemas } from '../api/client'
import { refresh, useList } from '../api/queries'
import { FormDialog } from '../forms/FormDialog'
import { Badge, StatusBadge } from '../parts/Badges'
import { Page } from '../parts/Page'
import { type Column, Empty, Table } from '../parts/Table'
import { Time } from '../parts/Time'
import { lines } from '../policy/fields'
import { hooks as said } from '../words.hooks'
import { pages } from '../words.pages'
import { Secret } from './Secret'

type Hook = Schemas['HookAnswer']

const columns: Column<Hook>[] = [
  {
    title: pages.name,
    cell: (row) => (
      <>
        <strong dir="auto">{row.name}</strong>
        <small dir="auto">{row.url}</small>
      </>
    ),
  },
  {
    title: said.status,
    width: '180px',
    narrow: '96px',
    cell: (row) => (
      <>
        <StatusBadge status={row.status} /> {row.failures > 0 && <Badge tone="bad">{said.failing(row.failures)}</Badge>}
      </>
    ),
  },
  { title: said.types, width: '260px', wide: true, cell: (row) => row.subscribedEventTypes.join(', ') },
  { title: pages.changed, width: '110px', align: 'end', wide: true, cell: (row) => <Time at={row.updatedAt} /> },
]

export default function Hooks() {
  const [makes, setMakes] = useState(false)
  const [made, setMade] = useState<{ id: string; secret: string } | null>(null)
  const [, go] = useLocation()
  const found = useList('/v1/hooks')
  return (
    <Page
      title={said.title}
      actions={
        <Button leftSection={<IconPlus size={16} />} onClick={() => setMakes(true)}>
          {said.create}
        </Button>
      }
    >
      <Table
        label={said.title}
        columns={columns}
        found={found}
        keyOf={(row) => row.id}
        href={(row) => `/hooks/${row.id}`}
        empty={<Empty title={said.none} about={said.noneAbout} />}
      />
      {makes && <Make close={() => setMakes(false)} done={setMade} />}
      {made && <Secret secret={made.secret} close={() => go(`/hooks/${made.id}`)} />}
    </Page>
  )
}

type MakeProps = { close: () => void; done: (made: { id: string; secret: string }) => void }

function Make({ close, done }: MakeProps) {
  const [name, setName] = useState('')
  const [url, setUrl] = useState('https://')
  const [types, setTypes] = useState('run.failed')
  const make = async () => {
    const body = { name: name.trim(), url: url.trim(), subscribedEventTypes: lines(types) }
    const made = (await post('/v1/hooks', {}, body as never)) as unknown as { id: string; secret: string }
    await refresh('/v1/hooks')
    done(made)
  }
  return (
    <FormDialog title={said.create} go={said.store} close={close} act={make}>
      <TextInput label={pages.name} required value={name} onChange={(event) => setName(event.currentTarget.value)} />
      <TextInput
        label={said.url}
        description={said.urlAbout}
        required
        value={url}
        onChange={(event) => setUrl(event.currentTarget.value)}
      />
      <Textarea
        label={said.types}
        description={said.typesAbout}
        autosize
        minRows={2}
        value={types}
        onChange={(event) => setTypes(event.currentTarget.value)}
      />
    </FormDialog>
  )
}
