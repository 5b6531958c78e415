/** The forms of service accounts: made, changed, given a key, a key rotated. */
import { Select, TextInput } from '@mantine/core'
import { useState } from 'react'
import { patch, post, type Schemas } from '../api/client'
import { refresh, useEveryOne } from '../api/queries'
import { FormDialog } from '../forms/FormDialog'
import { Limits } from '../keys/Limits'
import { limitsOf, NO_LIMITS } from '../model/permissions'
import { accounts as said } from '../words.roles'
import { bodyOfRights, ChooseRole, type Rights } from './ChooseRole'

type Row = Schemas['ServiceAccountAnswer']
/** Administering is for people. */
const FOR_PEOPLE = ['admin', 'operator']
const DAY_MS = 86_400_000

export const refreshAccounts = () => refresh('/v1/service-accounts', '/v1/api-keys', '/v1/audit')

type TextProps = { label: string; value: string; set: (to: string) => void; required?: boolean }
const Text = ({ label, value, set, required = false }: TextProps) => (
  <TextInput
    label={label}
    required={required}
    data-autofocus={required}
    value={value}
    onChange={(event) => set(event.currentTarget.value)}
  />
)

function Owner({ id, set }: { id: string | null; set: (id: string | null) => void }) {
  const people = useEveryOne('/v1/people').filter((one) => one.state !== 'deactivated')
  return (
    <Select
      label={said.owner}
      description={said.ownerAbout}
      placeholder={said.ownerSelf}
      searchable
      data={people.map((one) => ({ value: one.id, label: `${one.name} · ${one.email}` }))}
      value={id}
      onChange={set}
    />
  )
}

export function NewAccount({ close }: { close: () => void }) {
  const [name, setName] = useState('')
  const [description, setDescription] = useState('')
  const [rights, setRights] = useState<Rights>({ role: 'viewer', permissions: [] })
  const [ownerId, setOwnerId] = useState<string | null>(null)
  const [limits, setLimits] = useState(NO_LIMITS)
  const make = async () => {
    const about = { ...(description.trim() && { description: description.trim() }), ...(ownerId && { ownerId }) }
    const body = { name: name.trim(), ...about, ...bodyOfRights(rights), ...limitsOf(limits) }
    await post('/v1/service-accounts', {}, body as Schemas['CreateServiceAccount'])
    await refreshAccounts()
  }
  return (
    <FormDialog title={said.create} go={said.go} close={close} act={make} size={760}>
      <Text label={said.name} value={name} set={setName} required />
      <Text label={said.description} value={description} set={setDescription} />
      <ChooseRole label={said.may} rights={rights} set={setRights} leaveOut={FOR_PEOPLE} />
      <Limits limits={limits} set={setLimits} />
      <Owner id={ownerId} set={setOwnerId} />
      <p className="quiet">{said.refused}</p>
    </FormDialog>
  )
}

export function ChangeAccount({ one, close }: { one: Row; close: () => void }) {
  const [name, setName] = useState(one.name)
  const [description, setDescription] = useState(one.description ?? '')
  const [rights, setRights] = useState<Rights>({ role: one.role, permissions: one.permissions })
  const [ownerId, setOwnerId] = useState(one.ownerId)
  const isSame = rights.role === one.role && `${rights.permissions}` === `${one.permissions}`
  const save = async () => {
    const body = {
      name: name.trim(),
      description: description.trim(),
      ...(isSame ? {} : bodyOfRights(rights)),
      ...(ownerId && { ownerId }),
    }
    await patch('/v1/service-accounts/{id}', { path: { id: one.id } }, body as Schemas['UpdateServiceAccount'])
    await refreshAccounts()
  }
  return (
    <FormDialog title={one.name} go={said.save} close={close} act={save} size={760}>
      <Text label={said.name} value={name} set={setName} required />
      <Text label={said.description} value={description} set={setDescription} />
      <ChooseRole label={said.may} rights={rights} set={setRights} leaveOut={FOR_PEOPLE} />
      <Owner id={ownerId} set={setOwnerId} />
      <p className="quiet">{said.changeAbout}</p>
    </FormDialog>
  )
}

type KeyProps = { close: () => void; show: (secret: string) => void }

export function NewAccountKey({ one, close, show }: KeyProps & { one: Row }) {
  const [name, setName] = useState('')
  const [ends, setEnds] = useState<string>('90')
  const make = async () => {
    const expiresAt = new Date(Date.now() + Number(ends) * DAY_MS).toISOString()
    const body = { name: name.trim(), serviceAccountId: one.id, expiresAt }
    show((await post('/v1/api-keys', {}, body as Schemas['CreateKey'])).key)
    await refreshAccounts()
  }
  return (
    <FormDialog title={said.newKey} go={said.makeKey} close={close} act={make}>
      <Text label={said.keyName} value={name} set={setName} required />
      <Select
        label={said.ends}
        allowDeselect={false}
        data={Object.entries(said.endsIn).map(([value, label]) => ({ value, label }))}
        value={ends}
        onChange={(value) => setEnds(value ?? '90')}
      />
    </FormDialog>
  )
}

export function RotateKey({ one, close, show }: KeyProps & { one: Schemas['KeyAnswer'] }) {
  const [grace, setGrace] = useState<string>('86400')
  const rotate = async () => {
    show((await post('/v1/api-keys/{id}/rotate', { path: { id: one.id } }, { graceS: Number(grace) })).key)
    await refreshAccounts()
  }
  return (
    <FormDialog title={said.rotateAsk(one.name)} go={said.rotate} close={close} act={rotate}>
      <p className="quiet">{said.rotateAbout}</p>
      <Select
        label={said.grace}
        allowDeselect={false}
        data={Object.entries(said.graces).map(([value, label]) => ({ value, label }))}
        value={grace}
        onChange={(value) => setGrace(value ?? '86400')}
      />
    </FormDialog>
  )
}
