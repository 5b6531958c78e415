/** Who changed what, newest first. */
import { Button, Select } from '@mantine/core'
import { useState } from 'react'
import type { Schemas } from '../api/client'
import { stringify } from '../api/exact'
import { useEveryOne, useList, useMe } from '../api/queries'
import { useWho } from '../api/who'
import { isWhole, may } from '../model/rights'
import { DayFilter, instant, TextFilter, useFilters } from '../parts/filters'
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
  const { get, set } = useFilters()
  const [key, action, subject] = [get('key'), get('action'), get('subject')]
  const times = { since: instant(get('from'), false), until: instant(get('to'), true) }
  const found = useList('/v1/audit', { madeBy: key, action, subject, ...times })
  const who = useWho()
  const me = useMe().data
  const [exports, setExports] = useState(false)
  const keys = useEveryOne('/v1/api-keys')
  const named = (one: { id: string }) => ({ value: one.id, label: `${who(one.id)} · ${one.id.slice(-6)}` })
  const manages = may(me, 'admin') && isWhole(me)
  const people = useEveryOne('/v1/people', manages).map((one) => ({ value: one.id, label: one.name }))
  const known = [...people, ...keys].map((one) => ('label' in one ? one : named(one)))
  const choices = key && !known.some((one) => one.value === key) ? [...known, { value: key, label: key }] : known
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
        <>
          <Select
            aria-label={said.by}
            placeholder={said.all}
            searchable
            clearable
            clearButtonProps={{ 'aria-label': said.all }}
            data={choices}
            value={key}
            onChange={(chosen) => set('key', chosen)}
          />
          <TextFilter label={said.action} value={action} set={(to) => set('action', to.trim())} />
          <TextFilter label={said.subject} value={subject} set={(to) => set('subject', to.trim())} />
          <DayFilter name="from" />
          <DayFilter name="to" />
        </>
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
