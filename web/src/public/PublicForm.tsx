/** A form as everybody sees it who has its link: without a session, without anything of the app around it. */
import { Button } from '@mantine/core'
import { useEffect, useState } from 'react'
import { useParams } from 'wouter'
import { ApiError, get, type Mode, post, type Schemas } from '../api/client'
import { SchemaForm } from '../forms/SchemaForm'
import { fieldsOf, type Schema, type Texts, textOf, valuesOf } from '../forms/schema'
import { outcomeWords } from '../model/formOutcome'
import { Trouble } from '../parts/Trouble'
import { Value } from '../parts/Value'
import { form as said } from '../words.forms'

type Form = Schemas['PublicFormAnswer']
type Outcome = Schemas['SubmissionAnswer']

/** Random also where the page is not served over https, and `crypto.randomUUID` is missing. */
const newSubmission = () =>
  [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, '0')).join('')
const submissionIn = (hash: string) => hash.match(/^#([\w-]{16,100})$/)?.[1] ?? null

export default function PublicForm() {
  const { secret = '' } = useParams<{ secret: string }>()
  const [form, setForm] = useState<Form | null>(null)
  const [error, setError] = useState<unknown>(null)
  const [sent, setSent] = useState(() => submissionIn(location.hash))
  useEffect(() => {
    get('/v1/forms/{secret}', { path: { secret } }).then(setForm, setError)
  }, [secret])
  useEffect(() => {
    const read = () => setSent(submissionIn(location.hash))
    window.addEventListener('hashchange', read)
    return () => window.removeEventListener('hashchange', read)
  }, [])
  const isUnknown = error instanceof ApiError && error.status === 404
  const title = form?.title ?? (isUnknown ? said.unknown : said.loading)
  useEffect(() => {
    document.title = title
  }, [title])
  return (
    <main className="signin">
      <article>
        <h1 dir="auto">{title}</h1>
        {isUnknown ? <p>{said.unknownAbout}</p> : <Trouble error={error} />}
        {form?.description && <p dir="auto">{form.description}</p>}
        {form && <p>{said[form.mode]}</p>}
        {form && sent ? (
          <Result secret={secret} submission={sent} mode={form.mode} />
        ) : form?.inputSchema ? (
          <Ask secret={secret} schema={form.inputSchema as Schema} />
        ) : (
          form && <p role="status">{form.message ?? said.closed}</p>
        )}
      </article>
    </main>
  )
}

function Ask({ secret, schema }: { secret: string; schema: Schema }) {
  const fields = fieldsOf(schema).map((one) => ({ ...one, label: schema.properties?.[one.name]?.title ?? one.label }))
  const [texts, setTexts] = useState<Texts>(() =>
    Object.fromEntries(Object.entries(schema.properties ?? {}).map(([name, one]) => [name, textOf(one.default)])),
  )
  const [submissionId] = useState(newSubmission)
  const [error, setError] = useState<unknown>(null)
  const [busy, setBusy] = useState(false)
  // Whether the answer may have arrived: then only the very same is sent again.
  const isUnsure = error instanceof ApiError && (error.code === 0 || error.status >= 500)
  const submit = async (event: React.FormEvent) => {
    event.preventDefault()
    setBusy(true)
    try {
      await post('/v1/forms/{secret}', { path: { secret } }, { values: valuesOf(fields, texts), submissionId })
      location.hash = submissionId
    } catch (problem) {
      setError(problem)
      setBusy(false)
    }
  }
  return (
    <form onSubmit={submit} autoComplete="off">
      <fieldset disabled={isUnsure} className="fields">
        <SchemaForm fields={fields} texts={texts} set={setTexts} />
      </fieldset>
      <Trouble error={isUnsure ? said.unsure : error} />
      <Button type="submit" fullWidth mt="md" loading={busy}>
        {isUnsure ? said.sendAgain : said.send}
      </Button>
    </form>
  )
}

const FIRST_MS = 300
const MOST_MS = 5_000

function Result({ secret, submission, mode }: { secret: string; submission: string; mode: Mode }) {
  const [outcome, setOutcome] = useState<Outcome | null>(null)
  const [error, setError] = useState<unknown>(null)
  useEffect(() => {
    let timer = 0
    let wait = FIRST_MS
    const look = async () => {
      try {
        const path = { secret, submissionId: submission }
        const found = await get('/v1/forms/{secret}/submissions/{submissionId}', { path })
        setError(null)
        setOutcome(found)
        if (found.status !== 'running') return
      } catch (problem) {
        setError(problem)
        if (problem instanceof ApiError && problem.status === 404) return
      }
      wait = Math.min(wait * 1.5, MOST_MS)
      timer = window.setTimeout(look, wait)
    }
    void look()
    return () => clearTimeout(timer)
  }, [secret, submission])
  const again = () => {
    location.hash = ''
  }
  const status = outcome?.status ?? 'running'
  return (
    <>
      <p role="status">{outcomeWords(mode, outcome)}</p>
      <Trouble error={error} />
      {outcome?.answer && <Answer body={outcome.answer.body} />}
      {status !== 'running' && (
        <Button variant="default" fullWidth onClick={again}>
          {said.more}
        </Button>
      )}
    </>
  )
}

function Answer({ body }: { body: unknown }) {
  if (body === null || body === undefined) return null
  return typeof body === 'string' ? (
    <p dir="auto" className="said">
      {body}
    </p>
  ) : (
    <Value value={body} label={said.result} />
  )
}
