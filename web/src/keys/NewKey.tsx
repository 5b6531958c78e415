/** The form that makes a key. A session alone makes none, unless a person has just signed in: a key is typed once more, and
 * goes with this one request. */
import { PasswordInput, Select, Textarea, TextInput } from '@mantine/core'
import { useState } from 'react'
import { post, type Schemas } from '../api/client'
import { refresh, useMe } from '../api/queries'
import { FormDialog } from '../forms/FormDialog'
import { bodyOf, ENDS, type Ends, KINDS, type Kind } from '../model/newKey'
import { NO_LIMITS } from '../model/permissions'
import { newKey as said } from '../words.keys'
import { pages } from '../words.pages'
import { Limits } from './Limits'

type Made = Schemas['NewKeyAnswer']

export default function NewKey({ close, made }: { close: () => void; made: (key: Made) => void }) {
  const me = useMe().data
  const [name, setName] = useState('')
  const [kind, setKind] = useState<Kind>('read')
  const [own, setOwn] = useState('')
  const [ends, setEnds] = useState<Ends>('90')
  const [limits, setLimits] = useState(NO_LIMITS)
  const [key, setKey] = useState('')
  const hasKey = !me?.personId
  const act = async () => {
    const body = bodyOf({ name, kind, own, ends, limits }, Date.now())
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
      <Limits limits={limits} set={setLimits} />
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
