/** A wallet's transactions, newest first, and why one waits. */
import type { Schemas } from '../api/client'
import { useList } from '../api/queries'
import { amount, short } from '../model/amounts'
import { Badge, ModeBadge } from '../parts/Badges'
import { Copied, Section } from '../parts/Section'
import { type Column, Empty, Table } from '../parts/Table'
import { Time } from '../parts/Time'
import type { Names } from '../policy/names'
import { pages } from '../words.pages'

type Item = Schemas['TransactionItem']
const said = pages.wallets
const TONES: Record<string, string> = {
  planned: 'sky',
  signed: 'sky',
  sent: 'sky',
  mined: 'sky',
  final: 'ok',
  reverted: 'bad',
  refused: 'bad',
  displaced: 'dust',
}

function Fee({ text }: { text: string }) {
  const [value = '', ...symbol] = text.split(' ')
  return <span title={text}>{[amount(value), ...symbol].join(' ')}</span>
}

const columnsOf = (names: Names): Column<Item>[] => [
  {
    title: said.what,
    cell: (row) => (
      <>
        <strong dir="auto" title={row.about}>
          {short(row.about)}
        </strong>
        <small dir="auto">{row.waitsBecause ? short(row.waitsBecause) : names.chain(row.chainId)}</small>
      </>
    ),
  },
  {
    title: pages.status,
    width: '100px',
    cell: (row) => <Badge tone={TONES[row.status]}>{said.txStatus[row.status] ?? row.status}</Badge>,
  },
  { title: pages.approvals.mode, width: '80px', wide: true, cell: (row) => <ModeBadge mode={row.mode} /> },
  {
    title: said.hash,
    width: '150px',
    wide: true,
    cell: (row) => row.hash && <Copied text={row.hash} />,
  },
  {
    title: said.fee,
    width: '140px',
    align: 'end',
    wide: true,
    cell: (row) => row.fee && <Fee text={names.coin(row.chainId, row.fee)} />,
  },
  { title: said.when, width: '110px', align: 'end', wide: true, cell: (row) => <Time at={row.plannedAt} /> },
]

export function Transactions({ id, names }: { id: string; names: Names }) {
  const found = useList('/v1/transactions', { walletId: id })
  return (
    <Section title={said.transactions} isWide>
      <Table
        label={said.transactions}
        columns={columnsOf(names)}
        found={found}
        keyOf={(row) => row.id}
        href={(row) => (row.runId ? `/runs/${row.runId}?tab=effects` : `/wallets/${id}`)}
        empty={<Empty title={said.noTransactions} />}
      />
    </Section>
  )
}
