/** One connector: its data without the secrets, and whether the credential works. */
import { Button, Checkbox, TextInput } from '@mantine/core'
import { IconExternalLink, IconPlugConnected, IconRefresh, IconTrash } from '@tabler/icons-react'
import { useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { useLocation } from 'wouter'
import { del, get, post, put, type Schemas } from '../api/client'
import { refresh } from '../api/queries'
import { FormDialog } from '../forms/FormDialog'
import { useTypes } from '../forms/NewConnector'
import { SchemaForm } from '../forms/SchemaForm'
import { fieldsOf, type Schema, type Texts, textOf, valuesOf } from '../forms/schema'
import { readable } from '../model/amounts'
import { Badge } from '../parts/Badges'
import { Confirm } from '../parts/Confirm'
import { Missing } from '../parts/Missing'
import { Page } from '../parts/Page'
import { Facts, LoadingPage, Section } from '../parts/Section'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { pages } from '../words.pages'

type Connector = Schemas['ConnectorAnswer']
const said = pages.connectors
const ASK_MS = 2_000

export default function ConnectorPage({ id }: { id: string }) {
  const found = useQuery({
    queryKey: ['/v1/connectors', id],
    queryFn: () => get('/v1/connectors/{id}', { path: { id } }),
  })
  if (found.error && !found.data) return <Missing of="connectors" error={found.error} retry={() => found.refetch()} />
  if (!found.data) return <LoadingPage />
  const one = found.data
  return (
    <Page
      title={one.name}
      className="details"
      name={
        <>
          <h1 dir="auto">{one.name}</h1>
          {one.movesMoney && <Badge tone="dust">{said.movesMoney}</Badge>}
        </>
      }
      actions={<Acts one={one} />}
    >
      {one.consent && <Consent one={one} state={one.consent} />}
      <Test one={one} />
      <Section title={said.data} about={said.dataAbout}>
        <Facts
          of={Object.entries(one.maskedData).map(([name, value]) => [
            readable(name),
            <code key={name}>{textOf(value)}</code>,
          ])}
        />
      </Section>
      <Section title={said.about}>
        <Facts
          of={[
            [said.type, one.type],
            [pages.description, one.description],
            [said.hosts, one.allowedHosts.join(', ')],
            [said.version, String(one.version)],
            [pages.created, <Time key="c" at={one.createdAt} />],
            [pages.changed, <Time key="u" at={one.updatedAt} />],
          ]}
        />
      </Section>
    </Page>
  )
}

const TONES = { connected: 'ok', notConnected: 'sky', needsReconnecting: 'bad' } as const

/** What a person has agreed to at the provider, and the way there. */
function Consent({ one, state }: { one: Connector; state: keyof typeof TONES }) {
  const [begun, setBegun] = useState<{ until: number; before: string | null } | null>(null)
  const [busy, setBusy] = useState(false)
  const [error, setError] = useState<unknown>(null)
  // answered by somebody in another window: this one asks until then
  useQuery({
    queryKey: ['consent', one.id],
    queryFn: async () => {
      await refresh('/v1/connectors')
      return null
    },
    enabled: begun !== null && begun.until > Date.now() && begun.before === (one.connectedAt ?? null),
    refetchInterval: ASK_MS,
  })
  const connect = async () => {
    // opened at once, since browsers refuse windows that open later; the provider must not steer this one
    const opened = window.open('about:blank', '_blank')
    if (opened) opened.opener = null
    setBusy(true)
    setError(null)
    try {
      const { url, expiresAt } = await post('/v1/connectors/{id}/consent', { path: { id: one.id } })
      setBegun({ until: Date.parse(expiresAt), before: one.connectedAt ?? null })
      if (opened) opened.location.replace(url)
      else window.location.assign(url)
    } catch (problem) {
      opened?.close()
      setError(problem)
    }
    setBusy(false)
  }
  return (
    <Section title={said.consent} about={said.consentAbout}>
      <div className="body line" aria-live="polite">
        <Badge tone={TONES[state]}>{said.consents[state]}</Badge>
        {one.connectedAt && <Time at={one.connectedAt} />}
        <Button
          variant={state === 'connected' ? 'default' : 'filled'}
          leftSection={<IconExternalLink size={16} />}
          loading={busy}
          onClick={connect}
        >
          {one.connectedAt ? said.connectAgain : said.connect}
        </Button>
      </div>
      <Trouble error={error} />
    </Section>
  )
}

function Test({ one }: { one: Connector }) {
  const [url, setUrl] = useState('')
  const [busy, setBusy] = useState(false)
  const [answer, setAnswer] = useState<Schemas['ConnectorTestAnswer'] | null>(null)
  const [error, setError] = useState<unknown>(null)
  const test = async () => {
    setBusy(true)
    setError(null)
    setAnswer(null)
    try {
      setAnswer(await post('/v1/connectors/{id}/test', { path: { id: one.id } }, { url: url.trim() || null }))
    } catch (problem) {
      setError(problem)
    }
    setBusy(false)
  }
  return (
    <Section title={said.test} about={said.testAbout}>
      <div className="body line">
        <TextInput
          aria-label={said.testUrl}
          placeholder={said.testUrl}
          value={url}
          onChange={(event) => setUrl(event.currentTarget.value)}
        />
        <Button variant="default" leftSection={<IconPlugConnected size={16} />} loading={busy} onClick={test}>
          {said.testGo}
        </Button>
      </div>
      <div aria-live="polite">
        {answer && (
          <p className="result">
            <Badge tone={answer.ok ? 'ok' : 'bad'}>{answer.ok ? said.works : said.worksNot}</Badge> {answer.message}
          </p>
        )}
      </div>
      <Trouble error={error} />
    </Section>
  )
}

function Acts({ one }: { one: Connector }) {
  const [, go] = useLocation()
  const [rotates, setRotates] = useState(false)
  const [deletes, setDeletes] = useState(false)
  const [force, setForce] = useState(false)
  return (
    <>
      <Button variant="default" leftSection={<IconRefresh size={15} />} onClick={() => setRotates(true)}>
        {said.rotate}
      </Button>
      <Button variant="default" leftSection={<IconTrash size={15} />} onClick={() => setDeletes(true)}>
        {said.delete}
      </Button>
      {rotates && <Rotate one={one} close={() => setRotates(false)} />}
      <Confirm
        title={said.deleteAsk}
        isOpen={deletes}
        close={() => setDeletes(false)}
        go={said.delete}
        act={async () => {
          await del('/v1/connectors/{id}', { path: { id: one.id }, query: { force: force || undefined } })
          go('/connectors')
          await refresh('/v1/connectors')
        }}
      >
        <p>{said.deleteAbout}</p>
        <Checkbox
          mt="sm"
          label={said.deleteAnyway}
          checked={force}
          onChange={(event) => setForce(event.currentTarget.checked)}
        />
      </Confirm>
    </>
  )
}

/** New data for the same connector; a secret that is left empty keeps its value. */
function Rotate({ one, close }: { one: Connector; close: () => void }) {
  const types = useTypes()
  const type = types.data?.find((known) => known.type === one.type)
  const [changed, setChanged] = useState<Texts | null>(null)
  if (!type) return null
  const fields = fieldsOf(type.dataSchema as Schema)
  const shown = Object.fromEntries(
    fields.filter((field) => field.kind !== 'secret').map(({ name }) => [name, textOf(one.maskedData[name])]),
  )
  const texts = changed ?? shown
  const save = async () => {
    const body = { data: valuesOf(fields, texts), expectedVersion: one.version }
    await put('/v1/connectors/{id}', { path: { id: one.id } }, body as Schemas['UpdateConnector'])
    await refresh('/v1/connectors')
  }
  return (
    <FormDialog title={said.rotate} go={said.store} close={close} act={save}>
      <p className="quiet">{said.rotateAbout}</p>
      <SchemaForm fields={fields} texts={texts} set={setChanged} secretAbout={said.keepEmpty} />
    </FormDialog>
  )
}
