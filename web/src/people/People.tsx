/** The reader's own sessions; and for whoever administers: the organisation's people, each with what depends on them. */
import { Button } from '@mantine/core'
import { IconPlus } from '@tabler/icons-react'
import { useState } from 'react'
import { useSearchParams } from 'wouter'
import type { Schemas } from '../api/client'
import { useList, useMe } from '../api/queries'
import { told } from '../model/permissions'
import { isWhole, may } from '../model/rights'
import { Badge } from '../parts/Badges'
import { Page } from '../parts/Page'
import { type Column, Empty, Table } from '../parts/Table'
import { Time } from '../parts/Time'
import { people as said } from '../words.people'
import { Invite, LinkOnce } from './Invite'
import { Passkeys } from './Passkeys'
import { Person } from './Person'
import { Quotas } from './Quotas'
import { Sessions } from './Sessions'

type Row = Schemas['PersonAnswer']
const COMMAND = 'dustrun people invite you@example.com --name You -p admin'
const toneOf = (state: string) => (state === 'active' ? 'ok' : state === 'deactivated' ? 'bad' : 'dust')

const columns: Column<Row>[] = [
  {
    title: said.name,
    cell: (row) => (
      <>
        <strong dir="auto">{row.name}</strong>
        <small dir="auto">{row.email}</small>
      </>
    ),
  },
  {
    title: said.state,
    width: '110px',
    cell: (row) => <Badge tone={toneOf(row.state)}>{said.states[row.state] ?? row.state}</Badge>,
  },
  { title: said.may, width: '320px', wide: true, cell: (row) => row.role ?? told(row.permissions) },
  { title: said.joined, width: '110px', align: 'end', wide: true, cell: (row) => <Time at={row.joinedAt} /> },
]

export default function People() {
  const me = useMe().data
  const isManager = may(me, 'admin') && isWhole(me)
  const isPerson = Boolean(me?.personId)
  return isManager ? <All isPerson={isPerson} /> : <Own isPerson={isPerson} />
}

const Own = ({ isPerson }: { isPerson: boolean }) => (
  <Page title={said.title} className="details wideway">
    <Sessions />
    {isPerson && <Passkeys />}
  </Page>
)

function All({ isPerson }: { isPerson: boolean }) {
  const [search] = useSearchParams()
  const [invites, setInvites] = useState(false)
  const [url, setUrl] = useState('')
  const found = useList('/v1/people')
  const chosen = search.get('person')
  return (
    <Page
      title={said.title}
      className="details wideway"
      actions={
        isPerson && (
          <Button leftSection={<IconPlus size={16} />} onClick={() => setInvites(true)}>
            {said.invite}
          </Button>
        )
      }
    >
      {chosen && <Person key={chosen} id={chosen} />}
      <p className="quiet">
        {isPerson ? (
          said.fresh
        ) : (
          <>
            {said.byKey} <code>{COMMAND}</code>.
          </>
        )}
      </p>
      <Table
        label={said.title}
        columns={columns}
        found={found}
        keyOf={(row) => row.id}
        href={(row) => `/people?person=${row.id}`}
        empty={<Empty title={said.none} about={said.noneAbout} />}
      />
      <Sessions />
      {isPerson && <Passkeys />}
      <Quotas />
      {invites && <Invite close={() => setInvites(false)} done={setUrl} />}
      {url && <LinkOnce url={url} close={() => setUrl('')} />}
    </Page>
  )
}
