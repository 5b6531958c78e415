/** The first page: what ran, failed and was paid since the reader left, what waits for them, and what comes next. */
import { Button, SegmentedControl } from '@mantine/core'
import { IconAlertCircle, IconAlertTriangle, IconPlus, IconSend } from '@tabler/icons-react'
import { useQuery } from '@tanstack/react-query'
import { type ReactNode, useMemo } from 'react'
import { Link } from 'wouter'
import { type Data, get, type RunItem } from '../api/client'
import { useList, useMe } from '../api/queries'
import { headline, useSpends } from '../approval/Card'
import { useWaiting } from '../approval/queue'
import { money, short } from '../model/amounts'
import { briefOf, coinsOf } from '../model/asked'
import { may } from '../model/rights'
import { SPANS, type Span, sinceOf, stripsOf } from '../model/since'
import { ModeBadge, RunStatus } from '../parts/Badges'
import { useFilters } from '../parts/filters'
import { Page } from '../parts/Page'
import { Section } from '../parts/Section'
import { ago, Time } from '../parts/Time'
import { Trouble } from '../parts/Trouble'
import { FirstVisit } from '../templates/FirstVisit'
import { words } from '../words'
import { home as said } from '../words.home'
import { useCreate } from '../workflows/create'
import { leftAt } from './left'
import { Room } from './Room'
import '../style/home.css'

type Overview = Data<'/v1/overview', 'get'>
type Attention = Overview['attention'][number]
const FAILURES = 4
const QUESTIONS = 5
const BARS = 40
const STARTED = 5

export default function Home() {
  const { get: chosen, set } = useFilters()
  const span = (SPANS.find((one) => one === chosen('since')) ?? 'left') as Span
  const since = useMemo(() => sinceOf(span, new Date(), leftAt()).toISOString(), [span])
  const me = useMe().data
  const found = useQuery({
    queryKey: ['/v1/runs', 'overview', since],
    queryFn: () => get('/v1/overview', { query: { since } }),
    enabled: may(me, 'run:read'),
  })
  const workflows = useList('/v1/workflows', {}, {}, may(me, 'workflow:read'))
  const runs = useList('/v1/runs', { since, mode: 'live' }, {}, may(me, 'run:read'))
  const failed = useList('/v1/runs', { since, mode: 'live', status: 'failure,partial' }, {}, may(me, 'run:read'))
  const { create, error } = useCreate()
  const waiting = useWaiting().mine.length
  const isNew = workflows.isSuccess && workflows.rows.length === 0
  const isQuiet = found.data?.runs.total === 0 && found.data.attention.length === 0
  return (
    <Page
      title={said.title}
      className="home"
      name={
        <>
          <h1>{isNew ? said.title : said.away}</h1>
          <span className="quiet wide">
            {!isNew &&
              said.sinceWhen(new Date(since).toLocaleString('en', { dateStyle: 'medium', timeStyle: 'short' }))}
          </span>
        </>
      }
      actions={
        <>
          {!isNew && (
            <SegmentedControl
              size="xs"
              aria-label={said.since}
              data={SPANS.map((value) => ({ value, label: said.spans[value] }))}
              value={span}
              onChange={(value) => set('since', value === 'left' ? null : value)}
            />
          )}
          {may(me, 'workflow:create') && (
            <Button
              variant={isNew ? 'filled' : 'default'}
              leftSection={<IconPlus size={16} />}
              onClick={create}
              className={isNew ? '' : 'wide'}
            >
              {words.workflows.create}
            </Button>
          )}
        </>
      }
    >
      <Trouble error={error ?? found.error} retry={() => found.refetch()} />
      {isNew ? (
        <Beginning />
      ) : (
        <>
          <Figures of={found.data} since={since} />
          {isQuiet && waiting === 0 && <p className="quiet calm">{said.calm}</p>}
          <div className="homecolumns">
            <div>
              <Needs failed={failed.rows.slice(0, FAILURES)} attention={found.data?.attention ?? []} />
              <Started />
              {runs.rows.length > 0 && (
                <Ran runs={runs.rows} total={found.data?.runs.total ?? 0} since={since} hasMore={runs.hasNextPage} />
              )}
            </div>
            <div>
              {found.data?.next && found.data.next.length > 0 && <Next of={found.data.next} />}
              {may(me, 'wallet:read') && <Room />}
            </div>
          </div>
        </>
      )}
      {workflows.isSuccess && <FirstVisit count={workflows.rows.length} />}
    </Page>
  )
}

function Beginning() {
  return (
    <section className="beginning">
      <h2>{said.what}</h2>
      <ol>
        {said.first.map((one) => (
          <li key={one}>{one}</li>
        ))}
      </ol>
    </section>
  )
}

type FigureProps = { name: string; value: ReactNode; about: ReactNode; href: string; tone?: string | undefined }

const Figure = ({ name, value, about, href, tone }: FigureProps) => (
  <Link href={href} className="figure">
    <span className={tone ? `toned ${tone}` : ''}>{name}</span>
    <b>{value}</b>
    <small>{about}</small>
  </Link>
)

/** What a key may not see is left out; before the answer there are the same boxes, empty. */
function Figures({ of, since }: { of: Overview | undefined; since: string }) {
  const { mine, count, others } = useWaiting()
  const me = useMe().data
  if (!may(me, 'run:read')) return null
  const oldest = mine.at(-1)
  const about = [
    oldest ? said.oldest(ago(oldest.createdAt, Date.now())) : others === 0 && said.nothingWaits,
    others > 0 && said.forOthers(others),
  ]
  const runsSince = (more: string) => `/runs?mode=live&since=${encodeURIComponent(since)}${more}`
  const { runs, moved, next } = of ?? {}
  return (
    <nav className="figures" aria-label={said.figures}>
      <Figure
        name={said.waiting}
        value={count}
        about={about.filter(Boolean).join(', ')}
        href="/approvals"
        tone={mine.length ? 'dust' : undefined}
      />
      <Figure
        name={said.failed}
        value={runs?.failure ?? '–'}
        about={runs?.partial ? said.partly(runs.partial) : runs?.failure === 0 ? said.noneFailed : ''}
        href={runsSince('&status=failure')}
        tone={runs?.failure ? 'bad' : undefined}
      />
      <Figure
        name={said.ran}
        value={runs?.total ?? '–'}
        about={runs && (runs.total ? said.done(runs.success) : said.noneRan)}
        href={runsSince('')}
        tone={runs?.success ? 'ok' : undefined}
      />
      {moved !== null && (
        <Figure
          name={moved?.isPartial ? `${said.sent}, ${said.atLeast}` : said.sent}
          value={moved ? money(moved.usd) : '–'}
          about={moved && (moved.unpriced ? said.unpriced(moved.unpriced) : said.fees(money(moved.feesUsd)))}
          href="/wallets"
        />
      )}
      {next !== null && (
        <Figure
          name={said.next}
          value={next ? next[0] ? <Time at={next[0].at} /> : '–' : '–'}
          about={next && (next[0] ? `${next[0].workflowName}, ${clock(next[0].at)}` : said.noneNext)}
          href="/triggers"
        />
      )}
    </nav>
  )
}

const clock = (at: string) => new Date(at).toLocaleTimeString('en-GB', { hour: '2-digit', minute: '2-digit' })

/** Questions, what does not mend itself, and failures, each with the one thing to do. */
function Needs({ failed, attention }: { failed: RunItem[]; attention: Attention[] }) {
  const waiting = useWaiting().mine.slice(0, QUESTIONS)
  if (!waiting.length && !failed.length && !attention.length) return null
  return (
    <Section title={said.needs}>
      <ul className="needs">
        {waiting.map((one) => (
          <Question key={one.id} one={one} />
        ))}
        {attention.map((one) => (
          <Attended key={`${one.kind} ${one.id} ${one.since}`} one={one} />
        ))}
        {failed.map((run) => (
          <li key={run.id}>
            <i className="glyph failed" aria-hidden>
              <IconAlertCircle size={17} />
            </i>
            <div>
              <strong dir="auto">{run.workflowName || words.runs.unsaved}</strong>
              <span className="quiet" dir="auto">
                {words.runStatus[run.status]} · <Time at={run.startedAt} />
                {errorOf(run) && ` · ${errorOf(run)}`}
              </span>
            </div>
            <Button component={Link} href={`/runs/${run.id}`} variant="default" size="xs">
              {said.mend}
            </Button>
          </li>
        ))}
      </ul>
    </Section>
  )
}

/** Where each is looked into, by the first word of its kind; a full disk has no page. */
const PLACES: Record<string, (one: Attention) => string> = {
  payment: ({ id, walletId }) => (id ? `/runs/${id}` : `/wallets/${walletId}`),
  trigger: ({ id }) => `/triggers?workflow=${id}`,
  connector: ({ id }) => `/connectors/${id}`,
  hook: ({ id }) => `/hooks/${id}`,
}

function Attended({ one }: { one: Attention }) {
  const place = PLACES[one.kind.split('-')[0] ?? '']
  return (
    <li>
      <i className="glyph failed" aria-hidden>
        <IconAlertTriangle size={17} />
      </i>
      <div>
        <strong dir="auto">
          {said.attention[one.kind]}
          {one.name && `: ${one.name}`}
        </strong>
        <span className="quiet" dir="auto" title={one.message}>
          <Time at={one.since} /> · {short(one.message)}
        </span>
      </div>
      {place && (
        <Button component={Link} href={place(one)} variant="default" size="xs">
          {said.mend}
        </Button>
      )}
    </li>
  )
}

const errorOf = (run: RunItem) => (run.error && 'message' in run.error ? short(String(run.error.message)) : '')

function Question({ one }: { one: ReturnType<typeof useWaiting>['mine'][number] }) {
  const spends = useSpends(one).data ?? []
  const worth = headline(spends)
  const coins = coinsOf(spends).join(', ')
  return (
    <li>
      <i className={`glyph ${one.kind}`} aria-hidden>
        <IconSend size={17} />
      </i>
      <div>
        <strong dir="auto">{one.workflowName || words.runs.unsaved}</strong>
        <span className="quiet" dir="auto">
          {briefOf(one.message || one.path)}
        </span>
      </div>
      {worth && (
        <span className="worthof num">
          <b>{worth}</b>
          {coins !== worth && <small>{coins}</small>}
        </span>
      )}
      <Button component={Link} href={`/approvals/${one.id}`} variant="default" size="xs">
        {said.review}
      </Button>
    </li>
  )
}

/** The reader's newest runs, of any mode: by hand, and with keys of theirs. */
function Started() {
  const me = useMe().data
  const asked = { startedBy: 'me', actionTests: false }
  const mine = useList('/v1/runs', asked, {}, may(me, 'run:read')).rows.slice(0, STARTED)
  if (!mine.length) return null
  return (
    <Section
      title={said.mine}
      actions={
        <Link className="link" href="/runs?by=me">
          {said.mineAll}
        </Link>
      }
    >
      <ul className="nexts">
        {mine.map((run) => (
          <li key={run.id}>
            <Link href={`/runs/${run.id}`} dir="auto">
              {run.workflowName || words.runs.unsaved}
            </Link>
            <ModeBadge mode={run.mode} />
            <RunStatus status={run.status} />
            <span className="quiet">
              <Time at={run.startedAt} />
            </span>
          </li>
        ))}
      </ul>
    </Section>
  )
}

type RanProps = { runs: RunItem[]; total: number; since: string; hasMore: boolean }

function Ran({ runs, total, since, hasMore }: RanProps) {
  const strips = stripsOf(runs)
  return (
    <Section
      title={said.ran}
      about={hasMore && said.newest(runs.length)}
      actions={
        <Link className="link" href={`/runs?mode=live&since=${encodeURIComponent(since)}`}>
          {said.allRuns(total)}
        </Link>
      }
    >
      <ul className="strips">
        {strips.map((one) => (
          <li key={one.workflowId}>
            {one.workflowId ? (
              <Link href={`/runs?workflow=${one.workflowId}&mode=live`} dir="auto">
                {one.name}
              </Link>
            ) : (
              <span>{words.runs.unsaved}</span>
            )}
            <span className="bars" role="img" aria-label={tell(one.runs)} title={tell(one.runs)}>
              {one.runs.slice(-BARS).map((run) => (
                <i key={run.id} className={run.status} />
              ))}
            </span>
            <span className="quiet">
              <Time at={one.runs.at(-1)?.startedAt ?? null} />
            </span>
          </li>
        ))}
      </ul>
    </Section>
  )
}

/** `3 Done, 1 Failed`. */
function tell(runs: { status: string }[]) {
  const counts = new Map<string, number>()
  for (const { status } of runs) counts.set(status, (counts.get(status) ?? 0) + 1)
  return [...counts].map(([status, n]) => `${n} ${words.runStatus[status] ?? status}`).join(', ')
}

const Next = ({ of }: { of: NonNullable<Overview['next']> }) => (
  <Section title={said.next}>
    <ul className="nexts">
      {of.map((one) => (
        <li key={`${one.workflowId} ${one.at}`}>
          <Link href={`/workflows/${one.workflowId}`} dir="auto">
            {one.workflowName}
          </Link>
          <span className="quiet">
            <Time at={one.at} />
          </span>
          <span className="num">{clock(one.at)}</span>
        </li>
      ))}
    </ul>
  </Section>
)
