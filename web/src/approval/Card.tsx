/** What a person approves: the amount large, who gets it, why it asks, and what shaped it. Made to be used on a phone. */
import { useQuery } from '@tanstack/react-query'
import { type ReactNode, useState } from 'react'
import { Link } from 'wouter'
import { get, post, type Run, type Schemas } from '../api/client'
import { refresh, useEffects, useList, useMe, useRun } from '../api/queries'
import { isOutside, Said } from '../effects/Why'
import { amount, money, short } from '../model/amounts'
import { coinsOf, dollarsOf, fours, isSame, movementsOf, payeesOf, plainReason, type Spend, sum } from '../model/asked'
import { may } from '../model/rights'
import { Badge } from '../parts/Badges'
import { ago, Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { approving as said } from '../words.approval'
import { pages } from '../words.pages'
import '../style/approval.css'

export type Approval = Schemas['ApprovalDetail']
type Names = Schemas['EffectsAnswer']['names']

export const useSpends = (approval: { id: string; kind: string }) =>
  useQuery({
    queryKey: ['/v1/approvals', approval.id, 'spends'],
    queryFn: async () => (await get('/v1/approvals/{id}/spends', { path: { id: approval.id } })).items,
    enabled: approval.kind === 'spend',
  })

/** What the button repeats: dollars, else the coins of one asset. */
export function headline(spends: Spend[]): string {
  const usd = dollarsOf(spends)
  const coins = coinsOf(spends)
  return usd ? money(usd) : coins.length === 1 ? (coins[0] ?? '') : ''
}

export function Card({ approval, spends }: { approval: Approval; spends: Spend[] }) {
  const effects = useEffects(approval.runId)
  const names = effects.data?.names ?? {}
  const chains = [...new Set(spends.map((one) => one.chainId))]
  const chain = effects.data?.chains.find((one) => String(one.chainId) === String(chains[0]))?.name
  const usd = dollarsOf(spends)
  const coins = coinsOf(spends)
  const wallets = [...new Set(spends.map((one) => one.walletId))]
  const wallet = Object.values(names).find((one) => one.walletId === wallets[0])?.name
  const payees = payeesOf(spends)
  const isOpen = approval.status === 'pending'
  return (
    <>
      <p className="askwhat quiet">
        <span>{whatOf(spends, chains.length === 1 ? chain : undefined)}</span>
        {isOpen && <span>{leftOf(approval.expiresAt)}</span>}
      </p>
      <p className="askamount">{usd ? money(usd) : (coins[0] ?? spends[0]?.about)}</p>
      <p className="askcoins">
        <b>{(usd ? coins : coins.slice(1)).join(', ')}</b>{' '}
        <span className="quiet">{[wallet && said.from(wallet), feeOf(spends)].filter(Boolean).join(', ')}</span>
      </p>
      {!usd && coins.length > 0 && <p className="asknote">{said.noPrice}</p>}
      {!coins.length && spends.every((one) => one.isDecoded) && (
        <p className="quiet">{spends.some((one) => one.kind !== 'transaction') ? said.signature : said.nothing}</p>
      )}
      {payees.slice(0, MOST_PAYEES).map((one) => (
        <Payee key={one.address} {...one} names={names} isOnly={payees.length === 1} />
      ))}
      {payees.length > MOST_PAYEES && <p className="quiet">{said.more(payees.length - MOST_PAYEES)}</p>}
      {spends.some((one) => !one.isDecoded) && <p className="asknote">{said.notDecoded}</p>}
      <dl className="askfacts">
        <Reason spends={spends} wallet={wallet} />
        <From approval={approval} fields={['amount']} label={said.amountFrom} />
        <From approval={approval} fields={['recipient', 'calldata']} label={said.payeeFrom} />
        <Simulated approval={approval} spends={spends} />
      </dl>
    </>
  )
}

const MOST_PAYEES = 4

function whatOf(spends: Spend[], chain: string | undefined): string {
  const [first] = spends
  if (spends.length > 1) return said.several(spends.length)
  if (!first) return ''
  if (first.kind !== 'transaction') return said.sign
  if (first.method) return short(first.about)
  const moves = movementsOf(spends)
  if (moves.some((one) => one.kind === 'send')) return chain ? said.sendOn(chain) : said.send
  if (moves.length) return chain ? said.allowOn(chain) : said.allow
  return chain ? said.callOn(chain) : said.call
}

export function leftOf(until: string) {
  const minutes = Math.floor(((Date.parse(until) - Date.now()) / 60_000) * 1.01) // a day less a moment is a day
  if (minutes < 0) return said.over
  const [days, hours] = [Math.floor(minutes / 1440), Math.floor(minutes / 60)]
  return (
    <time dateTime={until} title={new Date(until).toLocaleString('en', { dateStyle: 'full', timeStyle: 'short' })}>
      {said.left(days > 1 ? `${days} days` : hours > 0 ? `${hours} h` : `${minutes} min`)}
    </time>
  )
}

function feeOf(spends: Spend[]): string {
  const fees = spends.map((one) => one.fee).filter((one) => one !== null)
  if (!fees.length) return spends.every((one) => one.kind !== 'transaction') ? said.feeFree : ''
  if (fees.every((one) => one.usd !== null)) return said.fee(money(sum(fees.map((one) => one.usd ?? '0'))))
  const [first] = fees
  return first?.amountFormatted ? said.fee(`${amount(first.amountFormatted)} ${first.symbol ?? ''}`) : ''
}

type PayeeProps = ReturnType<typeof payeesOf>[number] & { names: Names; isOnly: boolean }

function Payee({ address, moves, names, isOnly }: PayeeProps) {
  const known = names[address]
  const groups = fours(address)
  const isTaken = moves.every((one) => one.kind === 'approve')
  const what = coinsOf([{ movements: moves } as Spend]).join(', ')
  return (
    <div className="payee">
      {known && <strong dir="auto">{known.name}</strong>}
      {!isOnly || isTaken ? <span className="quiet">{isTaken ? said.mayTake(what) : said.gets(what)}</span> : null}
      <History address={address} asset={moves[0]?.asset} known={known} />
      {/* read out and copied as one */}
      <code className="fours" title={address}>
        <span className="said">{address}</span>
        <span aria-hidden>
          0x
          {groups.map((four, at) => (
            <span key={`${at} ${four}`} className={at === 0 || at === groups.length - 1 ? 'end' : ''}>
              {four}
            </span>
          ))}
        </span>
      </code>
    </div>
  )
}

type HistoryProps = { address: string; asset: string | undefined; known: Names[string] | undefined }

/** What was paid to it before; nothing for who may not read that. */
function History({ address, asset, known }: HistoryProps) {
  const me = useMe()
  const found = useQuery({
    queryKey: ['payee', address, asset],
    queryFn: () => get('/v1/ledger/payees/{address}', { path: { address }, query: { asset } }),
    enabled: may(me.data, 'transaction:read'),
  })
  if (known?.kind === 'wallet') return <span className="quiet">{said.isYours}</span>
  const { data } = found
  if (!data) return null
  if (data.count === 0)
    return known?.kind === 'contract' ? (
      <span className="quiet">{said.isContract}</span>
    ) : (
      <span className="isnew">{said.isNew}</span>
    )
  const coin = data.lastAmount ? `${amount(data.lastAmount)} ${data.lastSymbol ?? ''}`.trim() : ''
  return (
    <span className="quiet">
      {said.paid(data.count, ago(data.lastAt ?? '', Date.now()), data.lastUsd ? money(data.lastUsd) : coin)}
    </span>
  )
}

function Fact({ name, children }: { name: string; children: ReactNode }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd dir="auto">{children}</dd>
    </div>
  )
}

function Reason({ spends, wallet }: { spends: Spend[]; wallet: string | undefined }) {
  const reasons = [...new Set(spends.flatMap((one) => one.reasons))]
  const [first] = spends
  if (!reasons.length || !first) return null
  return (
    <Fact name={said.reason}>
      {reasons.map((one) => (
        <div key={one}>{plainReason(one)}</div>
      ))}
      {wallet && (
        <small>
          <Link href={`/wallets/${first.walletId}`}>{said.yourRule(wallet)}</Link>
        </small>
      )}
    </Fact>
  )
}

const SHOWN = 2

/** Where a field comes from: what is from outside first, and amber. */
function From({ approval, fields, label }: { approval: Approval; fields: string[]; label: string }) {
  const all = approval.sources.flatMap((one) => one.fields.filter((field) => fields.includes(field.field)))
  if (!all.length) return null
  const sources = [...new Map(all.flatMap((one) => one.sources).map((one) => [one.source, one])).values()]
  const elsewhere = sources
    .filter((one) => one.kind !== 'definition')
    .sort((one, other) => Number(isOutside(other)) - Number(isOutside(one)))
  return (
    <Fact name={label}>
      {elsewhere.slice(0, SHOWN).map((one) => (
        <div key={one.source}>
          <Said text={one.says} /> {isOutside(one) && <Badge tone="dust">{pages.why.outside}</Badge>}
        </div>
      ))}
      {elsewhere.length > SHOWN && <small>{said.more(elsewhere.length - SHOWN)}</small>}
      {!elsewhere.length && said.written}
    </Fact>
  )
}

/** Whether the newest simulation of the same version moved exactly this. */
function Simulated({ approval, spends }: { approval: Approval; spends: Spend[] }) {
  const run = useRun(approval.runId)
  const { workflowId = '', workflowVersion } = run.data ?? {}
  const found = useList('/v1/runs', { workflowId, mode: 'simulate' }, {}, workflowId !== '')
  const simulation = found.rows.find((one) => one.workflowVersion === workflowVersion && one.finishedAt)
  const effects = useEffects(simulation?.id)
  if (!run.data || !workflowId || found.isPending || approval.mode === 'simulate') return null
  if (!simulation)
    return (
      <Fact name={said.simulated}>
        <span className="isnew">{said.never}</span>
        <Simulate run={run.data} />
      </Fact>
    )
  const moved = effects.data?.transactions.filter((one) => one.path === approval.path).flatMap((one) => one.movements)
  return (
    <Fact name={said.simulated}>
      {moved &&
        (isSame(spends, moved) ? (
          <b className="isok">{said.exactly}</b>
        ) : (
          <span className="isnew">{said.differs}</span>
        ))}
      <small>
        <Time at={simulation.startedAt} />, <Link href={`/runs/${simulation.id}`}>{said.simulatedAt}</Link>
      </small>
      {moved && !isSame(spends, moved) && <Simulate run={run.data} />}
    </Fact>
  )
}

/** Rehearses the same run on the newest state; the list of runs tells when it is done. */
export function Simulate({ run }: { run: Run }) {
  const [error, setError] = useState<unknown>(null)
  const start = async () => {
    setError(null)
    try {
      const body = {
        payload: run.payload,
        version: run.workflowVersion,
        triggerNodeId: run.triggerNodeId,
        simulate: true,
      } as Schemas['RunBody']
      await post('/v1/workflows/{id}/run', { path: { id: run.workflowId } }, body)
      await refresh('/v1/runs')
    } catch (problem) {
      setError(problem)
    }
  }
  return (
    <>
      <Trouble error={error} />
      <button type="button" className="link" onClick={start}>
        {pages.approvals.simulate}
      </button>
    </>
  )
}
