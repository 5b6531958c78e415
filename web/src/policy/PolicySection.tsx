/** What a wallet may do, in sentences; what will change and has changed. */
import { Button } from '@mantine/core'
import { useQuery } from '@tanstack/react-query'
import { useState } from 'react'
import { useSearchParams } from 'wouter'
import { get } from '../api/client'
import { useList } from '../api/queries'
import { LetOne } from '../approval/LetOne'
import { plainRefusal, sentenceOf } from '../model/asked'
import { Badge } from '../parts/Badges'
import { Loading, Section } from '../parts/Section'
import { Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { policyWords as said } from '../words.policy'
import { Diff } from './Diff'
import { PolicyForm } from './PolicyForm'
import { changesOf, linesOf, type Policy, useTold } from './sentences'
import { TryPayment } from './TryPayment'

export function PolicySection({ id }: { id: string }) {
  const found = useQuery({
    queryKey: ['policy', id],
    queryFn: () => get('/v1/wallets/{id}/policy', { path: { id } }),
  })
  const [edits, setEdits] = useState(false)
  const asked = useSearchParams()[0].get('says')
  const told = useTold(found.data?.policy as Policy | undefined)
  const next = useTold(found.data?.pending?.policy as Policy | undefined)
  const failed = [found, told, next].find((one) => one.error)
  if (failed) return <Trouble error={failed.error} retry={() => failed.refetch()} />
  if (!found.data || !told.data) return <Loading />
  const { pending, version, unanswered } = found.data
  const policy = found.data.policy as Policy
  const sentences = linesOf(told.data)
  const meant = asked && sentenceOf(told.data.statements, asked)
  return (
    <Section
      title={said.title}
      at="policy"
      about={said.about(version)}
      actions={
        <Button size="xs" variant="default" onClick={() => setEdits(true)}>
          {said.edit}
        </Button>
      }
    >
      {policy.chains.length ? (
        <ul className="sentences">
          {sentences.map((text) => (
            <li key={text} dir="auto" aria-current={text === meant || undefined}>
              {text}
            </li>
          ))}
        </ul>
      ) : (
        <p className="quiet body">{said.nothing}</p>
      )}
      {asked && !meant && policy.chains.length > 0 && <p className="banner">{said.unsaid}</p>}
      {unanswered && (
        <p className="banner">
          {plainRefusal(unanswered)} <LetOne />
        </p>
      )}
      {pending && (
        <div className="pending">
          <p>
            <strong>{said.pending}</strong> <Time at={pending.effectiveAt} />.{' '}
            <span className="quiet">{said.pendingAbout}</span>
          </p>
          {next.data ? <Diff changes={changesOf(sentences, linesOf(next.data))} /> : <Loading />}
        </div>
      )}
      <TryPayment id={id} />
      <History id={id} />
      {edits && <PolicyForm now={found.data} close={() => setEdits(false)} />}
    </Section>
  )
}

function History({ id }: { id: string }) {
  const [isOpen, setIsOpen] = useState(false)
  return (
    <details className="foot" onToggle={(event) => setIsOpen(event.currentTarget.open)}>
      <summary>{said.history}</summary>
      {isOpen && <Versions id={id} />}
    </details>
  )
}

function Versions({ id }: { id: string }) {
  const found = useList('/v1/wallets/{id}/policy/history', {}, { id })
  return (
    <ul className="versions">
      {found.rows.map((one) => (
        <li key={one.version}>
          <span className="chip">v{one.version}</span>
          <Badge tone={one.isLooser ? 'dust' : 'ok'}>{one.isLooser ? said.looser : said.stricter}</Badge>
          {one.cancelledAt && <Badge>{said.neverEffective}</Badge>}
          <Time at={one.createdAt} />
          <code className="quiet">{one.createdBy}</code>
        </li>
      ))}
    </ul>
  )
}
