/** All workflows; where one is made or imported. */
import { Button, FileButton, Select } from '@mantine/core'
import { IconPlus, IconTemplate, IconUpload } from '@tabler/icons-react'
import { useQuery } from '@tanstack/react-query'
import { Link } from 'wouter'
import { get, type Json, post, type WorkflowItem } from '../api/client'
import { parse } from '../api/exact'
import { useList, useMe } from '../api/queries'
import { StatusOf } from '../approval/queue'
import { readable } from '../model/amounts'
import { TIMED } from '../model/schedule'
import { WorkflowStatus } from '../parts/Badges'
import { TextFilter, useFilters } from '../parts/filters'
import { Page } from '../parts/Page'
import { type Column, Empty, Table } from '../parts/Table'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { FirstVisit } from '../templates/FirstVisit'
import { words } from '../words'
import { templates } from '../words.templates'
import { useCreate } from '../workflows/create'

const said = words.workflows
const RUNGS = ['simulate', 'dust', 'live'] as const

const columns: Column<WorkflowItem>[] = [
  {
    title: said.name,
    cell: (row) => (
      <>
        <strong dir="auto">{row.name}</strong>
        <small dir="auto">
          {(row.folder || row.tags.length > 0) && (
            <span>{[row.folder, ...row.tags.map((tag) => `#${tag}`)].filter(Boolean).join(' ')} </span>
          )}
          <span className="wide">{row.description}</span>
          {row.lastRun && (
            <span className="onlynarrow">
              {words.runStatus[row.lastRun.status]} · {words.modeNames[row.lastRun.mode]} ·{' '}
              <Time at={row.lastRun.startedAt} />
            </span>
          )}
        </small>
      </>
    ),
  },
  {
    title: said.status,
    width: '118px',
    cell: (row) => (
      <>
        <WorkflowStatus status={row.status} />
        <small>
          {[row.liveVersion && said.live(row.liveVersion), row.draftVersion && said.draft(row.draftVersion)]
            .filter(Boolean)
            .join(' · ')}
        </small>
      </>
    ),
  },
  { title: said.trigger, width: '120px', wide: true, cell: (row) => triggerOf(row.triggerType) },
  { title: said.ladder, width: '104px', wide: true, cell: (row) => <Tried ladder={row.ladder} /> },
  { title: said.lastRun, width: '132px', wide: true, cell: (row) => <LastRun run={row.lastRun} /> },
  { title: said.changed, width: '110px', align: 'end', wide: true, cell: (row) => <Time at={row.updatedAt} /> },
]

/** Three types are one for people: a schedule. */
const triggerOf = (type: string) => (TIMED.has(type) ? words.schedule.name : readable(type))

/** How far the current version was tried out, in words; its title says all three modes. */
function Tried({ ladder }: Pick<WorkflowItem, 'ladder'>) {
  if (!ladder) return null
  const all = RUNGS.map((mode) => said.rung(words.modeNames[mode], Boolean(ladder[mode])))
  const furthest = RUNGS.findLast((mode) => ladder[mode])
  return (
    <span className={`mode ${furthest ?? 'quiet'}`} title={all.join('\n')}>
      {furthest && <i className="dot" aria-hidden />}
      {furthest ? said.tried[furthest] : said.notTried}
    </span>
  )
}

function LastRun({ run }: { run: WorkflowItem['lastRun'] }) {
  if (!run) return <span className="quiet">{said.neverRan}</span>
  return (
    <Link className="above" href={`/runs/${run.id}`}>
      <StatusOf run={run} />
      <small>
        {words.modeNames[run.mode]} · <Time at={run.startedAt} />
      </small>
    </Link>
  )
}

export default function Workflows() {
  const filters = useFilters()
  const q = filters.get('q')
  const status = filters.get('status')
  const { data: me } = useMe()
  const readsRuns = me?.permissions.some((one) => one === 'run:read' || one === 'admin')
  const folder = filters.get('folder')
  const tags = filters.get('tags')
  const places = useQuery({
    queryKey: ['/v1/workflows', 'counts'],
    queryFn: () => get('/v1/workflows/counts'),
  }).data
  const actions = filters.get('actions')
  const type = filters.get('type')
  const isFiltered = Boolean(q || status || folder || tags || actions || type)
  const found = useList('/v1/workflows', {
    q,
    status,
    folder,
    tags,
    actions,
    type,
    include: readsRuns ? 'lastRun,ladder' : 'ladder',
  })
  const { create, open, error } = useCreate()
  const bring = async (file: File | null) => {
    if (file) void open(importFile(await file.text()))
  }
  const make = (
    <Button leftSection={<IconPlus size={16} />} onClick={create}>
      {said.create}
    </Button>
  )
  return (
    <Page
      title={words.nav.workflows}
      actions={
        <>
          <Button component={Link} href="/templates" variant="default" leftSection={<IconTemplate size={16} />}>
            {templates.title}
          </Button>
          <FileButton onChange={bring} accept=".json,.yaml,.yml" inputProps={{ 'aria-label': said.import }}>
            {(props) => (
              <Button {...props} variant="default" leftSection={<IconUpload size={16} />}>
                {said.import}
              </Button>
            )}
          </FileButton>
          {make}
        </>
      }
      filters={
        <>
          <TextFilter label={said.search} value={q} set={(to) => filters.set('q', to)} />
          <Select
            aria-label={said.status}
            placeholder={said.any}
            clearable
            clearButtonProps={{ 'aria-label': said.any }}
            data={Object.entries(words.workflowStatus).map(([value, label]) => ({ value, label }))}
            value={status}
            onChange={(value) => filters.set('status', value)}
          />
          <Place
            label={said.folder}
            any={said.anyFolder}
            data={places?.availableFolders}
            value={folder}
            set={(to) => filters.set('folder', to)}
          />
          <Place
            label={said.tag}
            any={said.anyTag}
            data={places?.availableTags}
            value={tags}
            set={(to) => filters.set('tags', to)}
          />
          <Place label={said.step} any={said.anyStep} value={actions} set={(to) => filters.set('actions', to)} />
          <Place label={said.trigger} any={said.anyStep} value={type} set={(to) => filters.set('type', to)} />
        </>
      }
    >
      <Trouble error={error} />
      <Table
        label={words.nav.workflows}
        columns={columns}
        found={found}
        keyOf={(row) => row.id}
        href={(row) => `/workflows/${row.id}`}
        empty={
          isFiltered ? (
            <Empty title={words.state.noMatch} />
          ) : (
            <Empty title={said.none} about={said.noneAbout}>
              {make}
            </Empty>
          )
        }
      />
      {!isFiltered && !found.isPending && <FirstVisit count={found.rows.length} />}
    </Page>
  )
}

type PlaceProps = {
  label: string
  any: string
  data?: string[] | undefined
  value: string | null
  set: (to: string | null) => void
}

/** A choice of folders, tags or what else the address names, if there are any. */
const Place = ({ label, any, data, value, set }: PlaceProps) =>
  (value || Boolean(data?.length)) && (
    <Select
      aria-label={label}
      placeholder={any}
      clearable
      searchable
      clearButtonProps={{ 'aria-label': any }}
      data={[...new Set([...(data ?? []), ...(value ? [value] : [])])]}
      value={value}
      onChange={set}
    />
  )

/** An exported file as JSON or YAML, or a plain file with a definition as the examples are. */
async function importFile(text: string): Promise<{ id: string }> {
  const file = readJson(text)
  if (file && 'definition' in file && !('dustrunWorkflow' in file))
    return post('/v1/workflows', {}, plain(file) as never)
  return (await post('/v1/workflows/import', {}, { content: text } as never)).workflow
}

function readJson(text: string): Json | null {
  try {
    return parse(text) as Json
  } catch {
    return null
  }
}

/** A file with its settings; the server refuses a field that it does not know. */
function plain({ $schema, payload, ...file }: Json) {
  return { ...file, name: file.name ?? said.untitled, description: file.description ?? '' }
}
