/** API keys: what each may do, and its end; and whether one person alone approves. */
import { Button, Switch } from '@mantine/core'
import { IconPlus } from '@tabler/icons-react'
import { useState } from 'react'
import { useLocation, useSearchParams } from 'wouter'
import { del, type Schemas } from '../api/client'
import { refresh, useList, useMe } from '../api/queries'
import { AskOne, setOne, useOrganization } from '../approval/LetOne'
import { KeyOnce } from '../keys/KeyOnce'
import NewKey from '../keys/NewKey'
import { may } from '../model/rights'
import { Badge } from '../parts/Badges'
import { Confirm } from '../parts/Confirm'
import { Page } from '../parts/Page'
import { Copied, Facts, Section } from '../parts/Section'
import { type Column, Empty, Table } from '../parts/Table'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { words } from '../words'
import { newKey } from '../words.keys'
import { pages } from '../words.pages'

type Key = Schemas['KeyAnswer']
const said = pages.keys

const stateOf = (key: Key) => {
  if (key.revokedAt) return <Badge tone="bad">{said.revoked}</Badge>
  if (key.expiresAt && Date.parse(key.expiresAt) < Date.now()) return <Badge tone="dust">{said.expired}</Badge>
  return <Badge tone="ok">{said.valid}</Badge>
}

const columns: Column<Key>[] = [
  {
    title: pages.name,
    cell: (row) => (
      <>
        <strong dir="auto">{row.name}</strong>
        <small dir="auto">{row.permissions.join(', ')}</small>
      </>
    ),
  },
  { title: pages.status, width: '90px', cell: stateOf },
  { title: said.used, width: '110px', align: 'end', wide: true, cell: (row) => <Time at={row.lastUsedAt} /> },
  { title: said.expires, width: '110px', align: 'end', wide: true, cell: (row) => <Time at={row.expiresAt} /> },
  { title: pages.created, width: '110px', align: 'end', wide: true, cell: (row) => <Time at={row.createdAt} /> },
]

export default function Keys() {
  const [search] = useSearchParams()
  const found = useList('/v1/api-keys')
  const me = useMe().data
  const [makes, setMakes] = useState(false)
  const [made, setMade] = useState<Schemas['NewKeyAnswer'] | null>(null)
  const chosen = found.rows.find((one) => one.id === search.get('key'))
  return (
    <Page
      title={words.nav.keys}
      className="details wideway"
      actions={
        may(me, 'key:write') && (
          <Button leftSection={<IconPlus size={16} />} onClick={() => setMakes(true)}>
            {newKey.create}
          </Button>
        )
      }
    >
      {makes && <NewKey close={() => setMakes(false)} made={setMade} />}
      {made && <KeyOnce secret={made.key} close={() => setMade(null)} />}
      {may(me, 'admin') && <OnePerson />}
      {chosen && <Detail key={chosen.id} one={chosen} />}
      <Table
        label={words.nav.keys}
        columns={columns}
        found={found}
        keyOf={(row) => row.id}
        href={(row) => `/keys?key=${row.id}`}
        empty={<Empty title={said.none} />}
      />
    </Page>
  )
}

function Detail({ one }: { one: Key }) {
  const me = useMe()
  const [, go] = useLocation()
  const [asks, setAsks] = useState(false)
  return (
    <Section
      title={one.name}
      about={one.id === me.data?.keyId ? said.yours : undefined}
      actions={
        <>
          <Button size="xs" variant="default" onClick={() => go(`/audit?key=${one.id}`)}>
            {said.changes}
          </Button>
          {!one.revokedAt && (
            <Button size="xs" variant="default" onClick={() => setAsks(true)}>
              {said.revoke}
            </Button>
          )}
        </>
      }
    >
      <Facts
        of={[
          [said.id, <Copied key="id" text={one.id} whole />],
          [pages.description, one.description],
          [said.permissions, one.permissions.join(', ')],
          [said.workflows, one.workflowIds ? one.workflowIds.join(', ') : said.all],
          [said.wallets, one.walletIds ? one.walletIds.join(', ') : said.all],
          [said.connectors, one.connectorIds ? one.connectorIds.join(', ') : said.all],
          [said.madeBy, one.createdBy],
          [said.revoked, one.revokedAt && <Time at={one.revokedAt} />],
        ]}
      />
      <Confirm
        title={said.revokeAsk}
        isOpen={asks}
        close={() => setAsks(false)}
        go={said.revoke}
        act={async () => {
          await del('/v1/api-keys/{id}', { path: { id: one.id } })
          await refresh('/v1/api-keys')
        }}
      >
        <p>{said.revokeAbout}</p>
      </Confirm>
    </Section>
  )
}

/** Off by default; each change is in the audit. It never holds for acceptances of versions. */
function OnePerson() {
  const found = useOrganization()
  const [asks, setAsks] = useState(false)
  const [wrong, setWrong] = useState<unknown>(null)
  const own = found.data?.items[0]
  if (found.error) return <Trouble error={found.error} retry={() => found.refetch()} />
  if (!own) return null
  const turnOff = () => {
    setWrong(null)
    setOne(own.id, false).catch(setWrong)
  }
  return (
    <Section title={said.oneTitle}>
      <div className="body" id="one">
        <Switch
          label={said.one}
          description={said.oneAbout}
          checked={own.singlePersonApproves}
          onChange={() => (own.singlePersonApproves ? turnOff() : setAsks(true))}
        />
        <Trouble error={wrong} />
      </div>
      <AskOne id={own.id} isOpen={asks} close={() => setAsks(false)} />
    </Section>
  )
}
