/** Roles: what each may do, who has it, and the organisation's own ones. */
import { Button, Select, TextInput } from '@mantine/core'
import { IconPlus } from '@tabler/icons-react'
import { useState } from 'react'
import { Link, useLocation, useSearchParams } from 'wouter'
import { del, post, type Schemas } from '../api/client'
import { refresh, useEveryOne, useList, useMe } from '../api/queries'
import { FormDialog } from '../forms/FormDialog'
import { mayGive, told } from '../model/permissions'
import { isWhole, may } from '../model/rights'
import { Badge } from '../parts/Badges'
import { Confirm } from '../parts/Confirm'
import { Page } from '../parts/Page'
import { Facts, Section } from '../parts/Section'
import { type Column, Table } from '../parts/Table'
import { roles as said } from '../words.roles'
import { Choose, Listed } from './Permissions'

type Role = Schemas['RoleAnswer']

const columns: Column<Role>[] = [
  {
    title: said.role,
    cell: (row) => (
      <>
        <strong>{row.name}</strong>
        <small dir="auto">{row.description}</small>
      </>
    ),
  },
  { title: said.may, width: 'minmax(0, 1.4fr)', wide: true, cell: (row) => told(row.permissions) },
  {
    title: said.whose,
    width: '90px',
    align: 'end',
    cell: (row) => (row.builtIn ? <span className="quiet">{said.builtIn}</span> : <Badge tone="sky">{said.own}</Badge>),
  },
]

export default function Roles() {
  const [search] = useSearchParams()
  const [makes, setMakes] = useState(false)
  const me = useMe().data
  const isManager = may(me, 'admin') && isWhole(me)
  const found = useList('/v1/roles')
  const chosen = found.rows.find((one) => one.name === search.get('role'))
  return (
    <Page
      title={said.title}
      className="details wideway"
      actions={
        isManager && (
          <Button leftSection={<IconPlus size={16} />} onClick={() => setMakes(true)}>
            {said.create}
          </Button>
        )
      }
    >
      {chosen && <Detail key={chosen.name} one={chosen} isManager={isManager} />}
      <p className="quiet">{said.about}</p>
      <Table
        label={said.title}
        columns={columns}
        found={found}
        keyOf={(row) => row.name}
        href={(row) => `/roles?role=${row.name}`}
        empty={null}
      />
      {makes && <NewRole roles={found.rows} close={() => setMakes(false)} />}
    </Page>
  )
}

function Detail({ one, isManager }: { one: Role; isManager: boolean }) {
  const [, go] = useLocation()
  const [asks, setAsks] = useState(false)
  return (
    <Section
      title={one.name}
      about={one.description}
      actions={
        isManager &&
        !one.builtIn && (
          <Button size="xs" variant="default" onClick={() => setAsks(true)}>
            {said.delete}
          </Button>
        )
      }
    >
      <Listed names={one.permissions} />
      {isManager ? <Having role={one.name} /> : <p className="quiet foot">{said.unseen}</p>}
      <Confirm
        title={said.deleteAsk(one.name)}
        isOpen={asks}
        close={() => setAsks(false)}
        go={said.delete}
        act={async () => {
          await del('/v1/roles/{id}', { path: { id: one.name } })
          go('/roles')
          await refresh('/v1/roles')
        }}
      >
        <p>{said.deleteAbout}</p>
      </Confirm>
    </Section>
  )
}

function Having({ role }: { role: string }) {
  const people = useEveryOne('/v1/people').filter((one) => one.role === role && one.state !== 'deactivated')
  const accounts = useEveryOne('/v1/service-accounts').filter((one) => one.role === role)
  if (!people.length && !accounts.length) return <p className="quiet foot">{said.nobody}</p>
  const linked = (all: { id: string; name: string }[], of: string) =>
    all.map((one, i) => (
      <span key={one.id} dir="auto">
        {i > 0 && ', '}
        <Link href={`${of}=${one.id}`}>{one.name}</Link>
      </span>
    ))
  return (
    <Facts
      of={[
        [said.people, people.length > 0 && linked(people, '/people?person')],
        [said.accounts, accounts.length > 0 && linked(accounts, '/service-accounts?account')],
      ]}
    />
  )
}

function NewRole({ roles, close }: { roles: Role[]; close: () => void }) {
  const me = useMe().data
  const [name, setName] = useState('')
  const [description, setDescription] = useState('')
  const [chosen, setChosen] = useState<string[]>([])
  const make = async () => {
    const about = description.trim() ? { description: description.trim() } : {}
    await post('/v1/roles', {}, { name: name.trim(), ...about, permissions: chosen })
    await refresh('/v1/roles')
  }
  const begin = (from: string | null) =>
    setChosen((roles.find((one) => one.name === from)?.permissions ?? []).filter((one) => mayGive(me, one)))
  return (
    <FormDialog title={said.create} go={said.go} close={close} act={make} size={760}>
      <TextInput
        label={said.name}
        description={said.nameAbout}
        required
        data-autofocus
        value={name}
        onChange={(event) => setName(event.currentTarget.value)}
      />
      <TextInput label={said.for} value={description} onChange={(event) => setDescription(event.currentTarget.value)} />
      <Select label={said.from} placeholder={said.fromNone} data={roles.map((one) => one.name)} onChange={begin} />
      <Choose chosen={chosen} set={setChosen} />
    </FormDialog>
  )
}
