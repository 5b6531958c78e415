/** The form that invites a person, and the link that signs them in, which is shown once. */
import { Button, Modal, TextInput } from '@mantine/core'
import { useState } from 'react'
import { post, type Schemas } from '../api/client'
import { refresh } from '../api/queries'
import { FormDialog } from '../forms/FormDialog'
import { Limits } from '../keys/Limits'
import { limitsOf, NO_LIMITS } from '../model/permissions'
import { Copied } from '../parts/Section'
import { bodyOfRights, ChooseRole, type Rights } from '../roles/ChooseRole'
import { words } from '../words'
import { people as said } from '../words.people'

export function Invite({ close, done }: { close: () => void; done: (url: string) => void }) {
  const [name, setName] = useState('')
  const [email, setEmail] = useState('')
  const [rights, setRights] = useState<Rights>({ role: 'viewer', permissions: [] })
  const [limits, setLimits] = useState(NO_LIMITS)
  const invite = async () => {
    const body = { name: name.trim(), email: email.trim(), ...bodyOfRights(rights), ...limitsOf(limits) }
    const made = await post('/v1/people', {}, body as Schemas['InvitePerson'])
    await refresh('/v1/people')
    done(made.url)
  }
  return (
    <FormDialog title={said.invite} go={said.invite} close={close} act={invite} size={760}>
      <TextInput
        label={said.name}
        required
        data-autofocus
        value={name}
        onChange={(event) => setName(event.currentTarget.value)}
      />
      <TextInput
        label={said.email}
        description={said.emailAbout}
        required
        value={email}
        onChange={(event) => setEmail(event.currentTarget.value)}
      />
      <ChooseRole label={said.may} rights={rights} set={setRights} />
      <Limits limits={limits} set={setLimits} />
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
