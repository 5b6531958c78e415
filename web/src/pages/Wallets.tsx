/** The wallets, the default one first; where one is made. */
import { Button, Modal, SegmentedControl, Select, TextInput } from '@mantine/core'
import { IconPlus } from '@tabler/icons-react'
import { type FormEvent, useState } from 'react'
import { useLocation, useSearchParams } from 'wouter'
import { post, type Schemas } from '../api/client'
import { refresh, useList } from '../api/queries'
import { short } from '../model/amounts'
import { Badge } from '../parts/Badges'
import { Page } from '../parts/Page'
import { type Column, Empty, Table } from '../parts/Table'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { words } from '../words'
import { pages } from '../words.pages'

type Wallet = Schemas['WalletAnswer']
const said = pages.wallets

const columns: Column<Wallet>[] = [
  {
    title: pages.name,
    cell: (row) => (
      <>
        <strong dir="auto">
          {row.name} {row.isDefault && <Badge tone="sky">{said.isDefault}</Badge>}
        </strong>
        <small dir="auto">{row.description || <span className="onlynarrow">{said.kinds[row.kind]}</span>}</small>
      </>
    ),
  },
  { title: said.address, width: '120px', cell: (row) => <code title={row.address}>{short(row.address)}</code> },
  { title: said.kind, width: '180px', wide: true, cell: (row) => said.kinds[row.kind] },
  { title: pages.created, width: '120px', align: 'end', wide: true, cell: (row) => <Time at={row.createdAt} /> },
]

export default function Wallets() {
  const [search, setSearch] = useSearchParams()
  const [makes, setMakes] = useState(false)
  const archived = search.get('show') === 'archived'
  const found = useList('/v1/wallets', archived ? { archived: true } : {})
  const rows = archived ? found.rows.filter((one) => one.archivedAt) : found.rows
  return (
    <Page
      title={words.nav.wallets}
      actions={
        <Button leftSection={<IconPlus size={16} />} onClick={() => setMakes(true)}>
          {said.create}
        </Button>
      }
      filters={
        <SegmentedControl
          aria-label={said.show}
          data={[
            { value: 'current', label: said.current },
            { value: 'archived', label: said.archived },
          ]}
          value={archived ? 'archived' : 'current'}
          onChange={(value) => setSearch(value === 'archived' ? { show: 'archived' } : {})}
        />
      }
    >
      <Table
        label={words.nav.wallets}
        columns={columns}
        found={{ ...found, rows }}
        keyOf={(row) => row.id}
        href={(row) => `/wallets/${row.id}`}
        empty={archived ? <Empty title={said.noneArchived} /> : <Empty title={said.none} about={said.noneAbout} />}
      />
      {makes && <Make close={() => setMakes(false)} />}
    </Page>
  )
}

function Make({ close }: { close: () => void }) {
  const [, go] = useLocation()
  const [name, setName] = useState('')
  const [kind, setKind] = useState<'local' | 'watch'>('local')
  const [address, setAddress] = useState('')
  const [error, setError] = useState<unknown>(null)
  const [busy, setBusy] = useState(false)
  const make = async (event: FormEvent) => {
    event.preventDefault()
    setBusy(true)
    try {
      const body = { name: name.trim(), kind, ...(kind === 'watch' ? { address: address.trim() } : {}) }
      const { id } = await post('/v1/wallets', {}, body as Schemas['CreateWallet'])
      await refresh('/v1/wallets')
      go(`/wallets/${id}`)
    } catch (problem) {
      setError(problem)
      setBusy(false)
    }
  }
  return (
    <Modal opened onClose={close} title={said.create} closeButtonProps={{ 'aria-label': words.dialog.close }}>
      <form className="fields" onSubmit={make}>
        <p className="quiet">{said.createAbout}</p>
        <TextInput
          label={pages.name}
          required
          data-autofocus
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
        />
        <Select
          label={said.kind}
          allowDeselect={false}
          data={(['local', 'watch'] as const).map((value) => ({ value, label: said.kinds[value] ?? value }))}
          value={kind}
          onChange={(value) => setKind(value === 'watch' ? 'watch' : 'local')}
        />
        {kind === 'watch' && (
          <TextInput
            label={said.address}
            description={said.addressAbout}
            required
            value={address}
            onChange={(event) => setAddress(event.currentTarget.value)}
          />
        )}
        <p className="quiet">
          {said.importAbout} <code>dustrun wallet import</code>.
        </p>
        <Trouble error={error} />
        <div className="answers">
          <Button variant="default" onClick={close}>
            {words.dialog.cancel}
          </Button>
          <Button type="submit" loading={busy} disabled={!name.trim()}>
            {said.create}
          </Button>
        </div>
      </form>
    </Modal>
  )
}
