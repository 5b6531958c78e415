/** One person: what they may do, what is in their name, and what ends with them. */
import { Button, Select } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { type ReactNode, useState } from 'react'
import { Link } from 'wouter'
import { del, get, patch, post, type Schemas } from '../api/client'
import { refresh, useEveryOne } from '../api/queries'
import { useWho } from '../api/who'
import { FormDialog } from '../forms/FormDialog'
import { told } from '../model/permissions'
import { Confirm } from '../parts/Confirm'
import { Copied, Facts, Loading, Section } from '../parts/Section'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { bodyOfRights, ChooseRole, type Rights } from '../roles/ChooseRole'
import { people as said } from '../words.people'
import { accounts, roles } from '../words.roles'
import { LinkOnce } from './Invite'
import { Sessions } from './Sessions'

type Detail = Schemas['PersonDetailAnswer']
type Asked = 'deactivate' | 'activate' | 'signOut' | 'give' | 'role' | null
const refreshPeople = () => refresh('/v1/people', '/v1/people/{id}/sessions', '/v1/api-keys', '/v1/audit')

export function Person({ id }: { id: string }) {
  const found = useQuery({ queryKey: ['/v1/people', id], queryFn: () => get('/v1/people/{id}', { path: { id } }) })
  if (found.error) return <Trouble error={found.error} retry={() => found.refetch()} />
  if (!found.data) return <Loading />
  return <Shown one={found.data} />
}

function Shown({ one }: { one: Detail }) {
  const [asks, setAsks] = useState<Asked>(null)
  const [url, setUrl] = useState('')
  const [error, setError] = useState<unknown>(null)
  const nameOf = useWho()
  const path = { path: { id: one.id } }
  const isGone = one.state === 'deactivated'
  const link = async () => {
    setError(null)
    try {
      setUrl((await post('/v1/people/{id}/links', path)).url)
    } catch (problem) {
      setError(problem)
    }
  }
  const become = async (state: 'active' | 'deactivated') => {
    await patch('/v1/people/{id}', path, { state } as never)
    await refreshPeople()
  }
  return (
    <>
      <Section title={one.name} about={one.email} actions={<Acts isGone={isGone} link={link} ask={setAsks} />}>
        <Trouble error={error} />
        <Facts
          of={[
            [said.id, <Copied key="id" text={one.id} whole />],
            [said.state, said.states[one.state] ?? one.state],
            [
              said.may,
              one.role ? (
                <Link key="role" href={`/roles?role=${one.role}`}>
                  {one.role}
                </Link>
              ) : (
                told(one.permissions)
              ),
            ],
            [said.workflows, (one.workflowScope ?? one.workflowIds)?.join(', ')],
            [said.wallets, one.walletIds?.join(', ')],
            [said.connectors, one.connectorIds?.join(', ')],
            [said.approves, <Copied key="key" text={one.keyId} whole />],
            [said.invitedBy, nameOf(one.invitedBy)],
            [said.joined, one.joinedAt && <Time at={one.joinedAt} />],
          ]}
        />
      </Section>
      <Section title={said.depends}>
        <Dependents of={one.dependents} nameOf={nameOf} />
      </Section>
      {!isGone && <Sessions person={one.id} />}
      <Confirm
        title={said.deactivateAsk(one.name)}
        isOpen={asks === 'deactivate'}
        close={() => setAsks(null)}
        go={said.deactivate}
        act={() => become('deactivated')}
      >
        <p>{said.deactivateAbout}</p>
        <Dependents of={one.dependents} nameOf={nameOf} />
      </Confirm>
      <Confirm
        title={said.activateAsk(one.name)}
        isOpen={asks === 'activate'}
        close={() => setAsks(null)}
        go={said.activate}
        danger={false}
        act={() => become('active')}
      >
        <p>{said.activateAbout}</p>
      </Confirm>
      <Confirm
        title={said.signOutAsk(one.name)}
        isOpen={asks === 'signOut'}
        close={() => setAsks(null)}
        go={said.signOut}
        act={async () => {
          await del('/v1/people/{id}/sessions', path)
          await refreshPeople()
        }}
      >
        <p>{said.signOutAbout}</p>
      </Confirm>
      {asks === 'role' && <ChangeRole one={one} close={() => setAsks(null)} />}
      {asks === 'give' && <Give id={one.id} close={() => setAsks(null)} />}
      {url && <LinkOnce url={url} close={() => setUrl('')} />}
    </>
  )
}

function Acts({ isGone, link, ask }: { isGone: boolean; link: () => void; ask: (what: Asked) => void }) {
  const button = (text: string, act: () => void) => (
    <Button size="xs" variant="default" onClick={act}>
      {text}
    </Button>
  )
  if (isGone) return button(said.activate, () => ask('activate'))
  return (
    <>
      {button(said.newLink, link)}
      {button(roles.give, () => ask('role'))}
      {button(said.give, () => ask('give'))}
      {button(said.signOut, () => ask('signOut'))}
      {button(said.deactivate, () => ask('deactivate'))}
    </>
  )
}

function Dependents({ of, nameOf }: { of: Detail['dependents']; nameOf: (keyId: string) => string }) {
  const places: [string, string[], (id: string) => ReactNode][] = [
    [said.keys, of.keys, (id) => <Link href={`/keys?key=${id}`}>{nameOf(id)}</Link>],
    [said.madeKeys, of.madeKeys, (id) => <Link href={`/keys?key=${id}`}>{nameOf(id)}</Link>],
    [said.workflows, of.workflows, (id) => <Link href={`/workflows/${id}`}>{id}</Link>],
    [said.runs, of.runs, (id) => <Link href={`/runs/${id}`}>{id}</Link>],
    [said.formLinks, of.formLinks, (id) => id],
    [accounts.title, of.serviceAccounts, (id) => <Link href={`/service-accounts?account=${id}`}>{id}</Link>],
  ]
  const shown = places.filter(([, ids]) => ids.length > 0)
  if (!shown.length) return <p className="quiet body">{said.nothing}</p>
  return (
    <Facts
      of={shown.map(([title, ids, show]) => [
        title,
        ids.map((id, i) => (
          <span key={id}>
            {i > 0 && ', '}
            {show(id)}
          </span>
        )),
      ])}
    />
  )
}

function ChangeRole({ one, close }: { one: Detail; close: () => void }) {
  const [rights, setRights] = useState<Rights>({ role: one.role, permissions: one.permissions })
  const save = async () => {
    const path = { path: { id: one.id } }
    await patch('/v1/people/{id}', path, bodyOfRights(rights) as Schemas['UpdatePerson'])
    await refreshPeople()
  }
  return (
    <FormDialog title={roles.give} go={roles.give} close={close} act={save} size={760}>
      <ChooseRole label={said.may} rights={rights} set={setRights} />
      <p className="quiet">{roles.giveAbout}</p>
    </FormDialog>
  )
}

function Give({ id, close }: { id: string; close: () => void }) {
  const [key, setKey] = useState<string | null>(null)
  const free = useEveryOne('/v1/api-keys').filter((one) => !one.personId && !one.revokedAt)
  const give = async () => {
    await patch('/v1/people/{id}', { path: { id } }, { keyIds: key ? [key] : [] } as never)
    await refreshPeople()
  }
  return (
    <FormDialog title={said.give} go={said.give} close={close} act={give}>
      <Select
        label={said.key}
        description={said.giveAbout}
        placeholder={free.length ? undefined : said.giveNone}
        data={free.map((one) => ({ value: one.id, label: `${one.name} · ${one.id}` }))}
        value={key}
        onChange={setKey}
        searchable
        required
      />
    </FormDialog>
  )
}
