/** The connector of a step, or its wallet: chosen, or made here. */
import { NativeSelect } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { type ReactNode, useState } from 'react'
import { Link } from 'wouter'
import { get } from '../api/client'
import { useEveryOne } from '../api/queries'
import { edit, useDocument } from '../editor/document'
import { patchNode } from '../editor/edits'
import { servesOneOf } from '../forms/fits'
import { later } from '../parts/later'
import { words } from '../words'
import { pages } from '../words.pages'
import { policyWords } from '../words.policy'

const NewConnector = later(() => import('../forms/NewConnector').then((module) => module.default))
const NewWallet = later(() => import('../forms/NewWallet').then((module) => module.default))
const PolicyForm = later(() => import('../policy/PolicyForm').then((module) => module.PolicyForm))
const said = words.inspector
type Row = { id: string; name: string; type: string }

export function ConnectorChoice({ id, kinds, isRequired }: { id: string; kinds: string[]; isRequired: boolean }) {
  const rows = useEveryOne('/v1/connectors').filter((one) => servesOneOf(one.type, kinds))
  const isFirst = isRequired && !rows.length
  return (
    <Choice
      id={id}
      label={said.connector}
      isRequired={isRequired}
      none={said.none}
      rows={rows}
      make={isFirst ? said.makeConnector : pages.connectors.create}
      form={(close, take) => <NewConnector kinds={kinds} close={close} made={take} />}
    />
  )
}

export function WalletChoice({ id }: { id: string }) {
  const wallets = useEveryOne('/v1/wallets')
  const chosen = useDocument((s) => s.flow.nodes[id]?.connector?.id)
  const usual = wallets.find((one) => one.isDefault)
  const used = wallets.find((one) => one.id === chosen) ?? (chosen ? undefined : usual)
  return (
    <Choice
      id={id}
      label={said.wallet}
      none={said.defaultWallet(usual?.name)}
      rows={wallets.map(({ id, name }) => ({ id, name, type: 'wallet' }))}
      make={wallets.length ? pages.wallets.create : said.makeWallet}
      form={(close, take) => <NewWallet close={close} made={(made) => take({ type: 'wallet', id: made })} />}
    >
      {used && <Link href={`/wallets/${used.id}`}>{said.openWallet}</Link>}
      {used && <ChangePolicy key={used.id} id={used.id} />}
    </Choice>
  )
}

/** Without leaving what is being built. */
function ChangePolicy({ id }: { id: string }) {
  const [isOpen, setIsOpen] = useState(false)
  const now = useQuery({
    queryKey: ['policy', id],
    queryFn: () => get('/v1/wallets/{id}/policy', { path: { id } }),
    enabled: isOpen,
  }).data
  return (
    <>
      <button type="button" className="link" onClick={() => setIsOpen(true)}>
        {policyWords.edit}
      </button>
      {isOpen && now && <PolicyForm now={now} close={() => setIsOpen(false)} />}
    </>
  )
}

type Named = { type: string; id: string }
type Props = {
  id: string
  label: string
  isRequired?: boolean
  none: string
  rows: Row[]
  make: string
  form: (close: () => void, take: (one: Named) => void) => ReactNode
  children?: ReactNode
}

function Choice({ id, label, isRequired = false, none, rows, make, form, children }: Props) {
  const value = useDocument((s) => s.flow.nodes[id]?.connector?.id ?? '')
  const [makes, setMakes] = useState(false)
  const take = (one?: Named) =>
    edit((flow) => patchNode(flow, id, { connector: one && { type: one.type, id: one.id } }))
  const isKnown = !value || rows.some((one) => one.id === value)
  return (
    <div>
      <NativeSelect
        label={label}
        value={value}
        withAsterisk={isRequired}
        data={[
          { value: '', label: none },
          ...(isKnown ? [] : [{ value, label: value }]),
          ...rows.map((one) => ({ value: one.id, label: one.name })),
        ]}
        onChange={(event) => take(rows.find((one) => one.id === event.currentTarget.value))}
      />
      <small className="quiet ownwallets">
        <button type="button" className="link" onClick={() => setMakes(true)}>
          {make}
        </button>
        {children}
      </small>
      {makes && form(() => setMakes(false), take)}
    </div>
  )
}
