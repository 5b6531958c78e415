/** All workflows; where one is made or imported. */
import { Button, FileButton, Select, TextInput } from '@mantine/core'
import { useDebouncedValue } from '@mantine/hooks'
import { IconPlus, IconSearch, IconTemplate, IconUpload } from '@tabler/icons-react'
import { useState } from 'react'
import { Link, useLocation, useSearchParams } from 'wouter'
import { type Json, post, type WorkflowItem } from '../api/client'
import { parse } from '../api/exact'
import { refresh, useList } from '../api/queries'
import { readable } from '../model/amounts'
import { WorkflowStatus } from '../parts/Badges'
import { Page } from '../parts/Page'
import { type Column, Empty, Table } from '../parts/Table'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { FirstVisit } from '../templates/FirstVisit'
import { words } from '../words'
import { templates } from '../words.templates'

const said = words.workflows
const EMPTY = { nodes: { root: { type: 'manual', payload: {}, titleOverride: said.firstNodeTitle, children: [] } } }

const columns: Column<WorkflowItem>[] = [
  {
    title: said.name,
    cell: (row) => (
      <>
        <strong dir="auto">{row.name}</strong>
        {row.description && <small dir="auto">{row.description}</small>}
      </>
    ),
  },
  { title: said.status, width: '110px', cell: (row) => <WorkflowStatus status={row.status} /> },
  {
    title: said.versions,
    width: '150px',
    wide: true,
    cell: (row) =>
      [
        row.liveVersion !== null && row.liveVersion !== undefined && said.live(row.liveVersion),
        row.draftVersion !== null && row.draftVersion !== undefined && said.draft(row.draftVersion),
      ]
        .filter(Boolean)
        .join(' · '),
  },
  { title: said.trigger, width: '150px', wide: true, cell: (row) => readable(row.triggerType) },
  { title: said.steps, width: '70px', align: 'end', wide: true, cell: (row) => String(row.nodeCount) },
  { title: said.changed, width: '120px', align: 'end', wide: true, cell: (row) => <Time at={row.updatedAt} /> },
]

export default function Workflows() {
  const [, go] = useLocation()
  const [search, setSearch] = useSearchParams()
  const [text, setText] = useState(search.get('q') ?? '')
  const [q] = useDebouncedValue(text, 250)
  const status = search.get('status')
  const found = useList('/v1/workflows', { q, status })
  const [error, setError] = useState<unknown>(null)
  const open = async (making: Promise<{ id: string }>) => {
    try {
      const { id } = await making
      await refresh('/v1/workflows')
      go(`/workflows/${id}`)
    } catch (problem) {
      setError(problem)
    }
  }
  const create = () =>
    open(post('/v1/workflows', {}, { name: said.untitled, description: '', definition: EMPTY } as never))
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
          <TextInput
            aria-label={said.search}
            placeholder={said.search}
            leftSection={<IconSearch size={16} />}
            value={text}
            onChange={(event) => setText(event.currentTarget.value)}
            className="grow"
          />
          <Select
            aria-label={said.status}
            placeholder={said.any}
            clearable
            clearButtonProps={{ 'aria-label': said.any }}
            data={Object.entries(words.workflowStatus).map(([value, label]) => ({ value, label }))}
            value={status}
            onChange={(value) => setSearch(value ? { status: value } : {})}
          />
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
          q || status ? (
            <Empty title={words.state.noMatch} />
          ) : (
            <Empty title={said.none} about={said.noneAbout}>
              {make}
            </Empty>
          )
        }
      />
      {!q && !status && !found.isPending && <FirstVisit count={found.rows.length} />}
    </Page>
  )
}

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

const plain = (file: Json) => ({
  name: file.name ?? said.untitled,
  description: file.description ?? '',
  definition: file.definition,
})
