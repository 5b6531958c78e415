/** One payment that nobody makes: what the policy says of it, and by which sentence. */
import { Button, Select, TextInput } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { type FormEvent, useState } from 'react'
import { get, post, type Schemas } from '../api/client'
import { toUnits } from '../inspector/units'
import { Workflows } from '../inspector/Workflows'
import { Trouble } from '../parts/Trouble'
import { tryWords as said } from '../words.policy'
import type { Policy } from './sentences'
import '../style/limits.css'

type Tried = Schemas['TriedPaymentAnswer']
type Coin = { value: string; label: string; decimals: number }

/** `policy`: one that is not saved; without it, the one in force. */
export function TryPayment({ id, policy = null }: { id: string; policy?: Policy | null }) {
  const chains = useQuery({ queryKey: ['/v1/chains'], queryFn: () => get('/v1/chains'), staleTime: 60_000 })
  const coins = coinsOf(chains.data ?? [])
  const [amount, setAmount] = useState('')
  const [asset, setAsset] = useState<string | null>(null)
  const [recipient, setRecipient] = useState('')
  const [workflow, setWorkflow] = useState<string[]>([])
  const [found, setFound] = useState<Tried | null>(null)
  const [error, setError] = useState<unknown>(null)
  const [busy, setBusy] = useState(false)
  const coin = coins.find((one) => one.value === asset) ?? coins[0]
  const units = coin ? toUnits(amount, coin.decimals) : null
  const ask = async (event: FormEvent) => {
    event.preventDefault()
    if (!coin || units === null) return
    setBusy(true)
    setError(null)
    setFound(null)
    try {
      const body = { asset: coin.value, amount: units, recipient, workflowId: workflow[0] ?? null, policy }
      setFound(await post('/v1/wallets/{id}/policy/try-payment', { path: { id } }, body))
    } catch (problem) {
      setError(problem)
    } finally {
      setBusy(false)
    }
  }
  const changed = () => setFound(null)
  return (
    <details className="foot tried">
      <summary>{said.title}</summary>
      <form onSubmit={ask} onChange={changed}>
        <TextInput
          label={said.amount}
          inputMode="decimal"
          value={amount}
          error={amount !== '' && units === null && said.noAmount}
          onChange={(event) => setAmount(event.currentTarget.value)}
        />
        <Select
          label={said.coin}
          data={coins}
          searchable
          allowDeselect={false}
          value={coin?.value ?? null}
          onChange={(value) => {
            setAsset(value)
            changed()
          }}
        />
        <TextInput
          className="wide"
          label={said.recipient}
          placeholder="0x…"
          classNames={{ input: 'mono' }}
          value={recipient}
          onChange={(event) => setRecipient(event.currentTarget.value)}
        />
        <div className="wide">
          <span className="quiet">{said.workflow}</span>
          <Workflows
            label={said.workflow}
            value={workflow}
            isMany={false}
            isRequired={false}
            onChange={(ids) => {
              setWorkflow(ids)
              changed()
            }}
          />
        </div>
        <Button type="submit" variant="default" loading={busy} disabled={units === null || recipient === ''}>
          {said.go}
        </Button>
      </form>
      <Trouble error={error} />
      {found && (
        <div role="status" className={`verdict ${found.outcome}`}>
          <strong>{said.outcome[found.outcome]}</strong>
          {found.outcome !== 'allowed' && <Reasons of={found.reasons} />}
          <p className="quiet">{said.nothingDone}</p>
        </div>
      )}
    </details>
  )
}

/** Why, and which sentence says so. */
export function Reasons({ of }: { of: Tried['reasons'] }) {
  if (!of.length) return null
  return (
    <ul className="reasons">
      {of.map((one) => (
        <li key={`${one.statement} ${one.message}`} dir="auto">
          {one.message} {one.sentence ? <q>{one.sentence}</q> : <span className="quiet">{said.noSentence}</span>}
        </li>
      ))}
    </ul>
  )
}

export const coinsOf = (chains: Schemas['ChainAnswer'][]): Coin[] =>
  chains.flatMap(({ chainId, name, native, tokens }) => [
    { value: `eip155:${chainId}/native`, label: `${native.symbol} on ${name}`, decimals: native.decimals },
    ...tokens.map((one) => ({
      value: `eip155:${chainId}/erc20:${one.address}`,
      label: `${one.symbol} on ${name}`,
      decimals: one.decimals,
    })),
  ])
