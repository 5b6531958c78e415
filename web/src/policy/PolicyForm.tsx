/** Changes a policy by a form, in sentences or as JSON; before it is saved, the change is shown in sentences. */
import { Button, Checkbox, Modal, Select, Tabs, Textarea, TextInput } from '@mantine/core'
import { useState } from 'react'
import { put, type Schemas } from '../api/client'
import { parse, stringify } from '../api/exact'
import { refresh } from '../api/queries'
import { Confirm } from '../parts/Confirm'
import { Trouble } from '../parts/Trouble'
import { words } from '../words'
import { policyWords } from '../words.policy'
import { Diff } from './Diff'
import { type Fields, fieldsOf, withFields } from './fields'
import { Limits } from './Limits'
import { PastPayments } from './PastPayments'
import { type Change, changesOf, linesOf, type Policy, readText, tell } from './sentences'
import { TryPayment } from './TryPayment'

const said = policyWords
type Answer = Schemas['PolicyAnswer']
type Props = { now: Answer; close: () => void }
type Told = Schemas['PolicyTextAnswer']
/** What a tab other than the form holds; of sentences also what they do not say, and the lines not understood. */
type Draft = { tab: 'json' | 'text'; text: string; told?: Told; problems: Told['problems'] }
const LISTS = ['chains', 'assets', 'recipients', 'contracts', 'methods'] as const
const SWITCHES = Object.keys(said.switches) as (keyof typeof said.switches)[]

export function PolicyForm({ now, close }: Props) {
  const [policy, setPolicy] = useState<Policy>(now.policy as Policy)
  const [fields, setFields] = useState<Fields>(() => fieldsOf(now.policy as Policy))
  const [draft, setDraft] = useState<Draft | null>(null)
  const [error, setError] = useState<unknown>(null)
  const [busy, setBusy] = useState(false)
  const [asks, setAsks] = useState<{ policy: Policy; changes: Change[] } | null>(null)
  /** The policy of the open tab; null, with the problems shown, if a line is not understood. */
  const read = async (): Promise<Policy | null> => {
    if (draft === null) return withFields(policy, fields)
    if (draft.tab === 'json') return fromJson(draft.text)
    const found = await readText(draft.text, draft.told?.rest ?? {})
    setDraft({ ...draft, problems: found.problems })
    return found.policy as Policy | null
  }
  const withPolicy = async (act: (next: Policy) => unknown) => {
    setError(null)
    setBusy(true)
    try {
      const next = await read()
      if (next) await act(next)
    } catch (problem) {
      setError(problem)
    } finally {
      setBusy(false)
    }
  }
  const show = (tab: string | null) =>
    withPolicy(async (next) => {
      const told = tab === 'text' ? await tell(next) : undefined
      setPolicy(next)
      setFields(fieldsOf(next))
      if (told) setDraft({ tab: 'text', text: told.sentences.join('\n'), told, problems: [] })
      else setDraft(tab === 'json' ? { tab, text: stringify(next, 2), problems: [] } : null)
    })
  const review = () =>
    withPolicy(async (next) => {
      const [before, after] = await Promise.all([tell(now.policy as Policy), tell(next)])
      setAsks({ policy: next, changes: changesOf(linesOf(before), linesOf(after)) })
    })
  const save = async (next: Policy) => {
    const body = { policy: next, expectedVersion: now.newestVersion, effectiveAt: null }
    await put('/v1/wallets/{id}/policy', { path: { id: now.walletId } }, body)
    await refresh('policy', 'spending', '/v1/wallets/{id}/policy/history')
    close()
  }
  if (asks)
    return (
      <Confirm
        title={said.saveAsk}
        isOpen
        close={() => setAsks(null)}
        cancel={said.back}
        go={said.save}
        danger={false}
        disabled={stringify(asks.policy) === stringify(now.policy)}
        act={() => save(asks.policy)}
      >
        <Diff changes={asks.changes} />
        <PastPayments id={now.walletId} policy={asks.policy} />
        <TryPayment id={now.walletId} policy={asks.policy} />
        <p className="quiet">{said.saveAbout}</p>
      </Confirm>
    )
  return (
    <Modal opened onClose={close} title={said.edit} size={760} closeButtonProps={{ 'aria-label': words.dialog.close }}>
      <Tabs value={draft?.tab ?? 'form'} onChange={show} keepMounted={false}>
        <Tabs.List>
          <Tabs.Tab value="form">{said.form}</Tabs.Tab>
          <Tabs.Tab value="text">{said.text}</Tabs.Tab>
          <Tabs.Tab value="json">{said.json}</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="form" className="policyform">
          <Lists fields={fields} set={setFields} />
          <Limits limits={fields.limits} set={(limits) => setFields({ ...fields, limits })} />
          <Amounts fields={fields} set={setFields} />
          <Switches policy={policy} set={setPolicy} />
          <p className="quiet">{said.rest}</p>
        </Tabs.Panel>
        <Tabs.Panel value="text" className="policyform">
          {draft && <Sentences draft={draft} set={setDraft} />}
        </Tabs.Panel>
        <Tabs.Panel value="json" className="policyform">
          <Textarea
            label={said.jsonLabel}
            classNames={{ input: 'mono' }}
            autosize
            minRows={12}
            maxRows={28}
            value={draft?.text ?? ''}
            onChange={(event) => setDraft({ tab: 'json', text: event.currentTarget.value, problems: [] })}
          />
        </Tabs.Panel>
      </Tabs>
      <Trouble error={error} />
      <div className="answers">
        <Button variant="default" onClick={close}>
          {words.dialog.cancel}
        </Button>
        <Button loading={busy} onClick={review}>
          {said.review}
        </Button>
      </div>
    </Modal>
  )
}

function fromJson(text: string): Policy {
  try {
    return parse(text) as Policy
  } catch (problem) {
    throw new Error(`${said.notJson} ${problem instanceof Error ? problem.message : problem}`)
  }
}

/** The text stays as it was written; under it is what is not understood, and what the sentences do not say. */
function Sentences({ draft, set }: { draft: Draft; set: (draft: Draft) => void }) {
  const { problems, told } = draft
  return (
    <>
      <Textarea
        label={said.textLabel}
        description={said.textAbout}
        autosize
        minRows={6}
        maxRows={20}
        value={draft.text}
        onChange={(event) => set({ ...draft, text: event.currentTarget.value, problems: [] })}
      />
      {problems.length > 0 && (
        <div role="alert">
          <p>{said.notUnderstood}</p>
          <ul className="sentences">
            {problems.map((one) => (
              <li key={one.line}>
                <strong>{said.line(one.line)}</strong> <q>{one.text}</q>: {one.message}
              </li>
            ))}
          </ul>
        </div>
      )}
      {told && told.remarks.length > 0 && (
        <div className="quiet">
          <p>{said.textRest}</p>
          <ul className="sentences">
            {[...new Set(told.remarks)].map((text) => (
              <li key={text}>{text}</li>
            ))}
          </ul>
        </div>
      )}
    </>
  )
}

type Part = { fields: Fields; set: (fields: Fields) => void }

const Lists = ({ fields, set }: Part) =>
  LISTS.map((name) => (
    <Textarea
      key={name}
      label={said[name].label}
      description={said[name].about}
      classNames={{ input: 'mono' }}
      autosize
      minRows={1}
      maxRows={8}
      value={fields[name]}
      onChange={(event) => set({ ...fields, [name]: event.currentTarget.value })}
    />
  ))

const Amounts = ({ fields, set }: Part) => (
  <div className="three">
    {(
      [
        ['askUsd', said.approval],
        ['gasUsd', said.gas],
        ['newRecipientHours', said.newRecipient],
      ] as const
    ).map(([name, { label, about }]) => (
      <TextInput
        key={name}
        label={label}
        description={about}
        inputMode="decimal"
        value={fields[name]}
        onChange={(event) => set({ ...fields, [name]: event.currentTarget.value })}
      />
    ))}
  </div>
)

function Switches({ policy, set }: { policy: Policy; set: (policy: Policy) => void }) {
  const { signatures } = policy
  return (
    <div className="switches">
      {SWITCHES.map((name) => (
        <Checkbox
          key={name}
          label={said.switches[name]}
          checked={policy[name]}
          onChange={(event) => set({ ...policy, [name]: event.currentTarget.checked })}
        />
      ))}
      <Checkbox
        label={said.messages}
        checked={signatures.messages}
        onChange={(event) => set({ ...policy, signatures: { ...signatures, messages: event.currentTarget.checked } })}
      />
      <Select
        label={said.typedData.label}
        allowDeselect={false}
        data={(['none', 'known', 'any'] as const).map((value) => ({ value, label: said.typedData[value] }))}
        value={signatures.typedData}
        onChange={(value) =>
          set({ ...policy, signatures: { ...signatures, typedData: (value ?? 'known') as 'none' | 'known' | 'any' } })
        }
      />
    </div>
  )
}
