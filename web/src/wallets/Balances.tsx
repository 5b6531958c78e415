/** What a wallet has, chain by chain, as the chains say it. */
import { Button } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { get } from '../api/client'
import { amount } from '../model/amounts'
import { Loading, Section } from '../parts/Section'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { pages } from '../words.pages'
import '../style/limits.css'

const said = pages.wallets

export function Balances({ id }: { id: string }) {
  const found = useQuery({
    queryKey: ['balances', id],
    queryFn: () => get('/v1/wallets/{id}/balances', { path: { id } }),
  })
  if (found.error) return <Trouble error={found.error} retry={() => found.refetch()} />
  if (!found.data) return <Loading />
  const { chains, at } = found.data
  const failures = chains.flatMap((chain) => chain.failures.map((one) => `${chain.name}: ${one.message}`))
  return (
    <Section
      title={said.balances}
      about={
        <>
          {said.asOf} <Time at={at} />
        </>
      }
      actions={
        <Button size="xs" variant="default" loading={found.isFetching} onClick={() => found.refetch()}>
          {said.refresh}
        </Button>
      }
    >
      {!chains.length && <p className="quiet body">{said.noBalances}</p>}
      {chains.map((chain) => (
        <div className="chain" key={chain.chainId}>
          <h3>{chain.name}</h3>
          <ul>
            {chain.balances.map((one) => (
              <li key={one.asset} title={`${one.amountFormatted} ${one.symbol}`}>
                <span className="quiet">{one.symbol}</span>
                <strong className="num">{amount(one.amountFormatted)}</strong>
              </li>
            ))}
          </ul>
        </div>
      ))}
      {failures.length > 0 && (
        <div className="trouble" role="alert">
          <div>
            <p>{said.incomplete}</p>
            {failures.map((text) => (
              <p key={text}>{text}</p>
            ))}
          </div>
        </div>
      )}
    </Section>
  )
}
