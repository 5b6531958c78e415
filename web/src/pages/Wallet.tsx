/** One wallet: what it has, what it may do and has done. */
import { Button, Checkbox } from '@mantine/core'
import { IconArchive, IconStar } from '@tabler/icons-react'
import { useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { del, get, put, type Schemas } from '../api/client'
import { refresh } from '../api/queries'
import { Badge } from '../parts/Badges'
import { Confirm } from '../parts/Confirm'
import { Missing } from '../parts/Missing'
import { Page } from '../parts/Page'
import { Copied, Facts, LoadingPage, Section } from '../parts/Section'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { useNames } from '../policy/names'
import { PolicySection } from '../policy/PolicySection'
import { Allowances } from '../wallets/Allowances'
import { Balances } from '../wallets/Balances'
import { LimitsUsed } from '../wallets/LimitsUsed'
import { Transactions } from '../wallets/Transactions'
import { pages } from '../words.pages'

type Wallet = Schemas['WalletAnswer']
const said = pages.wallets

export default function WalletPage({ id }: { id: string }) {
  const found = useQuery({ queryKey: ['/v1/wallets', id], queryFn: () => get('/v1/wallets/{id}', { path: { id } }) })
  const names = useNames()
  if (found.error && !found.data) return <Missing of="wallets" error={found.error} retry={() => found.refetch()} />
  if (!found.data) return <LoadingPage />
  const wallet = found.data
  return (
    <Page
      title={wallet.name}
      className="details wideway pair"
      name={
        <>
          <h1 dir="auto">{wallet.name}</h1>
          {wallet.isDefault && <Badge tone="sky">{said.isDefault}</Badge>}
          {wallet.archivedAt && <Badge tone="dust">{said.archived}</Badge>}
        </>
      }
      actions={<Acts wallet={wallet} />}
    >
      <Balances id={wallet.id} />
      <Allowances id={wallet.id} mayRevoke={!wallet.archivedAt && wallet.kind !== 'watch'} />
      <LimitsUsed id={wallet.id} names={names} />
      <PolicySection id={wallet.id} />
      <Transactions id={wallet.id} names={names} />
      <Section title={said.about}>
        <Facts of={factsOf(wallet)} />
      </Section>
    </Page>
  )
}

const factsOf = (wallet: Wallet): [string, React.ReactNode][] => [
  [said.address, <Copied key="address" text={wallet.address} whole />],
  [pages.description, wallet.description],
  [said.kind, said.kinds[wallet.kind]],
  [said.signer, wallet.signer],
  [pages.created, <Time key="at" at={wallet.createdAt} />],
  [
    said.exportTitle,
    wallet.kind === 'local' && (
      <>
        {said.exportAbout} <code>dustrun wallet export {wallet.id} --to FILE</code>
      </>
    ),
  ],
]

function Acts({ wallet }: { wallet: Wallet }) {
  const [asks, setAsks] = useState(false)
  const [force, setForce] = useState(false)
  const [error, setError] = useState<unknown>(null)
  const place = { path: { id: wallet.id } }
  const makeDefault = async () => {
    try {
      await put('/v1/wallets/{id}/default', place)
      await refresh('/v1/wallets')
    } catch (problem) {
      setError(problem)
    }
  }
  if (wallet.archivedAt) return null
  return (
    <>
      <Trouble error={error} />
      {!wallet.isDefault && (
        <Button variant="default" leftSection={<IconStar size={15} />} onClick={makeDefault}>
          {said.makeDefault}
        </Button>
      )}
      <Button variant="default" leftSection={<IconArchive size={15} />} onClick={() => setAsks(true)}>
        {said.archive}
      </Button>
      <Confirm
        title={said.archiveAsk}
        isOpen={asks}
        close={() => setAsks(false)}
        cancel={said.keep}
        go={said.archive}
        act={async () => {
          await del('/v1/wallets/{id}', { ...place, query: { force: force || undefined } })
          await refresh('/v1/wallets')
        }}
      >
        <p>{said.archiveAbout}</p>
        <Checkbox
          mt="sm"
          label={said.archiveAnyway}
          checked={force}
          onChange={(event) => setForce(event.currentTarget.checked)}
        />
      </Confirm>
    </>
  )
}
