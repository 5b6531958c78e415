/** One service account: its rights, its keys, and its end. */
import { Button } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { Link, useLocation } from 'wouter'
import { del, get, post, type Schemas } from '../api/client'
import { useEveryOne, useMe } from '../api/queries'
import { mayGive, told } from '../model/permissions'
import { may } from '../model/rights'
import { Badge } from '../parts/Badges'
import { Confirm } from '../parts/Confirm'
import { Copied, Facts, Section } from '../parts/Section'
import { type Column, Table } from '../parts/Table'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { accounts as said } from '../words.roles'
import { ChangeAccount, NewAccountKey, RotateKey, refreshAccounts } from './AccountForms'

type Row = Schemas['ServiceAccountAnswer']
type Key = Schemas['KeyAnswer']
type Asked = 'change' | 'key' | 'disable' | 'delete' | null
const SOON_MS = 14 * 86_400_000

const reachOf = (one: Row) => [
  ...(one.workflowScope ?? one.workflowIds ?? []),
  ...(one.walletIds ?? []),
  ...(one.connectorIds ?? []),
]

type Props = { one: Row; isManager: boolean; show: (secret: string) => void }

export function Account({ one, isManager, show }: Props) {
  const [, go] = useLocation()
  const [asks, setAsks] = useState<Asked>(null)
  const [error, setError] = useState<unknown>(null)
  const people = useEveryOne('/v1/people', isManager)
  const path = { path: { id: one.id } }
  const owner = people.find((person) => person.id === one.ownerId)?.name ?? one.ownerId
  const isActive = one.status === 'active'
  const button = (text: string, act: () => void) => (
    <Button size="xs" variant="default" onClick={act}>
      {text}
    </Button>
  )
  const enable = () => {
    setError(null)
    post('/v1/service-accounts/{id}/enable', path).then(refreshAccounts).catch(setError)
  }
  const close = () => setAsks(null)
  return (
    <>
      <Section
        title={one.name}
        about={one.description}
        actions={
          isManager && (
            <>
              {button(said.change, () => setAsks('change'))}
              {isActive ? button(said.disable, () => setAsks('disable')) : button(said.enable, enable)}
              {button(said.delete, () => setAsks('delete'))}
            </>
          )
        }
      >
        <Trouble error={error} />
        <Facts
          of={[
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
            [said.scope, reachOf(one).join(', ')],
            [
              said.owner,
              owner ? (
                <Link key="owner" href={`/people?person=${one.ownerId}`}>
                  {owner}
                </Link>
              ) : (
                said.ownerNone
              ),
            ],
            [said.used, one.lastUsedAt ? <Time key="used" at={one.lastUsedAt} /> : said.unused],
            [said.made, <Time key="made" at={one.createdAt} />],
            [said.id, <Copied key="id" text={one.id} whole />],
          ]}
        />
      </Section>
      <Keys one={one} show={show} add={isActive ? () => setAsks('key') : null} />
      {asks === 'change' && <ChangeAccount one={one} close={close} />}
      {asks === 'key' && <NewAccountKey one={one} close={close} show={show} />}
      <Confirm
        title={said.disableAsk(one.name)}
        isOpen={asks === 'disable'}
        close={close}
        go={said.disable}
        act={() => post('/v1/service-accounts/{id}/disable', path).then(refreshAccounts)}
      >
        <p>{said.disableAbout}</p>
      </Confirm>
      <Confirm
        title={said.deleteAsk(one.name)}
        isOpen={asks === 'delete'}
        close={close}
        go={said.delete}
        act={async () => {
          await del('/v1/service-accounts/{id}', path)
          go('/service-accounts')
          await refreshAccounts()
        }}
      >
        <p>{said.deleteAbout}</p>
      </Confirm>
    </>
  )
}

const columnsOf = (mayWrite: boolean, rotate: (one: Key) => void, revoke: (one: Key) => void): Column<Key>[] => [
  {
    title: said.key,
    cell: (row) => (
      <>
        <strong dir="auto">{row.name}</strong>
        <small>{isSoon(row) ? <Badge tone="dust">{said.soon}</Badge> : row.id}</small>
      </>
    ),
  },
  {
    title: said.expires,
    width: '120px',
    narrow: '78px',
    align: 'end',
    cell: (row) => <Time at={row.expiresAt} />,
  },
  {
    title: said.used,
    width: '110px',
    align: 'end',
    wide: true,
    cell: (row) => (row.lastUsedAt ? <Time at={row.lastUsedAt} /> : said.unused),
  },
  ...(mayWrite
    ? [
        {
          title: said.rotate,
          width: '170px',
          narrow: '128px',
          align: 'end' as const,
          cell: (row: Key) => (
            <>
              <Button
                size="compact-xs"
                variant="default"
                aria-label={said.rotateOf(row.name)}
                onClick={() => rotate(row)}
              >
                {said.rotate}
              </Button>{' '}
              <Button
                size="compact-xs"
                variant="default"
                aria-label={said.revokeOf(row.name)}
                onClick={() => revoke(row)}
              >
                {said.revoke}
              </Button>
            </>
          ),
        },
      ]
    : []),
]
const isSoon = ({ expiresAt }: Key) => expiresAt !== null && Date.parse(expiresAt) - Date.now() < SOON_MS

type KeysProps = { one: Row; show: (secret: string) => void; add: (() => void) | null }

function Keys({ one, show, add }: KeysProps) {
  const me = useMe().data
  const [rotates, setRotates] = useState<Key | null>(null)
  const [ends, setEnds] = useState<Key | null>(null)
  const found = useQuery({
    queryKey: ['/v1/api-keys', 'of', one.keyIds],
    queryFn: () => Promise.all(one.keyIds.map((id) => get('/v1/api-keys/{id}', { path: { id } }))),
  })
  const rows = found.data ?? []
  const whole = { ...found, rows, hasNextPage: false, isFetchingNextPage: false, fetchNextPage: found.refetch }
  const mayWrite = may(me, 'key:write') && one.permissions.every((name) => mayGive(me, name))
  return (
    <Section
      title={said.keys}
      actions={
        mayWrite &&
        add && (
          <Button size="xs" variant="default" onClick={add}>
            {said.newKey}
          </Button>
        )
      }
    >
      <Table
        label={said.keys}
        columns={columnsOf(mayWrite, setRotates, setEnds)}
        found={whole}
        keyOf={(row) => row.id}
        href={(row) => `/keys?key=${row.id}`}
        empty={<p className="quiet body">{said.noKey}</p>}
      />
      {rotates && <RotateKey one={rotates} close={() => setRotates(null)} show={show} />}
      <Confirm
        title={said.revokeAsk(ends?.name ?? '')}
        isOpen={ends !== null}
        close={() => setEnds(null)}
        go={said.revoke}
        act={async () => {
          await del('/v1/api-keys/{id}', { path: { id: ends?.id ?? '' } })
          await refreshAccounts()
        }}
      >
        <p>{said.revokeAbout}</p>
      </Confirm>
    </Section>
  )
}
