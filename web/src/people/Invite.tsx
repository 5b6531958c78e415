/** The form that invites a person, and the link that signs them in, which is shown once. */
import { Button, Modal, Select, Textarea, TextInput } from '@mantine/core'
import { useState } from 'react'
import { post } from '../api/client'
import { refresh } from '../api/queries'
import { FormDialog } from '../forms/FormDialog'
import { Copied } from '../parts/Section'
import { lines } from '../policy/fields'
import { words } from '../words'
import { people as said } from '../words.people'

type Scope = keyof typeof said.scopes
const SCOPES = (Object.keys(said.scopes) as Scope[]).map((value) => ({ value, label: said.scopes[value] }))

export function Invite({ close, done }: { close: () => void; done: (url: string) => void }) {
  const [name, setName] = useState('')
  const [email, setEmail] = useState('')
  const [scope, setScope] = useState<Scope>('read')
  const [chosen, setChosen] = useState('')
  const invite = async () => {
    const rights =
      scope === 'chosen' ? { permissions: lines(chosen) } : scope === 'admin' ? { permissions: ['admin'] } : { scope }
    const made = await post('/v1/people', {}, { name: name.trim(), email: email.trim(), ...rights } as never)
    await refresh('/v1/people')
    done(made.url)
  }
  return (
    <FormDialog title={said.invite} go={said.invite} close={close} act={invite}>
      <TextInput label={said.name} required value={name} onChange={(event) => setName(event.currentTarget.value)} />
      <TextInput
        label={said.email}
        description={said.emailAbout}
        required
        value={email}
        onChange={(event) => setEmail(event.currentTarget.value)}
      />
      <Select
        label={said.may}
        data={SCOPES}
        value={scope}
        allowDeselect={false}
        onChange={(value) => setScope(value as Scope)}
      />
      {scope === 'chosen' && (
        <Textarea
          label={said.permissions}
          description={said.permissionsAbout}
          autosize
          minRows={3}
          required
          value={chosen}
          onChange={(event) => setChosen(event.currentTarget.value)}
        />
      )}
    </FormDialog>
  )
}

export function LinkOnce({ url, close }: { url: string; close: () => void }) {
  return (
    <Modal opened onClose={close} title={said.link} closeButtonProps={{ 'aria-label': words.dialog.close }}>
      <p>{said.linkAbout}</p>
      <p className="secret">
        <Copied text={url} name={said.linkName} whole />
      </p>
      <div className="answers">
        <Button onClick={close}>{said.sent}</Button>
      </div>
    </Modal>
  )
}
