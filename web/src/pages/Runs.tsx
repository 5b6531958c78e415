/** All runs, newest first; the list follows what happens. */
import { Button, Select, TextInput } from '@mantine/core'
import { useMemo } from 'react'
import type { RunItem } from '../api/client'
import { useEveryOne, useList, useMe } from '../api/queries'
import { StatusOf } from '../approval/queue'
import { leftAt } from '../home/left'
import { isWhole, may } from '../model/rights'
import { type Span, sinceOf } from '../model/since'
import { ModeBadge } from '../parts/Badges'
import { DayFilter, instant, TextFilter, useFilters } from '../parts/filters'
import { Page } from '../parts/Page'
import { StartedBy } from '../parts/StartedBy'
import { type Column, Empty, Table } from '../parts/Table'
import { Time, took } from '../parts/Time'
import { words } from '../words'
import { home } from '../words.home'

const said = words.runs
/** As a mode: all of them, and the tests of single steps, which would fill the list. */
const TESTS = 'tests'
const PRESETS: Span[] = ['left', 'night', 'day', 'week']

export const runColumns: Column<RunItem>[] = [
  {
    title: said.workflow,
    cell: (row) => (
      <>
        <strong dir="auto">{row.workflowName || said.unsaved}</strong>
        <small>
          {row.workflowVersion ? `${said.version(row.workflowVersion)} · ` : ''}
          {row.id}
        </small>
      </>
    ),
  },
  { title: said.status, width: '120px', narrow: '84px', cell: (row) => <StatusOf run={row} /> },
  { title: said.mode, width: '100px', narrow: '72px', cell: (row) => <ModeBadge mode={row.mode} /> },
  { title: said.by, width: '130px', wide: true, cell: (row) => <StartedBy run={row} /> },
  { title: said.took, width: '100px', align: 'end', wide: true, cell: (row) => took(row.startedAt, row.finishedAt) },
  { title: said.started, width: '136px', narrow: '68px', align: 'end', cell: (row) => <Clock at={row.startedAt} /> },
]

/** The time of today; else also the day. */
function Clock({ at }: { at: string }) {
  const when = new Date(at)
  const clock = when.toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' })
  const isToday = when.toDateString() === new Date().toDateString()
  return (
    <time dateTime={at} title={when.toLocaleString('en', { dateStyle: 'full', timeStyle: 'long' })}>
      <span className="num">{clock}</span>
      <small>{isToday ? <Time at={at} /> : when.toLocaleDateString('en', { day: 'numeric', month: 'short' })}</small>
    </time>
  )
}

/** The reader, and whoever else is known to them. */
function useStarters(chosen: string | null) {
  const me = useMe().data
  const manages = may(me, 'admin') && isWhole(me)
  const people = useEveryOne('/v1/people', manages)
  const accounts = useEveryOne('/v1/service-accounts', manages)
  const others = [...people, ...accounts].filter((one) => one.id !== me?.personId)
  const known = [{ value: 'me', label: said.byMe }, ...others.map(({ id, name }) => ({ value: id, label: name }))]
  return chosen && !known.some((one) => one.value === chosen) ? [...known, { value: chosen, label: chosen }] : known
}

export default function Runs() {
  const { get, set } = useFilters()
  const startedBy = get('by')
  const [status, shown, workflowId, q] = [get('status'), get('mode'), get('workflow'), get('q')]
  const mode = shown === TESTS ? null : shown
  const version = workflowId && get('version')
  const span = PRESETS.find((one) => one === get('span'))
  const preset = useMemo(() => (span ? sinceOf(span, new Date(), leftAt()).toISOString() : null), [span])
  const times = { since: preset ?? get('since') ?? instant(get('from'), false), until: instant(get('to'), true) }
  const tests = { actionTests: shown === TESTS }
  const found = useList('/v1/runs', { status, mode, workflowId, version, startedBy, q, ...tests, ...times })
  const named = workflowId && found.rows[0]?.workflowName
  const choice = (name: 'status' | 'mode', label: string, any: string, of: Record<string, string>) => (
    <Select
      aria-label={label}
      placeholder={any}
      clearable
      clearButtonProps={{ 'aria-label': any }}
      data={Object.entries(of).map(([value, label]) => ({ value, label }))}
      value={get(name)}
      onChange={(value) => set(name, value)}
    />
  )
  const presets = (
    <Select
      aria-label={said.when}
      placeholder={said.anyTime}
      clearable
      clearButtonProps={{ 'aria-label': said.anyTime }}
      data={PRESETS.map((value) => ({ value, label: home.spans[value] }))}
      value={get('span')}
      onChange={(value) => {
        set('since', null)
        set('span', value)
      }}
    />
  )
  const starters = (
    <Select
      aria-label={said.by}
      placeholder={said.anyone}
      clearable
      clearButtonProps={{ 'aria-label': said.anyone }}
      data={useStarters(startedBy)}
      value={startedBy}
      onChange={(value) => set('by', value)}
    />
  )
  const isFiltered = Boolean(status || startedBy || shown || workflowId || q || times.since || times.until)
  return (
    <Page
      title={named ? said.of(named) : words.nav.runs}
      filters={
        <>
          <TextFilter label={said.search} value={q} set={(to) => set('q', to)} />
          {choice('status', said.status, said.anyStatus, words.runStatus)}
          {choice('mode', said.mode, said.anyMode, { ...words.mode, [TESTS]: said.withTests })}
          {starters}
          {workflowId && (
            <TextInput
              type="number"
              min={1}
              title={said.ofVersion}
              aria-label={said.ofVersion}
              placeholder={said.ofVersion}
              className="short"
              value={get('version') ?? ''}
              onChange={(event) => set('version', event.currentTarget.value)}
            />
          )}
          {presets}
          <DayFilter name="from" />
          <DayFilter name="to" />
        </>
      }
    >
      <Table
        label={words.nav.runs}
        columns={runColumns}
        found={found}
        keyOf={(row) => row.id}
        href={(row) => `/runs/${row.id}`}
        byHand={Boolean(q) && said.further}
        empty={
          found.hasNextPage ? (
            <Empty title={said.notYet}>
              <Button variant="default" loading={found.isFetchingNextPage} onClick={() => found.fetchNextPage()}>
                {said.further}
              </Button>
            </Empty>
          ) : isFiltered ? (
            <Empty title={words.state.noMatch} />
          ) : (
            <Empty title={said.none} about={said.noneAbout} />
          )
        }
      />
    </Page>
  )
}
