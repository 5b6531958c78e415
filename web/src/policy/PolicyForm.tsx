/** Changes a policy by a form or as JSON; before it is saved, the change is shown in sentences. */
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
import type { Names } from './names'
import { changesOf, type Policy, sentencesOf } from './sentences'

const said = policyWords
type Answer = Schemas['PolicyAnswer']
type Props = { now: Answer; names: Names; close: () => void }
const LISTS = ['chains', 'assets', 'recipients', 'contracts', 'methods'] as const
const SWITCHES = Object.keys(said.switches) as (keyof typeof said.switches)[]

export function PolicyForm({ now, names, close }: Props) {
  const [policy, setPolicy] = useState<Policy>(now.policy as Policy)
  const [fields, setFields] = useState<Fields>(() => fieldsOf(now.policy as Policy))
  const [json, setJson] = useState<string | null>(null)
  const [error, setError] = useState<unknown>(null)
  const [asks, setAsks] = useState<Policy | null>(null)
  const read = (): Policy => (json === null ? withFields(policy, fields) : (parse(json) as Policy))
  const guarded = (act: () => void) => {
    setError(null)
    try {
      act()
    } catch (problem) {
      setError(new Error(`${said.notJson} ${problem instanceof Error ? problem.message : problem}`))
    }
  }
  const show = (tab: string | null) =>
    guarded(() => {
      const next = read()
      setPolicy(next)
      setFields(fieldsOf(next))
      setJson(tab === 'json' ? stringify(next, 2) : null)
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
        disabled={stringify(asks) === stringify(now.policy)}
        act={() => save(asks)}
      >
        <Diff changes={changed(now.policy as Policy, asks, names)} />
        <p className="quiet">{said.saveAbout}</p>
      </Confirm>
    )
  return (
    <Modal opened onClose={close} title={said.edit} size={760} closeButtonProps={{ 'aria-label': words.dialog.close }}>
      <Tabs value={json === null ? 'form' : 'json'} onChange={show} keepMounted={false}>
        <Tabs.List>
          <Tabs.Tab value="form">{said.form}</Tabs.Tab>
          <Tabs.Tab value="json">{said.json}</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="form" className="policyform">
          <Lists fields={fields} set={setFields} />
          <Limits limits={fields.limits} set={(limits) => setFields({ ...fields, limits })} />
          <Amounts fields={fields} set={setFields} />
          <Switches policy={policy} set={setPolicy} />
          <p className="quiet">{said.rest}</p>
        </Tabs.Panel>
        <Tabs.Panel value="json" className="policyform">
          <Textarea
            label={said.jsonLabel}
            classNames={{ input: 'mono' }}
            autosize
            minRows={12}
            maxRows={28}
            value={json ?? ''}
            onChange={(event) => setJson(event.currentTarget.value)}
          />
        </Tabs.Panel>
      </Tabs>
      <Trouble error={error} />
      <div className="answers">
        <Button variant="default" onClick={close}>
          {words.dialog.cancel}
        </Button>
        <Button onClick={() => guarded(() => setAsks(read()))}>{said.review}</Button>
      </div>
    </Modal>
  )
}

/** Something that is no policy has no sentences; the server says what is wrong with it. */
function changed(before: Policy, after: Policy, names: Names) {
  try {
    return changesOf(sentencesOf(before, names), sentencesOf(after, names))
  } catch {
    return []
  }
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
