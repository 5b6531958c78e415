/** The question before money moves: what the last simulation did, how old it is, and who gets what. */
import { useQueries } from '@tanstack/react-query'
import { type Effects, get } from '../api/client'
import { useRun } from '../api/queries'
import { LetOne } from '../approval/LetOne'
import { useRungs } from '../effects/store'
import { Why } from '../effects/Why'
import { amount, money, short } from '../model/amounts'
import { plainRefusal } from '../model/asked'
import { requestName } from '../model/outcomes'
import { Confirm } from '../parts/Confirm'
import { Time } from '../parts/Time'
import { words } from '../words'
import { pages } from '../words.pages'

const said = words.editor
type Props = { isOpen: boolean; close: () => void; go: () => Promise<unknown>; spends: boolean }

export function LiveDialog({ isOpen, close, go, spends }: Props) {
  const effects = useRungs((s) => s.rungs.simulate)
  return (
    <Confirm title={said.liveAsk} isOpen={isOpen} close={close} go={spends ? said.liveGo : said.liveGoPlain} act={go}>
      {effects ? <Simulated effects={effects} /> : <p className="fault">{said.liveNever}</p>}
      {isOpen && effects && <Asked effects={effects} />}
      {isOpen && effects && spends && (
        <details>
          <summary>{pages.why.title}</summary>
          <Why runId={effects.runId} isInside />
        </details>
      )}
      <p className="quiet">{said.liveOther}</p>
    </Confirm>
  )
}

/** That a person is asked, and why nobody could answer. */
function Asked({ effects }: { effects: Effects }) {
  const { transactions, signatures } = effects
  const asked = transactions.filter((one) => one.verdict?.outcome === 'ask')
  const wallets = [...new Set(asked.flatMap((one) => one.walletId ?? []))]
  const unanswered = useQueries({
    queries: wallets.map((id) => ({
      queryKey: ['policy', id],
      queryFn: () => get('/v1/wallets/{id}/policy', { path: { id } }),
    })),
    combine: (found) => [...new Set(found.flatMap((one) => one.data?.unanswered ?? []))],
  })
  if (!asked.length && !signatures.some((one) => one.verdict?.outcome === 'ask')) return null
  return (
    <>
      <p>{said.liveAsks}</p>
      {unanswered.map((why) => (
        <p key={why} className="banner">
          {plainRefusal(why)} <LetOne />
        </p>
      ))}
    </>
  )
}

function Simulated({ effects }: { effects: Effects }) {
  const at = useRun(effects.runId).data?.startedAt
  const nameOf = (address: string) => effects.names[address]?.name ?? short(address)
  return (
    <>
      {effects.passed === false && <p className="fault">{said.liveFailed}</p>}
      <p>
        {said.liveSimulated}{' '}
        <b>
          {said.liveAge} <Time at={at} />.
        </b>
      </p>
      {effects.transactions.length || effects.requests.length ? (
        <ul className="spends">
          {effects.transactions.map((tx) => (
            <li key={`${tx.path} ${tx.item}`}>
              <span>
                <b>{short(tx.about)}</b>
                {tx.movements.map((one, i) => (
                  <small key={i} title={one.counterparty}>
                    {one.kind === 'approve'
                      ? words.ladder.mayTake(nameOf(one.counterparty))
                      : `→ ${nameOf(one.counterparty)}`}
                  </small>
                ))}
              </span>
              <span className="num">
                {tx.movements.map((one, i) => (
                  <span key={i} title={one.amountFormatted ?? one.amount}>
                    {amount(one.amountFormatted ?? one.amount)} {one.symbol} <em>{money(one.usd)}</em>
                  </span>
                ))}
              </span>
            </li>
          ))}
          {effects.requests.map((one) => (
            <li key={`${one.path} ${one.attempt}`}>
              <b>{requestName(one.request, one.action)}</b>
              <span className="quiet">{words.outcomes.isSent}</span>
            </li>
          ))}
          {effects.totalFeesUsd && effects.transactions.length > 0 && (
            <li>
              <span>{said.liveTotal}</span>
              <span className="num">{money(effects.totalFeesUsd)}</span>
            </li>
          )}
        </ul>
      ) : (
        <p>{said.liveNothing}</p>
      )}
    </>
  )
}
