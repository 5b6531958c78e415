/** The contracts that the organisation has named. */
import { Button, NativeSelect, Textarea, TextInput } from '@mantine/core'
import { IconPlus } from '@tabler/icons-react'
import { useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { del, get, put, type Schemas } from '../api/client'
import { refresh, useList } from '../api/queries'
import { FormDialog } from '../forms/FormDialog'
import { short } from '../model/amounts'
import { Badge } from '../parts/Badges'
import { Confirm } from '../parts/Confirm'
import { Page } from '../parts/Page'
import { type Column, Empty, Table } from '../parts/Table'
import { Time } from '../parts/Time'
import { pages } from '../words.pages'

type Contract = Schemas['ContractAnswer']
const said = pages.contracts
const useChains = () => useQuery({ queryKey: ['/v1/chains'], queryFn: () => get('/v1/chains') }).data ?? []

export default function Contracts() {
  const [names, setNames] = useState(false)
  const [gone, setGone] = useState<Contract | null>(null)
  const found = useList('/v1/contracts')
  const chains = new Map(useChains().map((one) => [one.chainId, one.name]))
  const columns: Column<Contract>[] = [
    {
      title: pages.name,
      cell: (row) => (
        <>
          <strong dir="auto">{row.name}</strong>
          <small title={row.address}>
            {row.kind && `${row.kind} · `}
            {chains.get(row.chainId) ?? row.chainId} · {short(row.address)}
          </small>
        </>
      ),
    },
    { title: said.abi, width: '180px', wide: true, cell: (row) => <Abi of={row} /> },
    {
      title: said.behind,
      width: '140px',
      wide: true,
      cell: (row) => row.implementation && <code title={row.implementation}>{short(row.implementation)}</code>,
    },
    { title: pages.changed, width: '110px', align: 'end', wide: true, cell: (row) => <Time at={row.updatedAt} /> },
    {
      title: said.remove,
      width: '96px',
      align: 'end',
      cell: (row) => (
        <Button size="xs" variant="default" aria-label={said.removeOf(row.name)} onClick={() => setGone(row)}>
          {said.remove}
        </Button>
      ),
    },
  ]
  const remove = async ({ chainId, address }: Contract) => {
    await del('/v1/contracts/{chainId}/{address}', { path: { chainId, address } })
    await refresh('/v1/contracts')
  }
  return (
    <Page
      title={said.title}
      actions={
        <Button leftSection={<IconPlus size={16} />} onClick={() => setNames(true)}>
          {said.create}
        </Button>
      }
    >
      <p className="quiet">{said.about}</p>
      <Table
        label={said.title}
        columns={columns}
        found={found}
        keyOf={(row) => `${row.chainId} ${row.address}`}
        empty={<Empty title={said.none} about={said.noneAbout} />}
      />
      {names && <Name close={() => setNames(false)} />}
      <Confirm
        title={said.removeAsk}
        isOpen={gone !== null}
        close={() => setGone(null)}
        go={said.remove}
        act={async () => gone && remove(gone)}
      >
        <p>{said.removeAbout}</p>
      </Confirm>
    </Page>
  )
}

/** Whether the deployed code has the methods of the ABI. */
function Abi({ of: { abi, unknownMethods } }: { of: Contract }) {
  if (!abi) return null
  if (!unknownMethods) return <span className="quiet">{said.unchecked}</span>
  if (!unknownMethods.length) return <Badge tone="ok">{said.verified}</Badge>
  return (
    <span title={unknownMethods.join(', ')}>
      <Badge tone="bad">{said.unknown(unknownMethods.length)}</Badge>
    </span>
  )
}

/** Names one, or names it anew. */
function Name({ close }: { close: () => void }) {
  const chains = useChains()
  const [chosen, setChain] = useState('')
  const [address, setAddress] = useState('')
  const [name, setName] = useState('')
  const [kind, setKind] = useState('')
  const [abi, setAbi] = useState('')
  const chain = chosen || String(chains[0]?.chainId ?? '')
  const act = async () => {
    const body = { name: name.trim(), kind: kind.trim() || null, abi: abi.trim() ? JSON.parse(abi) : null }
    await put('/v1/contracts/{chainId}/{address}', { path: { chainId: chain, address: address.trim() } }, body)
    await refresh('/v1/contracts')
  }
  return (
    <FormDialog title={said.create} go={said.create} close={close} act={act}>
      <NativeSelect
        label={said.chain}
        value={chain}
        data={chains.map((one) => ({ value: String(one.chainId), label: one.name }))}
        onChange={(event) => setChain(event.currentTarget.value)}
      />
      <TextInput
        label={said.address}
        classNames={{ input: 'mono' }}
        required
        value={address}
        onChange={(event) => setAddress(event.currentTarget.value)}
      />
      <TextInput label={pages.name} required value={name} onChange={(event) => setName(event.currentTarget.value)} />
      <TextInput
        label={said.kind}
        description={said.kindAbout}
        value={kind}
        onChange={(event) => setKind(event.currentTarget.value)}
      />
      <Textarea
        label={said.abi}
        description={said.abiAbout}
        classNames={{ input: 'mono' }}
        autosize
        minRows={3}
        maxRows={10}
        value={abi}
        onChange={(event) => setAbi(event.currentTarget.value)}
      />
    </FormDialog>
  )
}
