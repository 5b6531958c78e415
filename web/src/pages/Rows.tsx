/** The rows of one table: added, changed and deleted by hand. The open row is in the address. */
import { Button } from '@mantine/core'
import { IconPlus, IconTrash } from '@tabler/icons-react'
import { useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { useLocation, useSearchParams } from 'wouter'
import { del, get, type Json, patch, post, type Schemas } from '../api/client'
import { stringify } from '../api/exact'
import { refresh, useList } from '../api/queries'
import { FormDialog } from '../forms/FormDialog'
import { SchemaForm } from '../forms/SchemaForm'
import { type Field, type Texts, textOf, valuesOf } from '../forms/schema'
import { Confirm } from '../parts/Confirm'
import { Missing } from '../parts/Missing'
import { Page } from '../parts/Page'
import { LoadingPage } from '../parts/Section'
import { type Column, Empty, Table } from '../parts/Table'
import { Trouble } from '../parts/Trouble'
import { pages } from '../words.pages'

type Kept = Schemas['TableAnswer']
type Row = Schemas['RowAnswer']
const said = pages.tables
const ROWS = '/v1/tables/{id}/rows'
const KINDS: Record<string, Field['kind']> = { integer: 'number', decimal: 'number', boolean: 'switch', json: 'json' }
const SHOWN = 7
const NARROW = 2

const fieldsOf = (table: Kept): Field[] =>
  table.columns.map((one) => ({
    name: one.name,
    label: one.name,
    about: one.description || one.type,
    kind: KINDS[one.type] ?? 'text',
    isRequired: one.name === table.primaryKey,
  }))

export default function Rows({ id }: { id: string }) {
  const found = useQuery({ queryKey: ['/v1/tables', id], queryFn: () => get('/v1/tables/{id}', { path: { id } }) })
  if (found.error && !found.data) return <Missing of="tables" error={found.error} retry={() => found.refetch()} />
  if (!found.data) return <LoadingPage />
  return <Shown table={found.data} />
}

function Shown({ table }: { table: Kept }) {
  const [, go] = useLocation()
  const [search, setSearch] = useSearchParams()
  const [deletes, setDeletes] = useState(false)
  const found = useList(ROWS, {}, { id: table.id })
  const keyOf = (row: Row) => textOf(row.values[table.primaryKey])
  const open = search.get('row')
  const chosen = found.rows.find((row) => keyOf(row) === open)
  const close = () => setSearch({})
  return (
    <Page
      title={table.name}
      name={
        <>
          <h1 dir="auto">{table.name}</h1>
          <span className="chip">{said.count(table.rowCount)}</span>
        </>
      }
      actions={
        <>
          <Button variant="default" leftSection={<IconTrash size={15} />} onClick={() => setDeletes(true)}>
            {said.delete}
          </Button>
          <Button leftSection={<IconPlus size={16} />} onClick={() => setSearch({ new: '' })}>
            {said.add}
          </Button>
        </>
      }
    >
      <Table
        label={said.rows}
        columns={columnsOf(table)}
        found={found}
        keyOf={keyOf}
        href={(row) => `/tables/${table.id}?row=${encodeURIComponent(keyOf(row))}`}
        empty={<Empty title={said.noRows} />}
      />
      {search.has('new') && <Edit table={table} close={close} />}
      {chosen && <Edit key={open} table={table} row={chosen} close={close} />}
      <Confirm
        title={said.deleteAsk}
        isOpen={deletes}
        close={() => setDeletes(false)}
        go={said.delete}
        act={async () => {
          await del('/v1/tables/{id}', { path: { id: table.id } })
          go('/tables')
          await refresh('/v1/tables')
        }}
      >
        <p>{said.deleteAbout(table.rowCount)}</p>
      </Confirm>
    </Page>
  )
}

function columnsOf(table: Kept): Column<Row>[] {
  const first = table.columns.filter((one) => one.name === table.primaryKey)
  const rest = table.columns.filter((one) => one.name !== table.primaryKey)
  return [...first, ...rest].slice(0, SHOWN).map((one, i) => ({
    title: one.name,
    width: 'minmax(0, 1fr)',
    wide: i >= NARROW,
    cell: (row) => {
      const text = textOf(row.values[one.name])
      return i ? <span title={text}>{text}</span> : <strong dir="auto">{text}</strong>
    },
  }))
}

/** A text in a JSON column keeps its quotation marks, so that it stays a text. */
const shownAs = (field: Field, value: unknown) =>
  field.kind === 'json' && typeof value === 'string' ? stringify(value) : textOf(value)

/** A column that was emptied becomes null; one that was not touched is not sent. */
function Edit({ table, row, close }: { table: Kept; row?: Row; close: () => void }) {
  const fields = fieldsOf(table)
  const before: Texts = Object.fromEntries(fields.map((field) => [field.name, shownAs(field, row?.values[field.name])]))
  const [texts, setTexts] = useState(before)
  const place = { path: { id: table.id } }
  const done = () => refresh(ROWS, '/v1/tables')
  const save = async () => {
    const changed = fields.filter(({ name }) => !row || texts[name] !== before[name])
    const values: Json = row ? Object.fromEntries(changed.map(({ name }) => [name, null])) : {}
    Object.assign(values, valuesOf(changed, texts))
    if (!row) await post(ROWS, place, { rows: [values], mode: 'insert' })
    else if (changed.length)
      await patch(ROWS, place, { where: { [table.primaryKey]: row.values[table.primaryKey] }, values })
    await done()
  }
  const remove = async () => {
    // By a condition: a key with a slash is no part of a path.
    await post('/v1/tables/{id}/rows/delete', place, { where: { [table.primaryKey]: row?.values[table.primaryKey] } })
    await done()
    close()
  }
  return (
    <FormDialog title={row ? said.change : said.add} go={row ? said.save : said.add} close={close} act={save}>
      <SchemaForm
        fields={row ? fields.filter(({ name }) => name !== table.primaryKey) : fields}
        texts={texts}
        set={setTexts}
      />
      {row && <Remove act={remove} />}
    </FormDialog>
  )
}

/** The second press deletes. */
function Remove({ act }: { act: () => Promise<unknown> }) {
  const [asks, setAsks] = useState(false)
  const [error, setError] = useState<unknown>(null)
  return (
    <>
      <Trouble error={error} />
      <Button
        variant="default"
        leftSection={<IconTrash size={15} />}
        onClick={() => (asks ? act().catch(setError) : setAsks(true))}
      >
        {asks ? said.reallyRemove : said.remove}
      </Button>
    </>
  )
}
