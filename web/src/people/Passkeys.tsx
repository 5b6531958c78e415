/** The reader's passkeys: added, removed, and used to show that it is they who sit here. */
import { Button, TextInput } from '@mantine/core'
import { useState } from 'react'
import { del, keepCsrfToken, patch, type Schemas } from '../api/client'
import { addPasskey, enterByPasskey, hasPasskeys } from '../api/passkey'
import { refresh, useList } from '../api/queries'
import { FormDialog } from '../forms/FormDialog'
import { Section } from '../parts/Section'
import { type Column, Table } from '../parts/Table'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { passkeys as said } from '../words.people'

type Passkey = Schemas['PasskeyAnswer']

const columnsOf = (rename: (one: Passkey) => void, remove: (one: Passkey) => void): Column<Passkey>[] => [
  { title: said.name, cell: (row) => <strong dir="auto">{row.name}</strong> },
  { title: said.used, width: '110px', align: 'end', wide: true, cell: (row) => <Time at={row.lastUsedAt} /> },
  { title: said.added, width: '110px', align: 'end', wide: true, cell: (row) => <Time at={row.createdAt} /> },
  {
    title: said.remove,
    width: '170px',
    narrow: '150px',
    align: 'end',
    cell: (row) => (
      <>
        <Button size="compact-xs" variant="default" aria-label={said.renameOf(row.name)} onClick={() => rename(row)}>
          {said.rename}
        </Button>{' '}
        <Button size="compact-xs" variant="default" aria-label={said.removeOf(row.name)} onClick={() => remove(row)}>
          {said.remove}
        </Button>
      </>
    ),
  },
]

export function Passkeys() {
  const [adds, setAdds] = useState(false)
  const [renames, setRenames] = useState<Passkey | null>(null)
  const [error, setError] = useState<unknown>(null)
  const found = useList('/v1/passkeys')
  const attempt = (work: Promise<unknown>) => {
    setError(null)
    work.then(() => refresh('/v1/passkeys', '/v1/sessions')).catch(setError)
  }
  if (!hasPasskeys()) return null
  return (
    <Section
      title={said.title}
      about={said.about}
      actions={
        <>
          {found.rows.length > 0 && (
            <Button size="xs" variant="default" onClick={() => attempt(enterByPasskey().then(keepCsrfToken))}>
              {said.confirm}
            </Button>
          )}
          <Button size="xs" variant="default" onClick={() => setAdds(true)}>
            {said.add}
          </Button>
        </>
      }
    >
      <Trouble error={error} />
      <Table
        label={said.title}
        columns={columnsOf(setRenames, ({ id }) => attempt(del('/v1/passkeys/{id}', { path: { id } })))}
        found={found}
        keyOf={(row) => row.id}
        empty={<p className="quiet body">{said.none}</p>}
      />
      {renames && <Rename one={renames} close={() => setRenames(null)} />}
      {adds && <Add close={() => setAdds(false)} />}
    </Section>
  )
}

function Add({ close }: { close: () => void }) {
  const [name, setName] = useState('')
  const add = async () => {
    await addPasskey(name.trim())
    await refresh('/v1/passkeys')
  }
  return (
    <FormDialog title={said.add} go={said.go} close={close} act={add}>
      <TextInput
        label={said.name}
        description={said.nameAbout}
        required
        value={name}
        onChange={(event) => setName(event.currentTarget.value)}
      />
    </FormDialog>
  )
}

function Rename({ one, close }: { one: Passkey; close: () => void }) {
  const [name, setName] = useState(one.name)
  const rename = async () => {
    await patch('/v1/passkeys/{id}', { path: { id: one.id } }, { name: name.trim() })
    await refresh('/v1/passkeys')
  }
  return (
    <FormDialog title={said.renameOf(one.name)} go={said.save} close={close} act={rename}>
      <TextInput
        label={said.name}
        description={said.nameAbout}
        required
        data-autofocus
        value={name}
        onChange={(event) => setName(event.currentTarget.value)}
      />
    </FormDialog>
  )
}
