/** What a wallet has allowed others to take, and taking it back. */
import { Button } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { useLocation } from 'wouter'
import { get, post, type Schemas } from '../api/client'
import { amount, money, short } from '../model/amounts'
import { Badge } from '../parts/Badges'
import { Confirm } from '../parts/Confirm'
import { Copied, Section } from '../parts/Section'
import { Trouble } from '../parts/Trouble'
import { pages } from '../words.pages'

type Chain = Schemas['ChainAllowancesAnswer']
type Allowance = Schemas['AllowanceAnswer']
type Chosen = { chain: Chain; one: Allowance }
const said = pages.wallets

export function Allowances({ id, mayRevoke }: { id: string; mayRevoke: boolean }) {
  const [chosen, setChosen] = useState<Chosen | null>(null)
  const [, go] = useLocation()
  const found = useQuery({
    queryKey: ['allowances', id],
    queryFn: () => get('/v1/wallets/{id}/allowances', { path: { id } }),
  })
  if (found.error) return <Trouble error={found.error} retry={() => found.refetch()} />
  if (!found.data) return null
  const chains = found.data.chains.filter((chain) => chain.allowances.length > 0)
  const failures = found.data.chains.flatMap((chain) => chain.failures.map((one) => `${chain.name}: ${one.message}`))
  if (!chains.length && !failures.length) return null
  const revoke = async ({ chain, one }: Chosen) => {
    const body = { chainId: chain.chainId, token: one.token, spender: one.spender, unlimitedOnly: false }
    const run = await post('/v1/wallets/{id}/allowances/revoke', { path: { id } }, body)
    go(`/runs/${run.runId}`)
  }
  return (
    <Section title={said.allowances} about={said.allowancesAbout}>
      {chains.map((chain) => (
        <div className="chain" key={chain.chainId}>
          <h3>{chain.name}</h3>
          <ul>
            {chain.allowances.map((one) => (
              <li key={`${one.kind} ${one.token} ${one.spender}`}>
                <span>
                  {one.symbol ?? <Copied text={one.token} />} <span className="quiet">{said.allowedTo}</span>{' '}
                  {one.spenderName} <Copied text={one.spender} />
                </span>
                <span className="num">
                  {one.isUnlimited ? (
                    <Badge tone="dust">{said.unlimited}</Badge>
                  ) : (
                    amount(one.amountFormatted ?? short(one.amount))
                  )}{' '}
                  {one.worthUsd && <span className="quiet">{said.atRisk(money(one.worthUsd))}</span>}
                </span>
                {mayRevoke && (
                  <Button size="xs" variant="default" onClick={() => setChosen({ chain, one })}>
                    {said.revoke}
                  </Button>
                )}
              </li>
            ))}
          </ul>
        </div>
      ))}
      {failures.map((text) => (
        <p className="quiet" key={text}>
          {text}
        </p>
      ))}
      <Confirm
        title={said.revokeAsk}
        isOpen={chosen !== null}
        close={() => setChosen(null)}
        cancel={said.keep}
        go={said.revoke}
        act={async () => chosen && revoke(chosen)}
      >
        <p>{said.revokeAbout}</p>
      </Confirm>
    </Section>
  )
}
