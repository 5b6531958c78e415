/** Who changed what, newest first. */
import { Button, Select } from '@mantine/core'
import { useState } from 'react'
import { useSearchParams } from 'wouter'
import type { Schemas } from '../api/client'
import { stringify } from '../api/exact'
import { useEveryOne, useList, useMe } from '../api/queries'
import { useWho } from '../api/who'
import { isWhole } from '../model/rights'
import { Page } from '../parts/Page'
import { type Column, Empty, Table } from '../parts/Table'
import { Time } from '../parts/Time'
import { words } from '../words'
import { pages } from '../words.pages'
import { AuditExport } from './AuditExport'

type Entry = Schemas['AuditAnswer']
const said = pages.audit

/** Where what was changed is shown, if there is such a page. */
const PLACES: Record<string, string> = {
  wf: 'workflows',
  run: 'runs',
  wal: 'wallets',
  conn: 'connectors',
  tbl: 'tables',
}
const placeOf = ({ subject }: Entry) => {
  if (subject.startsWith('key_')) return `/keys?key=${subject}`
  if (subject.startsWith('per_')) return `/people?person=${subject}`
  if (subject.startsWith('svc_')) return `/service-accounts?account=${subject}`
  const place = PLACES[subject.split('_')[0] ?? '']
  return place ? `/${place}/${subject}` : `/audit`
}

const columns: Column<Entry>[] = [
  {
    title: said.change,
    cell: (row) => (
      <>
        <strong>{row.action}</strong>
        <small dir="auto">{row.subject}</small>
      </>
    ),
  },
  {
    title: said.detail,
    width: 'minmax(0, 1.2fr)',
    wide: true,
    cell: (row) => (
      <code dir="auto" title={stringify(row.detail, 2)}>
        {Object.keys(row.detail).length ? stringify(row.detail) : ''}
      </code>
    ),
  },
  { title: said.when, width: '100px', align: 'end', cell: (row) => <Time at={row.at} /> },
]
/** Before the time. */
const BY = -1

export default function Audit() {
  const [search, setSearch] = useSearchParams()
  const key = search.get('key')
  const found = useList('/v1/audit', { apiKeyId: key })
  const who = useWho()
  const me = useMe().data
  const [exports, setExports] = useState(false)
  const keys = useEveryOne('/v1/api-keys')
  const known = keys.map((one) => ({ value: one.id, label: `${who(one.id)} · ${one.id.slice(-6)}` }))
  const choices = key && !keys.some((one) => one.id === key) ? [...known, { value: key, label: key }] : known
  const by: Column<Entry> = {
    title: said.by,
    width: '200px',
    wide: true,
    cell: (row) => (
      <span title={row.keyId} dir="auto">
        {who(row.keyId)}
      </span>
    ),
  }
  return (
    <Page
      title={words.nav.audit}
      actions={
        isWhole(me) && (
          <Button size="xs" variant="default" onClick={() => setExports(true)}>
            {said.export}
          </Button>
        )
      }
      filters={
        <Select
          aria-label={said.by}
          placeholder={said.all}
          w={280}
          searchable
          clearable
          clearButtonProps={{ 'aria-label': said.all }}
          data={choices}
          value={key}
          onChange={(chosen) => setSearch(chosen ? { key: chosen } : {})}
        />
      }
    >
      <Table
        label={words.nav.audit}
        columns={columns.toSpliced(BY, 0, by)}
        found={found}
        keyOf={(row) => String(row.id)}
        href={placeOf}
        empty={<Empty title={said.none} />}
      />
      {exports && <AuditExport close={() => setExports(false)} />}
    </Page>
  )
}
