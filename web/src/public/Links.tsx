/** The links to public forms of one workflow: made, looked after and revoked. */
import { Button, Modal, NumberInput, Select, Textarea, TextInput } from '@mantine/core'
import { IconPlus } from '@tabler/icons-react'
import { useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { Link } from 'wouter'
import { del, get, type Mode, post, type Schemas } from '../api/client'
import { refresh, useWorkflow } from '../api/queries'
import { FormDialog } from '../forms/FormDialog'
import { Badge, ModeBadge } from '../parts/Badges'
import { Confirm } from '../parts/Confirm'
import { Missing } from '../parts/Missing'
import { Page } from '../parts/Page'
import { Copied } from '../parts/Section'
import { type Column, Empty, Table } from '../parts/Table'
import { Time } from '../parts/Time'
import { words } from '../words'
import { forms as said } from '../words.forms'

type Form = Schemas['FormAnswer']
const DAY_MS = 86_400_000
const toneOf = (state: Form['state']) => (state === 'open' ? 'ok' : state === 'revoked' ? 'bad' : 'dust')

const columnsOf = (revoke: (form: Form) => void): Column<Form>[] => [
  {
    title: said.form,
    cell: (row) => (
      <>
        <strong dir="auto">{row.title}</strong>
        <small dir="auto">{row.description}</small>
      </>
    ),
  },
  { title: words.runs.mode, width: '100px', wide: true, cell: (row) => <ModeBadge mode={row.mode} /> },
  {
    title: said.state,
    width: '96px',
    cell: (row) => <Badge tone={toneOf(row.state)}>{said.states[row.state]}</Badge>,
  },
  { title: said.runs, width: '100px', align: 'end', wide: true, cell: (row) => said.used(row.runs, row.maxRuns) },
  { title: said.ends, width: '110px', align: 'end', wide: true, cell: (row) => <Time at={row.expiresAt} /> },
  {
    title: said.revoke,
    width: '70px',
    align: 'end',
    cell: (row) =>
      row.revokedAt ? null : (
        <Button size="compact-xs" variant="default" aria-label={said.revokeOf(row.title)} onClick={() => revoke(row)}>
          {said.revoke}
        </Button>
      ),
  },
]

export default function Links({ id }: { id: string }) {
  const workflow = useWorkflow(id)
  const path = { path: { id } }
  const found = useQuery({
    queryKey: ['/v1/workflows/{id}/forms', id],
    queryFn: () => get('/v1/workflows/{id}/forms', path),
  })
  const [makes, setMakes] = useState(false)
  const [made, setMade] = useState<Schemas['NewFormAnswer'] | null>(null)
  const [ending, setEnding] = useState<Form | null>(null)
  const list = {
    ...found,
    rows: found.data ?? [],
    hasNextPage: false,
    isFetchingNextPage: false,
    fetchNextPage: () => {},
  }
  if (workflow.error && !workflow.data)
    return <Missing of="workflows" error={workflow.error} retry={() => workflow.refetch()} />
  const name = workflow.data?.name
  return (
    <Page
      title={name ? said.of(name) : said.title}
      name={
        <>
          <h1 dir="auto">{said.title}</h1>
          <Link href={`/workflows/${id}`}>{name ?? said.back}</Link>
        </>
      }
      actions={
        <Button leftSection={<IconPlus size={16} />} onClick={() => setMakes(true)}>
          {said.create}
        </Button>
      }
    >
      <Table
        label={said.title}
        columns={columnsOf(setEnding)}
        found={list}
        keyOf={(row) => row.id}
        empty={<Empty title={said.none} about={said.noneAbout} />}
      />
      {makes && <Make id={id} close={() => setMakes(false)} done={setMade} />}
      {made && <Address made={made} close={() => setMade(null)} />}
      <Confirm
        title={said.revokeAsk}
        isOpen={ending !== null}
        close={() => setEnding(null)}
        go={said.revoke}
        act={async () => {
          await del('/v1/workflows/{id}/forms/{formId}', { path: { id, formId: ending?.id ?? '' } })
          await refresh('/v1/workflows/{id}/forms')
        }}
      >
        <p>{said.revokeAbout}</p>
      </Confirm>
    </Page>
  )
}

type MakeProps = { id: string; close: () => void; done: (made: Schemas['NewFormAnswer']) => void }

function Make({ id, close, done }: MakeProps) {
  const [title, setTitle] = useState('')
  const [description, setDescription] = useState('')
  const [mode, setMode] = useState<Mode>('simulate')
  const [maxRuns, setMaxRuns] = useState<number | string>(100)
  const [days, setDays] = useState<number | string>(30)
  const make = async () => {
    const body = {
      mode,
      maxRuns: Number(maxRuns),
      expiresAt: new Date(Date.now() + Number(days) * DAY_MS - 60_000).toISOString(),
      ...(title.trim() && { title: title.trim() }),
      ...(description.trim() && { description: description.trim() }),
    }
    const made = await post('/v1/workflows/{id}/forms', { path: { id } }, body)
    await refresh('/v1/workflows/{id}/forms')
    done(made)
  }
  return (
    <FormDialog title={said.create} go={said.make} close={close} act={make}>
      <TextInput
        label={said.heading}
        description={said.headingAbout}
        value={title}
        onChange={(event) => setTitle(event.currentTarget.value)}
      />
      <Textarea
        label={said.about}
        autosize
        value={description}
        onChange={(event) => setDescription(event.currentTarget.value)}
      />
      <Select
        label={said.mode}
        data={(['simulate', 'dust', 'live'] as const).map((value) => ({ value, label: said.modes[value] }))}
        allowDeselect={false}
        value={mode}
        onChange={(value) => setMode((value ?? 'simulate') as Mode)}
      />
      <NumberInput
        label={said.maxRuns}
        min={1}
        max={100_000}
        required
        value={maxRuns}
        onChange={setMaxRuns}
        hideControls
      />
      <NumberInput label={said.days} min={1} max={366} required value={days} onChange={setDays} hideControls />
    </FormDialog>
  )
}

function Address({ made, close }: { made: Schemas['NewFormAnswer']; close: () => void }) {
  return (
    <Modal opened onClose={close} title={said.url} closeButtonProps={{ 'aria-label': words.dialog.close }}>
      <p>{said.urlAbout}</p>
      <p className="secret">
        <Copied text={made.url} whole name={said.copy} />
      </p>
      {made.warnings.length > 0 && (
        <ul className="warnings" aria-label={said.warnings}>
          {made.warnings.map((warning) => (
            <li key={warning}>{warning}</li>
          ))}
        </ul>
      )}
      <div className="answers">
        <Button onClick={close}>{said.stored}</Button>
      </div>
    </Modal>
  )
}
