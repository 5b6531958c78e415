/** The form that makes a key. A session alone makes none, unless a person has just signed in: a key is typed once more, and
 * goes with this one request. */
import { MultiSelect, PasswordInput, Select, Textarea, TextInput } from '@mantine/core'
import { useState } from 'react'
import { post, type Schemas } from '../api/client'
import { refresh, useEveryOne, useMe } from '../api/queries'
import { FormDialog } from '../forms/FormDialog'
import { bodyOf, ENDS, type Ends, KINDS, type Kind, placesOf } from '../model/newKey'
import { may } from '../model/rights'
import { newKey as said } from '../words.keys'
import { pages } from '../words.pages'

type Made = Schemas['NewKeyAnswer']

export default function NewKey({ close, made }: { close: () => void; made: (key: Made) => void }) {
  const me = useMe().data
  const [name, setName] = useState('')
  const [kind, setKind] = useState<Kind>('read')
  const [own, setOwn] = useState('')
  const [ends, setEnds] = useState<Ends>('90')
  const [workflowIds, setWorkflowIds] = useState<string[]>([])
  const [walletIds, setWalletIds] = useState<string[]>([])
  const [key, setKey] = useState('')
  const workflows = useEveryOne('/v1/workflows', may(me, 'workflow:read'))
  const wallets = useEveryOne('/v1/wallets', may(me, 'wallet:read'))
  const places = placesOf(workflows)
  const limits = [
    ...places.folders.map(({ id, name }) => ({ id, name: said.folder(name) })),
    ...places.tags.map(({ id, name }) => ({ id, name: said.tag(name) })),
    ...workflows,
  ]
  const hasKey = !me?.personId
  const act = async () => {
    const body = bodyOf({ name, kind, own, ends, workflowIds, walletIds }, Date.now())
    const place = hasKey ? { key: key.trim() } : {}
    const answer = await post('/v1/api-keys', place, body as Schemas['CreateKey'])
    await refresh('/v1/api-keys')
    made(answer)
  }
  return (
    <FormDialog title={said.create} go={said.go} close={close} act={act}>
      <TextInput
        label={pages.name}
        required
        data-autofocus
        value={name}
        onChange={(event) => setName(event.currentTarget.value)}
      />
      <Select
        label={said.kind}
        description={said.abouts[kind]}
        allowDeselect={false}
        data={KINDS.map((value) => ({ value, label: said.kinds[value] }))}
        value={kind}
        onChange={(value) => setKind((value ?? 'read') as Kind)}
      />
      {kind === 'other' && (
        <Textarea
          label={pages.keys.permissions}
          description={said.ownAbout}
          required
          autosize
          minRows={3}
          classNames={{ input: 'mono' }}
          value={own}
          onChange={(event) => setOwn(event.currentTarget.value)}
        />
      )}
      <Only label={said.workflows} of={limits} ids={workflowIds} set={setWorkflowIds} />
      <Only label={said.wallets} of={wallets} ids={walletIds} set={setWalletIds} />
      <Select
        label={said.ends}
        allowDeselect={false}
        data={ENDS.map((value) => ({ value, label: said.endsIn[value] }))}
        value={ends}
        onChange={(value) => setEnds((value ?? '90') as Ends)}
      />
      {hasKey ? (
        <PasswordInput
          label={said.again}
          description={said.againAbout}
          required
          autoComplete="off"
          value={key}
          onChange={(event) => setKey(event.currentTarget.value)}
        />
      ) : (
        <p className="quiet">{said.personAbout}</p>
      )}
      <p className="quiet">{said.sameHand}</p>
    </FormDialog>
  )
}

type OnlyProps = { label: string; of: { id: string; name: string }[]; ids: string[]; set: (ids: string[]) => void }

/** Nothing chosen: all of them. */
const Only = ({ label, of, ids, set }: OnlyProps) =>
  of.length > 0 && (
    <MultiSelect
      label={label}
      placeholder={ids.length ? undefined : said.all}
      searchable
      clearable
      clearButtonProps={{ 'aria-label': said.all }}
      data={of.map((one) => ({ value: one.id, label: one.name }))}
      value={ids}
      onChange={set}
    />
  )
